"""Whole updates from a directory: applied, held, rolled back, refused. What is refused changes nothing."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fakes import model_vendor
from rlu_attestation.errors import Malformed, RluError, Untrusted
from rlu_server.models import ManifestError, measure
from rlu_server.models.errors import SignatureRefused
from rlu_server.outreach.http import Unreachable
from rlu_server.updates import store as stores
from rlu_server.updates.errors import Misconfigured, NotPossible, UpdateRefused
from rlu_server.updates.job import Outcome
from rlu_server.updates.store import Store


def refused(work: Any, kind: type[RluError], code: str, exit_code: int) -> str:
    with pytest.raises(kind) as caught:
        work()
    assert (caught.value.code, caught.value.exit_code) == (code, exit_code)
    return caught.value.message


def test_the_first_model(site: Any) -> None:
    offered = site.offer(1)
    done = site.job().update()
    assert done.result == "applied"
    assert done.version.startswith("000001-")
    assert site.served() == measure(offered).sha256
    assert (site.store.root / "current" / "model.sig").exists()
    assert site.rolled == [done.version]
    state = site.store.state()
    assert [(one.version, one.result) for one in state.history] == [(done.version, "applied")]
    assert (state.attempt.result, state.attempt.version) == ("applied", done.version)
    assert not any((site.store.root / "staging").iterdir())


def test_the_same_again_is_current_and_nothing_is_written(site: Any) -> None:
    site.offer(1)
    first = site.job().update()
    before = {path: path.stat().st_ctime_ns for path in (site.store.root / "versions").rglob("*")}
    assert site.job().update() == Outcome("current", first.version)
    assert {path: path.stat().st_ctime_ns for path in (site.store.root / "versions").rglob("*")} == before
    assert site.rolled == [first.version] * 2, "a rollout that failed is tried again"


def test_signed_again_is_the_same_model(site: Any) -> None:
    offered = site.offer(1)
    first = site.job().update()
    model_vendor.sign(offered)
    assert site.job().update() == Outcome("current", first.version)


def test_a_newer_one_and_back(site: Any) -> None:
    one, two = site.offer(1), site.offer(2, b"others")
    site.offer(1)
    first = site.job().update()
    site.offer(2, b"others")
    second = site.job().update()
    assert site.served() == measure(two).sha256
    assert site.job().rollback(None) == Outcome("rolled_back", first.version)
    assert site.served() == measure(one).sha256
    # What was rolled back stays back until somebody says otherwise.
    assert site.job().update() == Outcome("held", second.version)
    assert site.served() == measure(one).sha256
    refused(lambda: site.job().rollback(None), NotPossible, "update.no_previous", 3)
    assert site.job().apply(second.version) == Outcome("applied", second.version)
    assert site.served() == measure(two).sha256


def test_after_a_rollback_a_newer_release_comes(site: Any) -> None:
    for number in (1, 2):
        site.offer(number, b"w%d" % number)
        site.job().update()
    site.job().rollback(None)
    three = site.offer(3, b"w3")
    assert site.job().update().result == "applied"
    assert site.served() == measure(three).sha256


def test_fetched_and_applied_apart(site: Any) -> None:
    site.offer(1)
    site.job().update()
    before = site.served()
    two = site.offer(2, b"others")
    fetched = site.job().fetch()
    assert fetched.result == "fetched"
    assert site.served() == before
    assert site.job().fetch() == fetched, "nothing is fetched twice"
    assert site.job().apply(None) == Outcome("applied", fetched.version)
    assert site.served() == measure(two).sha256
    refused(lambda: site.job().apply(None), NotPossible, "update.nothing_fetched", 3)
    assert site.job().apply(fetched.version) == Outcome("current", fetched.version)


def test_one_that_waits_gives_way_to_a_newer_one(site: Any) -> None:
    site.offer(1)
    first = site.job().update()
    for number in (2, 3):
        site.offer(number, b"w%d" % number)
        fetched = site.job().fetch()
    assert site.store.versions() == {first.version, fetched.version}


def test_check_writes_nothing(site: Any) -> None:
    site.offer(1)
    offer = site.job().check()
    assert (offer.relation, offer.candidate.release) == ("wanted", 1)
    assert not site.store.root.exists()


DOWNGRADES = {
    "older": (1, b"old", "update.downgrade"),
    "another of the same number": (2, b"forged", "update.downgrade"),
    "without a number": (None, b"old", "update.no_release"),
}


@pytest.mark.parametrize("name", DOWNGRADES)
def test_no_way_back_by_an_update(name: str, site: Any) -> None:
    number, weights, code = DOWNGRADES[name]
    site.offer(2, b"others")
    site.job().update()
    before = site.served()
    older = site.offer(number, weights)
    refused(lambda: site.job().update(), UpdateRefused, code, 10)
    refused(lambda: site.job().check(), UpdateRefused, code, 10)
    assert site.served() == before
    assert site.store.state().attempt.code == code
    assert site.job(allow_downgrade=True).update().result == "applied"
    assert site.served() == measure(older).sha256
    site.offer(3, b"newest")
    assert site.job().update().result == "applied"


def test_an_older_one_that_lies_here_is_not_applied_either(site: Any) -> None:
    site.offer(2, b"others")
    site.job().update()
    site.offer(1)
    fetched = site.job(allow_downgrade=True).fetch()
    refused(lambda: site.job().apply(fetched.version), UpdateRefused, "update.downgrade", 10)
    assert site.job(allow_downgrade=True).apply(fetched.version).result == "applied"


def test_the_guard_outlives_a_downgrade(site: Any) -> None:
    for number, weights in ((5, b"five"), (3, b"three")):
        site.offer(number, weights)
        site.job(allow_downgrade=True).update()
    site.offer(4, b"four")
    refused(lambda: site.job().update(), UpdateRefused, "update.downgrade", 10)


def unsigned(model: Path) -> None:
    (model / "model.sig").unlink()


def altered(model: Path) -> None:
    data = bytearray((model / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (model / "model.safetensors").write_bytes(data)


def by_another(model: Path) -> None:
    model_vendor.sign(model, ec.generate_private_key(ec.SECP256R1()))


def no_signature(model: Path) -> None:
    (model / "model.sig").write_bytes(b"{}")


def number_changed(model: Path) -> None:
    (model / "rlu-release.json").write_bytes(b'{"release":9}')


def number_malformed(model: Path) -> None:
    (model / "rlu-release.json").write_bytes(b'{"release":"9"}')
    model_vendor.sign(model)


def number_too_long(model: Path) -> None:
    (model / "rlu-release.json").write_bytes(b" " * 5000 + b'{"release":9}')
    model_vendor.sign(model)


def a_file_less(model: Path) -> None:
    (model / "config.json").unlink()


def shorter(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"")


def longer(model: Path) -> None:
    with (model / "config.json").open("ab") as file:
        file.write(b" ")


BAD = {
    "not signed": (unsigned, NotPossible, "update.absent", 3),
    "altered": (altered, UpdateRefused, "update.tampered", 10),
    "signed by another": (by_another, Untrusted, "model.signature.unknown_signer", 10),
    "no signature": (no_signature, Malformed, "model.signature.encoding", 30),
    "another number": (number_changed, UpdateRefused, "update.tampered", 10),
    "a number that is none": (number_malformed, Malformed, "model.release", 30),
    "a number in a long file": (number_too_long, UpdateRefused, "update.too_long", 10),
    "a file is missing": (a_file_less, NotPossible, "update.absent", 3),
    "cut short": (shorter, UpdateRefused, "update.tampered", 10),
    "with more at its end": (longer, UpdateRefused, "update.tampered", 10),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("first", [True, False])
def test_what_is_refused_changes_nothing(name: str, first: bool, site: Any) -> None:
    spoil, kind, code, exit_code = BAD[name]
    if not first:
        site.offer(1)
        site.job().update()
    before, versions, rolled = site.served(), site.store.versions(), list(site.rolled)
    spoil(site.offer(2, b"others"))
    refused(lambda: site.job().update(), kind, code, exit_code)
    assert (site.served(), site.store.versions(), site.rolled) == (before, versions, rolled)
    attempt = site.store.state().attempt
    assert (attempt.result, attempt.code) == ("failed", code)


def test_a_number_that_was_not_signed_is_not_believed(site: Any) -> None:
    """Not even for a look: an older model does not pass for a newer one."""
    site.offer(5, b"five")
    site.job().update()
    number_changed(site.offer(3, b"three"))
    refused(lambda: site.job().check(), UpdateRefused, "update.tampered", 10)
    refused(lambda: site.job().update(), UpdateRefused, "update.tampered", 10)
    assert not any((site.store.root / "staging").iterdir()), "nothing of it was fetched"


def test_signed_pickles_are_refused_before_they_are_a_version(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signer may sign what would never be served; nothing of it is kept."""
    offered = site.offer(2, b"others")
    (offered / "weights.pkl").write_bytes(b"x")
    from rlu_server.models import contents

    with monkeypatch.context() as patched:
        patched.setattr(contents, "refuse", lambda files: None)
        model_vendor.sign(offered)
    refused(lambda: site.job().update(), ManifestError, "model.pickle", 10)
    assert site.store.versions() == frozenset()
    assert not any((site.store.root / "staging").iterdir())


