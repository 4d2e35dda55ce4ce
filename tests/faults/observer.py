"""What must hold whatever was broken, judged from the outside: the clients' journal against the log on the disk. Pure.

1  unsigned        before the first byte of an answer, the statement of its session was under a head on the disk
2  receipts        each exchange that an answer named is in the log once; numbers have no gaps; nobody has more than he asked for
3  session         a session that a client was given is in the log as it was given
4  contents        a receipt says what its client sent and got
5  tenants         no answer holds what another request brought
6  hangs           every call ended; nothing that was to end goes on
7  memory          no process grew beyond its bound
8  recovery        it served again, in time
9  log             an auditor finds nothing; every session is closed at the end; tallies count what is in it
10 exit            asked to stop, the supervisor and each of its processes end with 0, and nothing of them is left
11 errors          no process met an error that nobody has thought of

What attestor and gateway lost together (`losses.py`), nobody can sign; then, and only for what was under way in that span, numbers may be
missing. Such a gap shows in the session's close.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from faults.losses import Span
from faults.traffic import Call, Opened
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.log.tally import Tally
from rlu_attestation.merkle import leaf_hash
from rlu_server.attestor.records import (
    CloseRecord,
    HeadRecord,
    LogRecord,
    OpenRecord,
    ReceiptRecord,
    SessionRecord,
    StartRecord,
    TallyRecord,
)

MARKER = re.compile(rb"mk-[a-z]+-[0-9]{8}-[0-9a-f]{8}")
GROWTH_BYTES = 160 << 20
"""Most that a process may have beyond what it had before anything was broken."""
INTERNAL = ("internal.error", "internal_error")
"""Of attestor and gateway."""
ENDED = (0, -9, -15)
"""One that is killed at that moment did not end by itself."""
RECOVERY_S = 90.0
"""Longest time until it serves again: the supervisor's longest pause, and a start on a busy machine."""
_Line = (
    LogRecord
    | OpenRecord
    | StartRecord
    | SessionRecord
    | ReceiptRecord
    | CloseRecord
    | TallyRecord
    | HeadRecord
)


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold."""

    invariant: str
    detail: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that one schedule left.

    Attributes:
        logs: each instance's log after the end, by the number of its file.
        unproven: what the verifier did not accept of sessions that were still there, as text.
        memory: bytes of each kind of process before, and the most of it after.
        recovered_s: seconds from the last repair until it served; None: it did not.
        audit: findings of `rlu log audit` over the log at rest; None: it was not made.
        exit_status: of the supervisor; `restarted`: of one that was asked to stop in between.
        left: processes and directories that outlived it.
        errors: what processes said of errors of their own; `unexpected`.
        lost: spans in which attestor and gateway lost together what was under way.
        attestor_restarted: exchanges that it had not logged got new numbers (`recorder.py`): receipts are counted, not named.
    """

    calls: Sequence[Call]
    opened: Sequence[Opened]
    closed: Sequence[str]
    logs: Mapping[int, bytes]
    unproven: Sequence[str] = ()
    memory: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    recovered_s: float | None = None
    audit: Sequence[str] | None = None
    exit_status: int | None = None
    restarted: Sequence[int | None] = ()
    left: Sequence[str] = ()
    errors: Sequence[str] = ()
    lost: Sequence[Span] = ()
    attestor_restarted: bool = False


@dataclass(frozen=True, slots=True)
class _Log:
    """The logs, as far as they are under a head. `shown_at`: which file the head over a session is in, and where there it ends."""

    sessions: dict[str, SessionRecord]
    shown_at: dict[str, tuple[int, int]]
    receipts: dict[str, list[ReceiptRecord]]
    closes: dict[str, int]
    miscounted: list[str]


