"""The firmware's event log, crypto-agile form, and its replay (TCG PC Client Platform Firmware Profile 1.06, section 10).

A replay proves that the *digests* of the log lead to the quoted PCR values. What an event's data says is proved only where its digest is
the digest of the data, which depends on the event's type; `Event.data` is the log's own word otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlu_attestation.cursor import Cursor
from rlu_attestation.errors import Untrusted
from rlu_attestation.tpm.constants import BANKS, Alg, digest, digest_size

MAX_LOG = 192 * 1024
EV_NO_ACTION = 0x00000003
_CODE = "tpm2.event_log"
_SPEC_ID = b"Spec ID Event03\x00"
_STARTUP_LOCALITY = b"StartupLocality\x00"
_MAX_ALGORITHMS = 8
_PCRS = 24
_FIRMWARE = range(8)
"""PCRs that only the platform's firmware and what it starts extend, all of it logged: one without events still has its first value."""
_DYNAMIC = range(17, 23)
"""PCRs of the dynamic root of trust, which start with all bits set (PC Client Platform TPM Profile section 4.6)."""


@dataclass(frozen=True, slots=True)
class Event:
    """TCG_PCR_EVENT2: `digests` by algorithm, `data` as logged."""

    pcr: int
    event_type: int
    digests: Mapping[Alg, bytes]
    data: bytes


@dataclass(frozen=True, slots=True)
class EventLog:
    """A parsed log: the hash algorithms it carries (known ones), its events, and the locality that the TPM was started from."""

    algorithms: tuple[Alg, ...]
    events: tuple[Event, ...]
    startup_locality: int


@dataclass(frozen=True, slots=True)
class Replay:
    """A log that leads to the quoted values; `covered` are the PCRs, by bank, that it accounts for."""

    log: EventLog
    covered: Mapping[str, tuple[int, ...]]


def parse(data: bytes) -> EventLog:
    """Read a log: the Spec ID event, then crypto-agile events.

    Raises:
        Malformed: `tpm2.event_log`.
    """
    cursor = Cursor(data, _CODE, MAX_LOG)
    algorithms, sizes = _spec_id(cursor)
    events: list[Event] = []
    while cursor.remaining:
        events.append(_event(cursor, sizes))
    return EventLog(algorithms, tuple(events), _startup_locality(cursor, events))


def replay(log: EventLog, bank: Alg) -> dict[int, bytes]:
    """Values of PCR 0 to 7 and of the others that the log extends, in one of its banks."""
    size = digest_size(bank)
    values = {pcr: bytes(size - 1) + bytes([log.startup_locality if pcr == 0 else 0]) for pcr in _FIRMWARE}
    for event in log.events:
        if event.event_type == EV_NO_ACTION:
            continue
        start = values.get(event.pcr, b"\xff" * size if event.pcr in _DYNAMIC else bytes(size))
        values[event.pcr] = digest(bank, start + event.digests[bank])
    return values


def verify_replay(log: EventLog, pcrs: Mapping[str, Mapping[int, bytes]]) -> Replay:
    """Compare a log with PCR values: every quoted PCR of 0 to 7, and every other that the log extends, must have the replayed value.

    Further PCRs that the log does not mention (IMA's, the operating system's) are not judged here.

    Raises:
        Untrusted: `quote.eventlog.mismatch`, naming the PCRs; `quote.eventlog.uncovered` when the log accounts for none of them.
    """
    covered: dict[str, tuple[int, ...]] = {}
    wrong: list[str] = []
    for algorithm in log.algorithms:
        quoted = pcrs.get(BANKS[algorithm], {})
        values = replay(log, algorithm) if quoted else {}
        both = sorted(quoted.keys() & values.keys())
        wrong += [f"{BANKS[algorithm]}:{number}" for number in both if quoted[number] != values[number]]
        if both:
            covered[BANKS[algorithm]] = tuple(both)
    if wrong:
        raise Untrusted("quote.eventlog.mismatch", f"the event log does not lead to PCR {', '.join(wrong)}")
    if not covered:
        raise Untrusted("quote.eventlog.uncovered", "the event log accounts for none of the quoted PCRs")
    return Replay(log, covered)


def _startup_locality(cursor: Cursor, events: Sequence[Event]) -> int:
    """What PCR 0 starts with; the event that says so comes before any that extends PCR 0."""
    locality = 0
    extended = seen = False
    for event in events:
        if event.pcr != 0:
            continue
        if event.event_type != EV_NO_ACTION:
            extended = True
        elif event.data.startswith(_STARTUP_LOCALITY):
            if extended or seen or len(event.data) != len(_STARTUP_LOCALITY) + 1:
                raise cursor.malformed(
                    "the StartupLocality event is misplaced, repeated or has the wrong size"
                )
            locality, seen = event.data[-1], True
    return locality


def _spec_id(cursor: Cursor) -> tuple[tuple[Alg, ...], dict[int, int]]:
    """TCG_PCClientPCREvent with TCG_EfiSpecIDEvent, which lists the digests that every later event carries."""
    if cursor.u32_le("pcrIndex") != 0 or cursor.u32_le("eventType") != EV_NO_ACTION:
        raise cursor.malformed("the log does not begin with EV_NO_ACTION in PCR 0")
    cursor.reserved(20, "digest")
    size = cursor.u32_le("eventDataSize")
    body = Cursor(cursor.take(size, "event"), _CODE, MAX_LOG)
    if body.take(16, "signature") != _SPEC_ID:
        raise cursor.malformed("the log is not crypto-agile: no Spec ID Event03")
    body.take(8, "platformClass, specVersion, errata, uintnSize")
    count = body.u32_le("numberOfAlgorithms")
    if not 1 <= count <= _MAX_ALGORITHMS:
        raise cursor.malformed("the number of algorithms is out of range")
    sizes: dict[int, int] = {}
    for _ in range(count):
        algorithm, length = body.u16_le("algorithmId"), body.u16_le("digestSize")
        if algorithm in sizes or not 0 < length <= 64:
            raise cursor.malformed("an algorithm is listed twice or with an impossible size")
        sizes[algorithm] = length
    body.take(body.u8("vendorInfoSize"), "vendorInfo")
    body.end()
    known = tuple(bank for bank in BANKS if bank.value in sizes)
    if any(sizes[bank.value] != digest_size(bank) for bank in known):
        raise cursor.malformed("a digest size is not its algorithm's")
    return known, sizes


def _event(cursor: Cursor, sizes: Mapping[int, int]) -> Event:
    pcr, event_type = cursor.u32_le("pcrIndex"), cursor.u32_le("eventType")
    if pcr >= _PCRS:
        raise cursor.malformed(f"PCR {pcr} does not exist")
    count = cursor.u32_le("digests.count")
    if count != len(sizes):
        raise cursor.malformed("an event does not carry every digest of the log")
    seen: dict[int, bytes] = {}
    for _ in range(count):
        algorithm = cursor.u16_le("digests.algorithm")
        if algorithm not in sizes or algorithm in seen:
            raise cursor.malformed("an event's digest is of an unlisted algorithm, or given twice")
        seen[algorithm] = cursor.take(sizes[algorithm], "digests.digest")
    data = cursor.take(cursor.u32_le("eventSize"), "event")
    return Event(pcr, event_type, {bank: seen[bank.value] for bank in BANKS if bank.value in seen}, data)