def test_a_staged_file_that_was_changed_meanwhile(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between fetching and taking everything is hashed once more."""
    from rlu_server.updates import fetching

    site.offer(1)
    fetch = fetching.Fetching.fetch

    def and_then(self: Any, wanted: Any) -> None:
        fetch(self, wanted)
        (self._model / "config.json").write_text('{"model_type": "other!"}')

    with monkeypatch.context() as patched:
        patched.setattr(fetching.Fetching, "fetch", and_then)
        refused(lambda: site.job().update(), SignatureRefused, "model.signature.mismatch", 10)
    assert site.store.versions() == frozenset()
    assert site.job().update().result == "applied"


def test_a_version_that_was_changed_here_is_not_switched_to(site: Any) -> None:
    site.offer(1)
    first = site.job().update()
    site.offer(2, b"others")
    second = site.job().fetch()
    (site.store.directory(second.version) / "config.json").write_text("{}")
    refused(lambda: site.job().apply(None), SignatureRefused, "model.signature.mismatch", 10)
    assert site.store.current() == first.version
    assert site.store.versions() == {first.version}, "it is fetched again instead"
    assert site.job().update() == Outcome("applied", second.version)


def test_a_previous_version_that_was_changed_is_not_gone_back_to(site: Any) -> None:
    for number in (1, 2):
        site.offer(number, b"w%d" % number)
        done = site.job().update()
    first = min(site.store.versions())
    (site.store.directory(first) / "more.txt").touch()
    refused(lambda: site.job().rollback(None), SignatureRefused, "model.signature.mismatch", 10)
    assert site.store.current() == done.version
    assert first in site.store.versions(), "for somebody to look at"


def test_another_model_under_a_versions_name(site: Any) -> None:
    for number in (1, 2):
        site.offer(number, b"w%d" % number)
        site.job().update()
    first = site.store.directory(min(site.store.versions()))
    shutil.rmtree(first)
    model_vendor.make(first, 1, b"forged")
    refused(lambda: site.job().rollback(None), UpdateRefused, "update.tampered", 10)


def test_only_so_many_versions_stay(site: Any) -> None:
    site.configure(keep=2)
    done = []
    for number in range(1, 5):
        site.offer(number, b"w%d" % number)
        done.append(site.job().update().version)
    assert site.store.versions() == set(done[1:])
    assert site.job().rollback(done[1]) == Outcome("rolled_back", done[1])
    assert site.store.versions() == set(done[1:])
    refused(lambda: site.job().rollback(done[0]), Misconfigured, "update.version", 2)


def test_no_room(site: Any) -> None:
    site.offer(1)
    site.configure(reserve_bytes=1 << 60)
    message = refused(lambda: site.job().update(), NotPossible, "update.space", 3)
    assert "bytes are needed" in message
    assert site.store.current() is None


def test_a_full_disk_in_the_middle(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site.offer(1)
    first = site.job().update()
    site.offer(2, b"others")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            site.job().update()
    assert site.store.current() == first.version
    assert site.job().update().result == "applied"


def test_all_of_a_version_is_on_the_disk_before_it_has_its_name(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure must not leave one that is served, and whose signature is empty."""
    site.offer(1)
    synced: set[tuple[int, int]] = set()
    fsync, take = os.fsync, Store.take
    missing: list[str] = []

    def noted(handle: int) -> None:
        fsync(handle)
        found = os.fstat(handle)
        synced.add((found.st_dev, found.st_ino))

    def taken(store: Store, staged: Path, version: str) -> None:
        for path in (staged / "model").rglob("*"):
            found = path.stat()
            if path.is_file() and (found.st_dev, found.st_ino) not in synced:
                missing.append(path.name)
        take(store, staged, version)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Store, "take", taken)
    site.job().update()
    assert missing == []


