"""A revoked instance key: since when it is not to be believed, and up to which head of its log it still is (FORMATS section 14.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlu_attestation import cose
from rlu_attestation.claims import Members
from rlu_attestation.cose import SignedHead
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed

REASONS = ("compromise", "lost", "retired", "superseded")
UEID_SIZE, UEID_TYPE = 33, 1
_ENCODING = "revocations.encoding"


@dataclass(frozen=True, slots=True)
class Revocation:
    """A key that is not believed any more.

    Attributes:
        ueid: of the key.
        reason: one of `REASONS`.
        time: since when, in seconds since the epoch.
        last_good: head of its log up to which it is still believed; None: nothing of it is.
    """

    ueid: str
    reason: str
    time: int
    last_good: SignedHead | None = None

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"reason": self.reason, "time": self.time, "ueid": self.ueid}
        if self.last_good is not None:
            head = self.last_good
            value["last_good"] = b64u(cose.assemble_head(head.protected, head.root, head.signature))
        return value


def read(value: object) -> Revocation:
    """An entry of a list.

    Raises:
        Malformed: it is not of its form.
    """
    with Members(value, "revocation") as members:
        ueid = check_ueid(members.text("ueid"))
        reason, time = members.choice("reason", REASONS), members.count("time")
        encoded = members.optional(members.binary, "last_good")
    head = None if encoded is None else cose.parse_head(encoded)
    if head is not None and head.issuer.rpartition(":")[2] != ueid:
        raise Malformed(_ENCODING, "last_good is a head of another instance")
    return Revocation(ueid, reason, time, head)


def check_ueid(text: str) -> str:
    """The `ueid` of an instance key.

    Raises:
        Malformed: `revocations.encoding`.
    """
    raw = unb64u(text)
    if len(raw) != UEID_SIZE or raw[0] != UEID_TYPE:
        raise Malformed(_ENCODING, f"{text[:64]} is no ueid of an instance")
    return text
