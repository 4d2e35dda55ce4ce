"""Reports from logs that an attestor wrote: segments, damage, and what is missing."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.attestor_process import GatewaySide
from fakes.attestor_room import Room, running_room
from rlu_attestation.boundary.figures import asserted
from rlu_attestation.boundary.report import Figure
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_server.boundary.kept import chain
from rlu_server.boundary.making import make
from waiting import until

HOUR = 3600
BEGAN = 1_000_000
LATER = BEGAN + 9 * HOUR
EGRESS = (asserted("egress.journal", 0, sha256="none"),)


@pytest.fixture(scope="module")
def written() -> Iterator[Path]:
    """A log directory: four tallies an hour apart, each after three sessions, in segments of five entries."""
    with tempfile.TemporaryDirectory(prefix="rlu-log-") as directory:
        asyncio.run(_write(Path(directory)))
        yield Path(directory) / "state" / "log"


async def _write(directory: Path) -> None:
    async with running_room(directory, segment_leaves=5) as room:
        room.ledger.counting.begin(lambda: room.attesting.key, room.now, None)
        gateway = await room.greeted()
        for number in range(1, 5):
            for _ in range(3):
                await gateway.open(ttl_s=6 * 86400)
            room.now += HOUR
            room.server.attestor.count()  # as the clock does each second
            await until(lambda number=number: _tallies(room) == number, room.stream.getvalue)  # type: ignore[misc]
        await gateway.disconnect()
    GatewaySide.opened.clear()


def _tallies(room: Room) -> int:
    return room.ledger.counting.snapshot().number


@pytest.fixture
def log(written: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(written, tmp_path / "log"))


def made(log: Path, begin: int, end: int) -> dict[str, Figure]:
    found = make(log, begin, end, LATER, EGRESS)
    return {figure.name: figure for figure in found.report.figures if not figure.of}


def refusal(log: Path, begin: int, end: int) -> str:
    with pytest.raises(RluError) as refused:
        make(log, begin, end, LATER, EGRESS)
    return refused.value.code


@pytest.mark.parametrize(
    ("begin", "end", "sessions", "entries", "here"),
    [
        (BEGAN, BEGAN + 4 * HOUR, 9, 9, [1, 2, 3, 4]),
        (BEGAN + 2 * HOUR, BEGAN + 3 * HOUR, 3, 3, [1, 2, 3]),
        (BEGAN + 3 * HOUR, BEGAN + 4 * HOUR, 3, 3, [2, 3, 4]),
        (BEGAN + HOUR + 1, BEGAN + HOUR + 2, 0, 0, [1, 2]),
    ],
)
def test_a_period(written: Path, begin: int, end: int, sessions: int, entries: int, here: list[int]) -> None:
    """What a report holds is what the period needs: the tally before it, those in it, the one after it."""
    found = make(written, begin, end, LATER, EGRESS)
    assert (found.result, found.exit_code) == ("verified", 0)
    assert [tally.number for tally in found.logs[0].tallies] == here
    figures = made(written, begin, end)
    assert (figures["sessions"].value, figures["entries"].value) == (sessions, entries)


def test_a_period_that_is_not_over_is_open(written: Path) -> None:
    found = make(written, BEGAN, BEGAN + 5 * HOUR, LATER, EGRESS)
    assert [point.code for point in found.open] == ["boundary.open.end"]
    assert found.exit_code == 11


def test_segments_are_there(written: Path) -> None:
    assert len(list(written.glob("*.0*.jsonl"))) == 3


def test_a_segment_that_was_moved_away_is_asked_for_where_it_is_needed(log: Path) -> None:
    for path in log.glob("*.000001.jsonl"):
        path.unlink()
    assert refusal(log, BEGAN, BEGAN + 4 * HOUR) == "boundary.segment"
    assert made(log, BEGAN + 3 * HOUR, BEGAN + 4 * HOUR)["sessions"].value == 3


def test_no_log(tmp_path: Path) -> None:
    assert refusal(tmp_path, BEGAN, BEGAN + HOUR) == "boundary.log"
    (tmp_path / "log.jsonl").write_bytes(b"")
    assert refusal(tmp_path, BEGAN, BEGAN + HOUR) == "boundary.log"
    (tmp_path / "log.jsonl").write_bytes(b"no log\n")
    assert refusal(tmp_path, BEGAN, BEGAN + HOUR) == "log.header"


def _sealed(log: Path, name: str) -> Path:
    (found,) = log.glob(f"*/{name}")
    return found


def test_a_kind_that_was_changed_later_is_found(log: Path) -> None:
    """A session is made to look like a close: nothing but the tally shows it."""
    meta = _sealed(log, "meta.bin")
    data = bytearray(meta.read_bytes())
    assert data[16] == 1
    data[16] = 3
    meta.write_bytes(data)
    assert refusal(log, BEGAN, BEGAN + 4 * HOUR) == "boundary.recount"


def test_a_tally_that_was_changed_is_found(log: Path) -> None:
    ours = chain(log)[0]
    (path,) = log.glob("*.000001.jsonl")
    tally = ours.tallies(0)[0]
    less = replace(tally.tally, sessions=2, closes=1, profiles=()).encode()
    text = path.read_text().replace(b64u(tally.statement), b64u(less))
    assert b64u(less) in text
    path.write_text(text)
    meta = _sealed(log, "meta.bin")
    data = bytearray(meta.read_bytes())
    data[16] = 3
    meta.write_bytes(data)
    assert refusal(log, BEGAN, BEGAN + 4 * HOUR) == "boundary.tally"


def test_a_tally_that_is_left_out_is_found(log: Path) -> None:
    (path,) = log.glob("*.000002.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"kind":"tally"' not in line))
    assert refusal(log, BEGAN, BEGAN + 4 * HOUR) == "boundary.tallies"


def test_leaves_that_were_changed_are_found(log: Path) -> None:
    leaves = _sealed(log, "leaves.bin")
    data = bytearray(leaves.read_bytes())
    data[40] ^= 1
    leaves.write_bytes(data)
    assert refusal(log, BEGAN, BEGAN + 4 * HOUR) == "boundary.tally"
