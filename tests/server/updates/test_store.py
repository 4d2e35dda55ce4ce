"""The store: what is current, what was before, what is removed and what is not."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from rlu_attestation.errors import RluError
from rlu_server.settings import Settings
from rlu_server.supervisor import rollout
from rlu_server.supervisor.errors import Unavailable
from rlu_server.updates import store as stores
from rlu_server.updates.errors import Misconfigured, NotPossible
from rlu_server.updates.store import Entry, State, Store, serving

A, B, C, D = (f"00000{number}-{'0' * 15}{number}" for number in range(1, 5))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store")
    for version in (A, B, C, D):
        made.directory(version).mkdir(parents=True)
        (made.directory(version) / "config.json").touch()
    return made


def served(*versions: str) -> State:
    return State(history=[Entry(number, version, "applied") for number, version in enumerate(versions)])


def test_what_is_current(store: Store) -> None:
    assert store.current() is None
    store.switch(A)
    assert store.current() == A
    assert os.readlink(store.root / "current") == f"versions/{A}"
    store.switch(B)
    assert store.current() == B
    assert sorted(path.name for path in store.root.iterdir()) == ["current", "versions"]


@pytest.mark.parametrize(
    "target", ["/etc", "versions", f"other/{A}", "versions/x", f"versions/{A}/..", f"versions/../{A}"]
)
def test_links_of_others_are_no_version(store: Store, target: str) -> None:
    (store.root / "current").symlink_to(target)
    assert store.current() is None


def test_what_was_before() -> None:
    there = frozenset({A, B, C, D})
    assert served().before(None, there) is None
    assert served(A).before(A, there) is None
    assert served(A, B).before(B, there) == A
    assert served(A, B, A).before(A, there) is None, "what was rolled back from is not gone back to"
    assert served(A, B, C, B).before(B, there) == A
    assert served(A, B, C).before(C, there - {B}) == A
    assert served(A, B).before(D, there) == B, "whoever moved the link"


def test_what_is_removed(store: Store) -> None:
    store.switch(C)
    store.prune(1, served(A, B, C))
    assert store.versions() == {B, C, D}, "D waits"
    store.prune(0, served(A, B, C))
    assert store.versions() == {C, D}
    store.drop_waiting(served(A, B, C), but=D)
    assert store.versions() == {C, D}
    store.drop_waiting(served(A, B, C), but=C)
    assert store.versions() == {C}


def test_what_a_server_serves_is_not_removed(store: Store) -> None:
    store.switch(C)
    with serving(store.directory(A)), serving(store.directory(A)):
        store.prune(0, served(A, B, C))
    assert store.versions() == {A, C, D}
    with serving(store.directory(D)):
        store.drop_waiting(served(A, B, C), but=C)
        assert D in store.versions()
    store.drop_waiting(served(A, B, C), but=C)
    assert D not in store.versions()


def test_nobody_gets_hold_of_what_is_being_removed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.switch(C)
    hide = Store._out_of_sight
    tried = []

    def meanwhile(self: Store, version: str) -> Path:
        handle = os.open(self.directory(version), os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        finally:
            os.close(handle)
        tried.append(version)
        return hide(self, version)

    monkeypatch.setattr(Store, "_out_of_sight", meanwhile)
    store.prune(0, served(A, C))
    assert tried == [A]
    # Whoever had opened it before, and waited for the lock, is told.
    monkeypatch.setattr(Store, "_out_of_sight", hide)
    opened = stores._opened

    def just_before(directory: Path) -> int:
        handle = opened(directory)
        store.remove(directory.name)
        return handle

    monkeypatch.setattr(stores, "_opened", just_before)
    with pytest.raises(FileNotFoundError), serving(store.directory(B)):
        pytest.fail("it is gone")


def test_the_version_that_a_server_begins_with(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.model_validate({"model": {"path": str(store.root / "current"), "name": "m"}})
    store.switch(A)
    with contextlib.ExitStack() as held:
        assert rollout.pinned(settings, held).model.path == str(store.directory(A))
        store.switch(C)
        store.prune(0, served(A, C))
        assert A in store.versions()
    store.prune(0, served(A, C))
    assert A not in store.versions()

    # One that is removed in that very moment gives way to the one that came after it.
    take = rollout.serving

    def late(directory: Path) -> Any:
        monkeypatch.setattr(rollout, "serving", take)
        store.switch(B)
        store.prune(0, served(C, B))
        return take(directory)

    monkeypatch.setattr(rollout, "serving", late)
    with contextlib.ExitStack() as held:
        assert rollout.pinned(settings, held).model.path == str(store.directory(B))
    # Without a version there is nothing to hold, and what is wrong is told where models are looked at.
    store.remove(B)
    with contextlib.ExitStack() as held:
        assert rollout.pinned(settings, held) is settings
    (store.root / "current").unlink()
    (store.root / "current").symlink_to("state.json")
    (store.root / "state.json").touch()
    with contextlib.ExitStack() as held, pytest.raises(Unavailable, match="cannot be kept"):
        rollout.pinned(settings, held)


def test_history_has_an_end() -> None:
    state = State()
    for number in range(300):
        state = state.switched(Entry(number, A, "applied"), None)
    assert [state.history[0].time, state.history[-1].time, len(state.history)] == [200, 299, 100]


def test_state_is_kept_and_damage_is_told(store: Store) -> None:
    assert store.state() == State()
    state = served(A)
    store.write_state(state)
    assert store.state() == state
    for damage in (b"", b"[]", b'{"unknown":1}', b" " * (1 << 21)):
        (store.root / "state.json").write_bytes(damage)
        with pytest.raises(Misconfigured) as caught:
            store.state()
        assert caught.value.code == "update.state"


def test_one_at_a_time(store: Store) -> None:
    with store.locked():
        with pytest.raises(NotPossible) as caught, store.locked():
            pytest.fail("both have it")
        assert (caught.value.code, caught.value.exit_code) == ("update.busy", 3)
    with store.locked():
        pass
    assert issubclass(NotPossible, RluError)
