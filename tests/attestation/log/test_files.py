"""The log's files at rest, as the real attestor's ledger and journal write them, with one thing wrong at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.log_operator import AT, Operator
from fakes.log_room import LogRoom
from rlu_attestation import cose
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.log.files import FileReport, check
from rlu_attestation.log.follow import follow
from rlu_attestation.log.state import State

Lines = list[bytes]


def segments(directory: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    for path in (*sorted(directory.glob("*.0*.jsonl")), directory / "log.jsonl"):
        yield path.name, iter(path.read_bytes().splitlines(keepends=True))


def sealed(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in directory.glob("*/leaves.bin")]


def audit(directory: Path, state: State | None = None) -> FileReport:
    return check(segments(directory), sealed(directory), state)


def found(report: FileReport) -> str:
    (finding,) = report.findings
    assert report.log is None
    return finding.code


@pytest.fixture
def room(tmp_path: Path) -> LogRoom:
    """Batches of 1 to 5 entries, 30 in all, in one segment."""
    made = LogRoom(tmp_path)
    for count in (1, 2, 3, 4, 5, 5, 5, 5):
        made.batch(count)
    made.close()
    return made


def perturbed(directory: Path, change: Callable[[Lines], Any]) -> None:
    path = directory / "log.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    result = change(lines)
    path.write_bytes(b"".join(lines if result is None else result))


def test_a_log_that_is_whole(room: LogRoom) -> None:
    report = audit(room.directory)
    assert report.findings == ()
    assert report.log is not None
    assert report.log.head is not None
    assert (report.log.head.tree_size, report.log.issuer, report.log.start_count) == (30, room.issuer, 1)
    assert report.log.read_from == 0


def entry(lines: Lines, number: int) -> int:
    """The line of an entry."""
    return next(n for n, line in enumerate(lines) if f'"index":{number},'.encode() in line)


def rewrite(lines: Lines) -> None:
    at = entry(lines, 12)
    record = json.loads(lines[at])
    record["leaf"] = b64u(bytes(32))
    lines[at] = json.dumps(record).encode() + b"\n"


def swap(lines: Lines) -> None:
    at = entry(lines, 11)
    lines[at], lines[at + 1] = lines[at + 1], lines[at]


def swap_and_number(lines: Lines) -> None:
    swap(lines)
    at = entry(lines, 11)
    for where, index in ((at, 12), (at - 1, 11)):
        record = json.loads(lines[where])
        record["index"] = index
        lines[where] = json.dumps(record).encode() + b"\n"


def forge(lines: Lines) -> None:
    record = json.loads(lines[-1])
    head = cose.parse_head(unb64u(record["head"]))
    record["head"] = b64u(cose.assemble_head(head.protected, head.root, bytes(63) + b"\x01"))
    lines[-1] = json.dumps(record).encode() + b"\n"


def another_key(lines: Lines) -> None:
    record = json.loads(lines[0])
    record["jwk"] = Operator().jwk
    lines[0] = json.dumps(record).encode() + b"\n"


def another_version(lines: Lines) -> None:
    lines[0] = lines[0].replace(b'"version":2', b'"version":3')


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("log.rewritten", rewrite),
        ("log.reordered", swap),
        ("log.rewritten", swap_and_number),
        ("log.gap", lambda lines: lines.__delitem__(entry(lines, 12))),
        ("log.gap", lambda lines: lines.insert(entry(lines, 12), lines[entry(lines, 12)])),
        ("log.truncated", lambda lines: lines[:-1]),
        ("log.truncated", lambda lines: [*lines[:-1], lines[-1][:-1]]),
        ("log.truncated", lambda lines: [*lines, lines[-2].replace(b'"index":29', b'"index":30')]),
        ("log.head.invalid", forge),
        ("log.files", another_key),
        ("log.files", another_version),
        ("log.files", lambda lines: lines[1:]),
        ("log.files", lambda lines: []),
        ("log.files", lambda lines: [*lines, b"{}\n"]),
        ("log.files", lambda lines: [*lines, b"\xff\n"]),
        ("log.files", lambda lines: [*lines, b" " * 9000 + b"\n"]),
        ("log.start_counter", lambda lines: lines.insert(4, b'{"count":1,"kind":"start"}\n')),
        ("log.clock", lambda lines: None),
    ],
)
def test_damage_of_every_kind(room: LogRoom, code: str, change: Callable[[Lines], Any]) -> None:
    if code == "log.clock":
        earlier = LogRoom(room.directory, room)
        earlier.now -= 1
        earlier.batch(1)
        earlier.close()
    perturbed(room.directory, change)
    if code == "log.files" and (room.directory / "log.jsonl").read_bytes() == b"":
        assert check([], [], None).findings[0].code == code
        return
    assert found(audit(room.directory)) == code


def test_a_head_by_the_right_key_for_another_log(room: LogRoom) -> None:
    def rename(lines: Lines) -> None:
        head = room.operator.head_of(room.tree, issuer=Operator().issuer)
        lines[-1] = json.dumps({"kind": "head", "size": 30, "head": b64u(head)}).encode() + b"\n"

    perturbed(room.directory, rename)
    assert found(audit(room.directory)) == "log.head.invalid"


def test_what_an_observer_saw_must_be_in_it(room: LogRoom) -> None:
    state = room.observed()
    assert audit(room.directory, state).findings == ()
    perturbed(room.directory, lambda lines: lines[: entry(lines, 25)])
    assert found(audit(room.directory, state)) == "log.truncated"


def test_a_log_that_another_one_took_the_place_of(room: LogRoom, tmp_path: Path) -> None:
    state = room.observed()
    other = LogRoom(tmp_path / "other", room, fresh=True)
    for _ in range(30):
        other.batch(1)
    other.close()
    assert found(audit(other.directory, state)) == "log.fork"
    stranger = LogRoom(tmp_path / "stranger")
    stranger.batch(1)
    stranger.close()
    assert found(audit(stranger.directory, state)) == "log.predecessor"


def test_a_log_without_the_head_that_was_seen(room: LogRoom, tmp_path: Path) -> None:
    state = room.observed()
    other = LogRoom(tmp_path / "other", room, fresh=True)
    for count in (29, 3):
        other.batch(count)
    other.close()
    assert found(audit(other.directory, state)) == "log.fork"


@pytest.fixture
def cut(tmp_path: Path) -> LogRoom:
    """The same in segments of at least 600 entries."""
    made = LogRoom(tmp_path, segment_leaves=600)
    for count in (200, 500, 10, 700, 30):
        made.batch(count)
    made.close()
    return made


def test_segments_are_one_log(cut: LogRoom) -> None:
    assert len(list(cut.directory.glob("*.0*.jsonl"))) == 2
    state = cut.observed()
    report = audit(cut.directory, state)
    assert report.findings == ()
    assert report.log is not None
    assert report.log.read_from == 0
    # Finished segments may be elsewhere: the sealed leaves stand for them.
    for path in cut.directory.glob("*.0*.jsonl"):
        path.unlink()
    report = audit(cut.directory, state)
    assert report.findings == ()
    assert report.log is not None
    assert report.log.read_from == 1410


@pytest.mark.parametrize("what", ["segment", "sealed", "short", "preamble"])
def test_segments_that_do_not_fit(cut: LogRoom, what: str) -> None:
    finished = sorted(cut.directory.glob("*.0*.jsonl"))
    (leaves,) = cut.directory.glob("*/leaves.bin")
    if what == "segment":
        finished[1].unlink()
    elif what == "preamble":
        perturbed(cut.directory, lambda lines: [lines[0], *lines[-1:]])
    else:
        for path in finished:
            path.unlink()
        data = bytearray(leaves.read_bytes())
        data[700] ^= 1
        leaves.write_bytes(data[: -64 if what == "short" else None])
    expected = {"segment": "log.gap", "sealed": "log.rewritten", "short": "log.gap", "preamble": "log.gap"}
    assert found(audit(cut.directory)) == expected[what]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_arbitrary_lines_are_findings_and_nothing_else(room: LogRoom, data: st.DataObject) -> None:
    lines = (room.directory / "log.jsonl").read_bytes().splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines)))
    junk = data.draw(
        st.one_of(
            st.binary(max_size=60),
            st.dictionaries(
                st.sampled_from(["kind", "index", "leaf", "head", "size", "count", "segment", "jwk"]),
                st.one_of(
                    st.integers(), st.text(max_size=9), st.none(), st.sampled_from(["head", "log", "session"])
                ),
            ).map(lambda value: json.dumps(value).encode() + b"\n"),
        )
    )
    check([("log.jsonl", [*lines[:at], junk, *lines[at:]])], [], None)


def test_an_observer_follows_on_from_what_the_files_say(room: LogRoom) -> None:
    report = audit(room.directory)
    assert report.log is not None
    state = room.observed()
    assert report.log.frontier == state.frontier
    assert follow(state, room.view(state), AT, None).findings == ()
