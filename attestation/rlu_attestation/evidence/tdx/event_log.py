"""The firmware's log of what it extended into the RTMRs (CCEL: UEFI 2.10 section 38, TCG crypto-agile form), and its replay.

Register 0 of the log is MRTD, 1 to 4 are RTMR 0 to 3. A replay proves that the digests of the log lead to the values in the quote; what an
event's data says is the log's own word. RTMR 0 to 2 are the firmware's and what it starts: a log must account for all of them. What
software extends later belongs into RTMR 3, and is in no firmware log.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlu_attestation.errors import Malformed, Untrusted
from rlu_attestation.evidence.tdx.item import TdxEvidence
from rlu_attestation.tpm import eventlog
from rlu_attestation.tpm.constants import Alg
from rlu_attestation.tpm.eventlog import EV_NO_ACTION, EventLog

CODE = "tdx.event_log.encoding"
_MRTD, _RTMRS = 0, 4
_FIRMWARE = frozenset(range(3))


@dataclass(frozen=True, slots=True)
class Replay:
    """A log that leads to the quoted values; `covered` are the numbers of the RTMRs that it accounts for."""

    log: EventLog
    covered: tuple[int, ...]


def parse_event_log(data: bytes) -> EventLog:
    """Read a log, without the padding of the ACPI area it lies in.

    Raises:
        Malformed: `tdx.event_log.encoding`.
    """
    # The first event only describes the log. Firmware for TDs puts it into register 1, others into 0; a TPM's log has it in PCR 0.
    head = data[:4]
    if head not in (b"\x00\x00\x00\x00", b"\x01\x00\x00\x00"):
        raise Malformed(CODE, "the log does not begin with a description of itself in register 0 or 1")
    try:
        log = eventlog.parse(bytes(len(head)) + data[len(head) :])
    except Malformed as error:
        raise Malformed(CODE, error.message) from error
    if Alg.SHA384 not in log.algorithms:
        raise Malformed(CODE, "the log has no SHA-384 digests, which RTMRs are extended with")
    for event in log.events:
        if event.event_type != EV_NO_ACTION and not _MRTD < event.pcr <= _RTMRS:
            raise Malformed(CODE, f"an event extends register {event.pcr}, which is no RTMR")
    return log


def verify_event_log(evidence: TdxEvidence) -> Replay:
    """tdx.event_log: the log leads to the quoted value of RTMR 0 to 2, and of RTMR 3 if it extends it.

    Raises:
        Untrusted: `tdx.event_log.missing`, `.mismatch`, `.empty`.
        Malformed: `tdx.event_log.encoding`.
    """
    step = "tdx.event_log"
    if evidence.event_log is None:
        raise Untrusted(f"{step}.missing", "no event log is stapled to the quote")
    log = parse_event_log(evidence.event_log)
    extended = {event.pcr - 1 for event in log.events if event.event_type != EV_NO_ACTION}
    if not extended:
        raise Untrusted(f"{step}.empty", "the event log extends no RTMR")
    covered = sorted(_FIRMWARE | extended)
    values = eventlog.replay(log, Alg.SHA384)
    wrong = [number for number in covered if values[number + 1] != evidence.quote.report.rtmr[number]]
    if wrong:
        names = ", ".join(f"RTMR{number}" for number in wrong)
        raise Untrusted(f"{step}.mismatch", f"the event log does not lead to {names}")
    return Replay(log, tuple(covered))
