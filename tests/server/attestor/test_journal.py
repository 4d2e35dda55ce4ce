"""The log's file: what was appended is there again, whatever a crash did to the end of it."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlu_attestation.encoding import b64u
from rlu_server.attestor import journal as journal_module
from rlu_server.attestor import records
from rlu_server.attestor.errors import LogCorrupt, NotReady
from rlu_server.attestor.journal import FILE_NAME, Journal, at_rest

ISSUER = "urn:rlu:instance:AQIDBA"
JWK = {"crv": "P-256", "kty": "EC", "x": "AQ", "y": "Ag"}
SESSION = b64u(bytes(16))


def batch(start: int, count: int = 2) -> bytes:
    lines = [
        records.receipt_line(start + i, SESSION, bytes(32), 9, i + 1, "complete", (1, 1, 0))
        for i in range(count)
    ]
    return b"".join(lines) + records.head_line(b"\x01" * 40, start + count)


def read(directory: Path, issuer: str = ISSUER) -> tuple[list[records.Batch], bool]:
    """Open, read back, close."""
    journal = Journal(directory, issuer, JWK)
    try:
        found = list(journal.batches)
        return found, journal.accept(found[-1] if found else None)
    finally:
        journal.close()


def written(directory: Path, batches: int) -> Path:
    journal = Journal(directory, ISSUER, JWK)
    journal.accept(None)
    for number in range(batches):
        journal.append(batch(2 * number))
    journal.close()
    return directory / FILE_NAME


def test_batches_come_back(tmp_path: Path) -> None:
    written(tmp_path, 3)
    found, torn = read(tmp_path)
    assert [b.head.size for b in found] == [2, 4, 6]
    assert not torn


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=60,
    deadline=None,
)
@given(cut=st.integers(1, 10_000), junk=st.binary(max_size=40))
def test_a_crash_anywhere_in_the_last_batch_leaves_the_ones_before(
    tmp_path: Path, cut: int, junk: bytes
) -> None:
    for old in tmp_path.iterdir():
        old.unlink()
    path = written(tmp_path, 3)
    whole = path.read_bytes()
    last = len(batch(4))
    cut = 1 + cut % (last - 1)
    path.write_bytes(whole[:-cut] + junk.replace(b"\n", b" "))
    found, torn = read(tmp_path)
    assert [b.head.size for b in found] == [2, 4]
    assert torn
    assert path.read_bytes() == whole[:-last]
    assert not read(tmp_path)[1]


def test_a_power_cut_may_lose_the_middle_of_the_last_batch(tmp_path: Path) -> None:
    path = written(tmp_path, 2)
    data = bytearray(path.read_bytes())
    hole = len(data) - len(batch(2)) + 5
    data[hole : hole + 20] = bytes(20)  # a page that never reached the disk, while its successor did
    path.write_bytes(data)
    found, torn = read(tmp_path)
    assert [b.head.size for b in found] == [2]
    assert torn


def test_damage_before_the_last_batch_refuses(tmp_path: Path) -> None:
    path = written(tmp_path, 3)
    data = bytearray(path.read_bytes())
    at = data.index(b'"kind":"receipt"')
    data[at] = 0
    path.write_bytes(data)
    with pytest.raises(LogCorrupt, match=r"log\.damaged"):
        read(tmp_path)


@pytest.mark.parametrize(
    "line", [b"{}\n", b'{"kind":"log","iss":"x","jwk":{},"version":1}\n', batch(0), b"\xff\xff\n"], ids=repr
)
def test_another_first_line_refuses(tmp_path: Path, line: bytes) -> None:
    written(tmp_path, 1)
    (tmp_path / FILE_NAME).write_bytes(line)
    with pytest.raises(LogCorrupt, match=r"log\.header"):
        read(tmp_path)


def test_a_first_line_that_was_torn_off_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b'{"iss":"urn:rlu')
    assert read(tmp_path) == ([], False)


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path, 1)
    before = path.read_bytes()
    journal = Journal(tmp_path, ISSUER, JWK)
    journal.accept(list(journal.batches)[-1])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.append(batch(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    journal.append(batch(2))
    journal.close()
    assert [b.head.size for b in read(tmp_path)[0]] == [2, 4]


def test_another_instance_moves_the_old_log_aside_and_names_its_last_head(tmp_path: Path) -> None:
    path = written(tmp_path, 2)
    old = path.read_bytes()
    journal = Journal(tmp_path, "urn:rlu:instance:NEW", JWK)
    journal.close()
    assert journal.predecessor is not None
    assert (journal.predecessor.issuer, journal.predecessor.head) == (ISSUER, b"\x01" * 40)
    assert (tmp_path / "AQIDBA.jsonl").read_bytes() == old
    again = Journal(tmp_path, "urn:rlu:instance:NEW", JWK)
    again.close()
    assert again.predecessor == journal.predecessor


def test_a_key_that_was_followed_by_another_does_not_come_back(tmp_path: Path) -> None:
    written(tmp_path, 1)
    Journal(tmp_path, "urn:rlu:instance:NEW", JWK).close()
    for _ in range(2):
        with pytest.raises(NotReady, match=r"log\.retired"):
            Journal(tmp_path, ISSUER, JWK)
    assert read(tmp_path, "urn:rlu:instance:NEW") == ([], False)


def test_a_second_attestor_is_kept_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path, ISSUER, JWK)
    with pytest.raises(NotReady, match=r"log\.in_use"):
        Journal(tmp_path, ISSUER, JWK)
    journal.close()
    assert os.stat(tmp_path / FILE_NAME).st_mode & 0o077 == 0
    read(tmp_path)


def fail_once(monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> None:
    """The next call fails, and no other."""
    real, failed = getattr(module, name), []

    def call(*arguments: object, **more: object) -> object:
        if not failed:
            failed.append(name)
            raise OSError(errno.EIO, "scripted")
        return real(*arguments, **more)

    monkeypatch.setattr(module, name, call)


def test_what_could_not_be_cut_off_at_once_is_before_the_next_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, ISSUER, JWK)
    journal.accept(None)
    fail_once(monkeypatch, os, "fdatasync")
    fail_once(monkeypatch, os, "ftruncate")
    with pytest.raises(OSError, match="scripted"):
        journal.append(batch(0, 1))
    journal.append(batch(0))
    journal.close()
    assert [b.head.size for b in read(tmp_path)[0]] == [2]


@pytest.mark.parametrize("broken", ["link", "replace"])
def test_a_key_that_cannot_step_down_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    journal = Journal(tmp_path, ISSUER, JWK)
    journal.accept(None)
    journal.append(batch(0))
    fail_once(monkeypatch, os, broken)
    with pytest.raises(OSError, match="scripted"):
        journal.succeed("urn:rlu:instance:NEW", JWK, b"\x01" * 40)
    journal.append(batch(2))
    following = journal.succeed("urn:rlu:instance:NEW", JWK, b"\x01" * 40)
    following.close()
    journal.close()
    old = at_rest(tmp_path / "AQIDBA.jsonl")
    assert old is not None
    assert old.size == 4


def test_once_names_have_changed_nothing_can_fail_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Descriptors that ran out after it would leave the log in two minds: its keys would change back, its files would not."""
    journal = Journal(tmp_path, ISSUER, JWK)
    journal.accept(None)
    journal.append(batch(0))
    replaced, replace, opened = [], os.replace, os.open

    def renamed(source: Path, target: Path) -> None:
        replace(source, target)
        replaced.append(target)

    def scarce(path: Path, *more: int) -> int:
        if replaced and Path(path) != tmp_path:
            raise OSError(errno.EMFILE, "no descriptors")
        return opened(path, *more)

    monkeypatch.setattr(os, "replace", renamed)
    monkeypatch.setattr(os, "open", scarce)
    following = journal.succeed("urn:rlu:instance:NEW", JWK, b"\x01" * 40)
    monkeypatch.undo()
    following.append(batch(0))
    following.close()
    journal.close()
    assert [b.head.size for b in read(tmp_path, "urn:rlu:instance:NEW")[0]] == [2]


def test_a_new_log_takes_no_batch_before_its_name_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, ISSUER, JWK)
    journal.accept(None)
    journal.append(batch(0))
    with monkeypatch.context() as patch:
        replace = os.replace

        def renamed(source: Path, target: Path) -> None:
            replace(source, target)
            patch.setattr(journal_module, "sync_directory", broken)

        def broken(directory: Path) -> None:
            raise OSError(errno.EIO, "scripted")

        patch.setattr(os, "replace", renamed)
        following = journal.succeed("urn:rlu:instance:NEW", JWK, b"\x01" * 40)
        with pytest.raises(OSError, match="scripted"):
            following.append(batch(0))
    following.append(batch(0))
    following.close()
    journal.close()
    assert [b.head.size for b in read(tmp_path, "urn:rlu:instance:NEW")[0]] == [2]
