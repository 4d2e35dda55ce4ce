"""The store: what is current, what was before, what is removed and what is not."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlu_attestation.errors import RluError
from rlu_server.supervisor import rollout
from rlu_server.updates.errors import Misconfigured, NotPossible
from rlu_server.updates.store import Entry, State, Store, serving
from waiting import until

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


async def test_what_a_server_serves_is_not_removed(store: Store) -> None:
    store.switch(C)
    with serving(store.directory(A)), serving(store.directory(A)):
        store.prune(0, served(A, B, C))
    assert store.versions() == {A, C, D}
    # The engine's container holds its version for as long as it runs.
    settings = SimpleNamespace(model=SimpleNamespace(path=str(store.directory(D))))
    server: Any = SimpleNamespace(deployment=SimpleNamespace(settings=settings))
    holding = asyncio.create_task(rollout.hold(server))
    await until(lambda: store._in_use(D))
    store.drop_waiting(served(A, B, C), but=C)
    assert D in store.versions()
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)
    store.drop_waiting(served(A, B, C), but=C)
    assert D not in store.versions()


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