def test_one_at_a_time(site: Any) -> None:
    site.offer(1)
    with site.store.locked():
        refused(lambda: site.job().update(), NotPossible, "update.busy", 3)
    assert site.job().update().result == "applied"


def test_killed_between_switch_and_note(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link decides; what should have been noted is noted by the next command."""
    site.offer(1)
    first = site.job().update()
    site.offer(2, b"others")
    with monkeypatch.context() as patched:
        patched.setattr(stores.State, "switched", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            site.job().update()
    second = site.store.current()
    assert second != first.version
    assert site.store.state().highest_version == first.version
    assert site.job().rollback(None) == Outcome("rolled_back", first.version)
    assert site.store.state().highest_version == second
    assert site.job().update() == Outcome("held", second)


def test_a_signer_that_counts_no_more_does_not_stop_updates(site: Any) -> None:
    """The link was put back to a version of his, as `rlu serve` does where another does not start."""
    site.offer(1)
    first = site.job().update()
    site.offer(2, b"others")
    site.job().update()
    site.store.switch(first.version)
    new = ec.generate_private_key(ec.SECP256R1())
    model_vendor.public(site.home, new)
    site.offer(3, b"three", key=new)
    assert site.job().update().result == "applied"
    refused(lambda: site.job().rollback(first.version), Untrusted, "model.signature.unknown_signer", 10)


def test_only_who_asked_the_source_has_heard_from_it(site: Any) -> None:
    site.offer(1)
    site.job().fetch()
    heard = site.store.state().last_success
    assert heard is not None
    site.job().apply(None)
    assert site.store.state().last_success == heard
    assert site.job().update().result == "current"
    later = site.store.state().last_success
    assert later > heard
    unsigned(site.offer(2, b"others"))
    refused(lambda: site.job().update(), NotPossible, "update.absent", 3)
    assert site.store.state().last_success == later


def test_pods_that_cannot_be_rolled_now_are_rolled_later(site: Any) -> None:
    site.offer(1)
    job = site.job()

    def away(version: str) -> None:
        raise Unreachable("cluster.status", "away")

    job._roll = away
    refused(job.update, Unreachable, "cluster.status", 3)
    assert site.job().update().result == "current"
    assert site.rolled == [site.store.current()]


def test_damaged_state_is_not_overwritten(site: Any) -> None:
    site.offer(1)
    site.job().update()
    (site.store.root / "state.json").write_text("{")
    refused(lambda: site.job().update(), Misconfigured, "update.state", 2)
    assert (site.store.root / "state.json").read_text() == "{"


def test_settings_that_do_not_do(site: Any, tmp_path: Path) -> None:
    def with_model(**changes: Any) -> Any:
        document = site.settings.model_dump()
        document["model"].update(changes)
        site.settings = type(site.settings).model_validate(document)
        return site.job

    refused(with_model(signers=()), Misconfigured, "update.signers", 2)
    refused(with_model(name="", signers=[tmp_path / "vendor.pub"]), Misconfigured, "update.name", 2)
    refused(with_model(path=str(tmp_path)), Misconfigured, "update.store", 2)
    refused(with_model(path="store/current"), Misconfigured, "update.store", 2)
    (tmp_path / "own" / "current").mkdir(parents=True)
    refused(with_model(path=str(tmp_path / "own" / "current")), Misconfigured, "update.store", 2)
    site.settings = type(site.settings).model_validate(
        {
            **site.settings.model_dump(),
            "model": {**site.settings.model.model_dump(), "path": "/x/current", "name": "m"},
        }
    )
    refused(lambda: site.job().check(), Misconfigured, "update.no_source", 2)
