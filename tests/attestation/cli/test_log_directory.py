"""A log directory in which one instance followed another, as the attestor's journal leaves it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fakes.log_operator import Operator
from fakes.log_room import LogRoom
from rlu_attestation.cli.log_directory import audit
from rlu_attestation.encoding import unb64u
from rlu_attestation.log.follow import follow


def latest(room: LogRoom) -> bytes:
    """The head that its log ends with."""
    return unb64u(json.loads((room.directory / "log.jsonl").read_text().splitlines()[-1])["head"])


def codes(directory: Path) -> list[str]:
    return [finding.code for finding in audit(directory, None)[0]]


@pytest.mark.parametrize("entries", [0, 3])
def test_a_log_may_go_on_after_its_key_stepped_down(tmp_path: Path, entries: int) -> None:
    """Sessions that were open then end in it. The new log named the head of that moment in its first line."""
    room, successor = LogRoom(tmp_path), Operator()
    room.batch(4)
    new = room.journal.succeed(successor.issuer, successor.jwk, latest(room))
    room.batch(entries)
    assert codes(tmp_path) == []
    new.close()
    room.close()


def test_it_must_hold_the_head_that_was_named(tmp_path: Path) -> None:
    room, successor = LogRoom(tmp_path), Operator()
    room.batch(4)
    # Signed by the same key over the same entries, and not the one that is in the log.
    found = follow(None, room.view(None), room.now, None).state
    assert found is not None
    assert found.head != latest(room)
    new = room.journal.succeed(successor.issuer, successor.jwk, found.head)
    assert codes(tmp_path) == ["log.predecessor"]
    new.close()
    room.close()


def test_a_log_that_was_cut_off_before_that_head(tmp_path: Path) -> None:
    room, successor = LogRoom(tmp_path), Operator()
    room.batch(4)
    room.batch(2)
    new = room.journal.succeed(successor.issuer, successor.jwk, latest(room))
    room.batch(2)
    room.close()
    new.close()
    former = next(path for path in tmp_path.glob("*.jsonl") if path.name != "log.jsonl")
    lines = former.read_bytes().splitlines(keepends=True)
    heads = [number for number, line in enumerate(lines) if b'"kind":"head"' in line]
    former.write_bytes(b"".join(lines[: heads[-3] + 1]))
    assert codes(tmp_path) == ["log.predecessor"]
