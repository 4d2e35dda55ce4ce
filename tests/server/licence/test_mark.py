"""The latest time ever seen: kept, sealed, and never taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fakes.vendor import AT
from rlu_server.licence.mark import STEP_S, Mark

SECRET = b"s" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "licence-time"


def test_it_only_rises(path: Path) -> None:
    mark = Mark(path, SECRET)
    assert (mark.at, mark.broken) == (0, False)
    assert mark.advance(AT) == AT
    assert mark.advance(AT - 1000) == AT
    again = Mark(path, SECRET)
    assert (again.at, again.advance(5), again.broken) == (AT, AT, False)
    assert path.stat().st_mode & 0o777 == 0o600


def test_written_now_and_then(path: Path) -> None:
    mark = Mark(path, SECRET)
    mark.advance(AT)
    before = path.read_bytes()
    mark.advance(AT + STEP_S - 1)
    assert path.read_bytes() == before
    mark.advance(AT + STEP_S)
    assert Mark(path, SECRET).at == AT + STEP_S


def test_a_mark_that_is_not_ours_counts_for_nothing(path: Path) -> None:
    Mark(path, SECRET).advance(AT)
    members = json.loads(path.read_bytes())
    for wrong in (
        json.dumps({**members, "at": AT - 10**6}, separators=(",", ":"), sort_keys=True).encode(),
        path.read_bytes()[:-1],
        b"",
        b"{}",
    ):
        path.write_bytes(wrong)
        mark = Mark(path, SECRET)
        assert (mark.at, mark.broken) == (0, True)
    mark.advance(AT + 1)
    assert Mark(path, SECRET).at == AT + 1


def test_another_attestors_mark(path: Path) -> None:
    Mark(path, SECRET).advance(AT)
    assert Mark(path, b"t" * 32).broken
