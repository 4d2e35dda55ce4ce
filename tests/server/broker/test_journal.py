"""The journal: nothing changes in it or leaves it unseen, and no key leaves before its line."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rlu_attestation.errors import Untrusted
from rlu_server.broker import journal as journals
from rlu_server.broker.errors import BrokerUnready, Misused
from rlu_server.broker.journal import Journal, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "journal.jsonl"
    journal = Journal(place)
    for number in range(4):
        journal.add({"event": "released", "number": number})
    journal.close()
    return place


def numbers(path: Path) -> list[int | None]:
    return [None if entry is None else entry["number"] for _, entry in read(path)]


def test_it_goes_on(path: Path) -> None:
    journal = Journal(path)
    journal.add({"number": 4})
    journal.close()
    assert numbers(path) == [0, 1, 2, 3, 4]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[1:],
        lambda lines: lines[:1] + lines[2:],
        lambda lines: [lines[0], lines[2], lines[1], lines[3]],
        lambda lines: [lines[0], lines[0], *lines[1:]],
        lambda lines: [lines[0], lines[1].replace(b"released", b"refused "), *lines[2:]],
        lambda lines: [lines[0], b"{\n", *lines[2:]],
        lambda lines: [lines[0], b"[]\n", *lines[2:]],
        lambda lines: [*lines, b'{"number": 9}\n'],
    ],
)
def test_alterations(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(Untrusted) as caught:
        numbers(path)
    assert caught.value.code == "broker.journal.chain"
    with pytest.raises(Untrusted):
        Journal(path)


def test_a_cut_end_is_seen_by_who_kept_the_last_digest(path: Path) -> None:
    last = journals.digest(path.read_bytes().splitlines(keepends=True)[-1])
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert last not in [journals.digest(line) for line, _ in read(path)]


def test_a_line_that_a_crash_cut_off_stays(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    journal = Journal(path)
    journal.add({"number": 4})
    journal.close()
    assert path.read_bytes().startswith(data[:-10])
    assert numbers(path) == [0, 1, 2, None, 4]


def test_one_broker_at_a_time(path: Path) -> None:
    first = Journal(path)
    with pytest.raises(Misused, match=r"broker\.journal\.held"):
        Journal(path)
    first.close()
    Journal(path).close()


def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(BrokerUnready) as caught:
            journal.add({"number": 99})
    assert (caught.value.code, caught.value.status) == ("broker.journal", 503)
    journal.add({"number": 4})
    journal.close()
    assert numbers(path) == [0, 1, 2, 3, 4]