def unexpected(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the supervisors' events say of errors that are nobody's doing, and of processes that were asked to stop and did not end well."""
    return [
        " ".join(str(event[name]) for name in ("event", "code", "status") if name in event)
        for event in events
        if event["event"] in INTERNAL
        or (str(event["event"]).endswith(".stopped") and event.get("status", 0) not in ENDED)
    ]


def violations(seen: Observed) -> list[Violation]:
    """All that did not hold."""
    try:
        log = _read(seen.logs)
    except (msgspec.MsgspecError, ValueError) as error:
        return [Violation("log", f"unreadable: {error}")]
    return [
        *_unsigned(seen, log),
        *_receipts(seen, log),
        *_sessions(seen, log),
        *(Violation("log", text) for text in log.miscounted),
        *(Violation("contents", text) for text in seen.unproven),
        *_tenants(seen),
        *_ended(seen, log),
    ]


def _read(files: Mapping[int, bytes]) -> _Log:
    log = _Log({}, {}, collections.defaultdict(list), collections.Counter(), [])
    for file, data in files.items():
        _read_one(log, file, data)
    return log


def _read_one(log: _Log, file: int, data: bytes) -> None:
    decode = msgspec.json.Decoder(_Line).decode
    waiting: list[str] = []
    counted: collections.Counter[str] = collections.Counter()
    at = 0
    for line in data.split(b"\n")[:-1]:
        at += len(line) + 1
        record = decode(line)
        if isinstance(record, SessionRecord):
            if record.session in log.sessions:
                raise ValueError(f"session {record.session} is in the log twice")
            log.sessions[record.session] = record
            counted["session"] += 1
            waiting.append(record.session)
        elif isinstance(record, ReceiptRecord):
            log.receipts[record.session].append(record)
            counted[record.status] += 1
        elif isinstance(record, CloseRecord):
            log.closes[record.session] += 1
            counted["close"] += 1
        elif isinstance(record, TallyRecord):
            log.miscounted.extend(_tally(record, counted))
            counted.clear()
        elif isinstance(record, HeadRecord):
            log.shown_at.update(dict.fromkeys(waiting, (file, at)))
            waiting.clear()


def _tally(record: TallyRecord, counted: collections.Counter[str]) -> list[str]:
    """Whatever was broken before: a tally counts what stands in the log since the tally before."""
    statement = unb64u(record.statement)
    tally = Tally.parse(statement)
    said = collections.Counter({"session": tally.sessions, "close": tally.closes, **tally.receipts})
    if said != counted or tally.next != record.index or b64u(leaf_hash(statement)) != record.leaf:
        return [f"tally {tally.number} counts {dict(said)}, the log has {dict(counted)}"]
    return []


def _unsigned(seen: Observed, log: _Log) -> list[Violation]:
    found = []
    answers = [
        (call.headers.get("rlu-session"), call.logged, call.marker) for call in seen.calls if call.status
    ]
    # A refusal by the gateway itself may be of no session.
    given = [(session, logged, what) for session, logged, what in answers if session is not None]
    given += [(one.session, one.logged, "opening") for one in seen.opened]
    for session, logged, what in given:
        file, shown = log.shown_at.get(session, (None, 0))
        if file is None:
            found.append(f"{what}: session {session} is under no head")
        elif (late := shown - logged.get(file, 0)) > 0:
            found.append(f"{what}: the head over session {session} came {late} bytes after the answer")
    found += [
        f"{call.marker}: an answer of the model without a session"
        for call in seen.calls
        if MARKER.search(call.content) and call.receipt is None
    ]
    return [Violation("unsigned", text) for text in found]


def _receipts(seen: Observed, log: _Log) -> list[Violation]:
    found = []
    named = collections.Counter(call.receipt for call in seen.calls if call.receipt is not None)
    found += [f"exchange {one} was named by {count} answers" for one, count in named.items() if count > 1]
    excused = {call.receipt for call in seen.calls if _lost(call, seen.lost)}
    halted = {call.asked for call in seen.calls if _lost(call, seen.lost)} | {
        one[0] for one in excused if one
    }
    logged = {(session, record.seq): record for session, of in log.receipts.items() for record in of}
    for session, records in log.receipts.items():
        numbers = sorted(record.seq for record in records)
        gaps = numbers != list(range(1, len(numbers) + 1))
        if len(numbers) != len(set(numbers)) or (
            gaps and not seen.attestor_restarted and session not in halted
        ):
            found.append(f"session {session}: numbers {numbers[:50]}")
    if seen.attestor_restarted:
        wanted = collections.Counter(one[0] for one in named if one not in excused)
        for session, count in wanted.items():
            if (got := len(log.receipts.get(session, ()))) < count:
                found.append(f"session {session}: {got} receipts for {count} answers")
    else:
        found += [
            f"exchange {one} is not in the log" for one in named if one not in logged and one not in excused
        ]
    asked = collections.Counter(
        call.asked if call.receipt is None else call.receipt[0] for call in seen.calls
    )
    asked.pop(None, None)
    for one in seen.opened:
        if len(log.receipts.get(one.session, ())) > asked[one.session]:
            count = len(log.receipts[one.session])
            found.append(f"session {one.session}: {count} receipts for {asked[one.session]} requests")
    if sum(map(len, log.receipts.values())) > len(seen.calls):
        found.append(f"{sum(map(len, log.receipts.values()))} receipts for {len(seen.calls)} requests")
    for call in seen.calls:
        record = logged.get(call.receipt) if call.receipt is not None else None
        renumbered = seen.attestor_restarted
        if record is not None and record.status == "complete" and call.outcome == "cut" and not renumbered:
            found.append(f"exchange {call.receipt}: complete, and its client got a part")
    return [Violation("receipts", text) for text in found]


def _lost(call: Call, spans: Sequence[Span]) -> bool:
    """Was it under way in one of the spans?"""
    return any(call.began <= to and call.began + call.seconds >= since for since, to in spans)


def _sessions(seen: Observed, log: _Log) -> list[Violation]:
    found = []
    for one in seen.opened:
        record = log.sessions.get(one.session)
        if record is not None and record.leaf != b64u(leaf_hash(unb64u(one.statement))):
            found.append(f"session {one.session}: the statement in the log is another")
    for session in seen.closed:
        if not log.closes.get(session):
            found.append(f"session {session}: its client was given a close that is not in the log")
    return [Violation("session", text) for text in found]


def _tenants(seen: Observed) -> list[Violation]:
    found = []
    for call in seen.calls:
        others = {marker.decode() for marker in MARKER.findall(call.content)} - {call.marker}
        # An error may repeat nothing at all of a request, another's least.
        found += [f"{call.marker}: its answer holds {other}" for other in sorted(others)]
    return [Violation("tenants", text) for text in found]


def _ended(seen: Observed, log: _Log) -> list[Violation]:
    found = [
        Violation("hangs", f"{call.marker or 'an own route'} ({call.script}) after {call.seconds:.0f} s")
        for call in seen.calls
        if call.outcome == "hung"
    ]
    for role, (before, most) in seen.memory.items():
        if most > before + GROWTH_BYTES:
            found.append(Violation("memory", f"{role}: {before >> 20} MiB before, {most >> 20} MiB after"))
    if seen.recovered_s is None:
        found.append(Violation("recovery", "it did not serve again"))
    elif seen.recovered_s > RECOVERY_S:
        found.append(Violation("recovery", f"{seen.recovered_s:.1f} s"))
    if seen.audit is None:
        found.append(Violation("log", "it was not audited"))
    found += [Violation("log", text) for text in seen.audit or ()]
    unclosed = [session for session in log.sessions if log.closes.get(session, 0) != 1]
    if unclosed:
        found.append(Violation("log", f"{len(unclosed)} sessions are not closed once, first {unclosed[0]}"))
    found += [
        Violation("exit", f"status {status}") for status in (*seen.restarted, seen.exit_status) if status != 0
    ]
    found += [Violation("errors", text) for text in seen.errors]
    return found + [Violation("exit", f"left behind: {text}") for text in seen.left]
