"""The entry that says which part of the log an exporter did not get (FORMATS section 11.4)."""

from __future__ import annotations

from dataclasses import dataclass

from rlu_attestation import canonical
from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed

GAP_PROFILE = "tag:rlu.internal,2026:gap#1"
BLIND_SIZE = 16


@dataclass(frozen=True, slots=True)
class Gap:
    """The leaves from `first` up to, and not including, `next` were not exported in time. `next` is the entry's own index."""

    issuer: str
    issued_at: int
    first: int
    next: int
    blind: bytes

    def encode(self) -> bytes:
        """Canonical bytes; their leaf hash goes into the log."""
        return canonical.encode(
            {
                "eat_profile": GAP_PROFILE,
                "iat": self.issued_at,
                "iss": self.issuer,
                "rlu_blind": b64u(self.blind),
                "rlu_first": self.first,
                "rlu_next": self.next,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Gap:
        """Raises Malformed for anything but a canonical gap statement."""
        with Members(canonical.decode(data), "gap statement") as members:
            members.exactly("eat_profile", GAP_PROFILE)
            gap = cls(
                members.text("iss"),
                members.count("iat"),
                members.count("rlu_first"),
                members.count("rlu_next"),
                members.binary("rlu_blind", BLIND_SIZE),
            )
        if gap.first >= gap.next:
            raise Malformed("statement.claims", "a gap has at least one entry")
        return gap
