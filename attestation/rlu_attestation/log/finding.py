"""What an audit can find, by stable code, and what each means. Every finding rejects (exit code 10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlu_attestation.encoding import b64u

FINDINGS = {
    "log.head.invalid": "a head is not signed by the instance whose log this is, or cannot be read",
    "log.fork": "two histories were signed: the log does not extend what was seen of it before",
    "log.shrunk": "the log has fewer entries than were seen of it before",
    "log.gap": "entries are missing",
    "log.rewritten": "entries are not those that were signed",
    "log.reordered": "entries do not stand in the order in which they were signed",
    "log.truncated": "the end of a file is missing, or something was left behind it",
    "log.unproven": "the server does not prove that the log extends what was seen of it before",
    "log.stalled": "the latest head is too old, or does not cover what was signed",
    "log.clock": "heads go back in time, or come from the future",
    "log.predecessor": "another instance, which does not follow the one that was seen before",
    "log.start_counter": "the counter of the attestor's starts went back",
    "log.split_view": "another observer was shown another log",
    "log.files": "a file is not one of a log",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: a key of `FINDINGS`.
        detail: what exactly, in words.
        evidence: signed heads and receipts that show it to a third party.
    """

    code: str
    detail: str
    evidence: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.code not in FINDINGS:
            raise ValueError(self.code)

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"code": self.code, "meaning": FINDINGS[self.code], "detail": self.detail}
        if self.evidence:
            value["evidence"] = [b64u(item) for item in self.evidence]
        return value
