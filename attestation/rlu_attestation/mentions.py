"""What an instance statement mentions of other documents (FORMATS section 3): their digests, and the one thing worth knowing of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u

CANARY_RESULTS = ("clean", "incomplete", "leak")


@dataclass(frozen=True, slots=True)
class CanaryMention:
    """The last canary test that this attestor took over: SHA-256 of the report (`canary.py`), when, and its result."""

    digest: bytes
    issued_at: int
    result: str

    def to_json(self) -> dict[str, Any]:
        return {"digest": b64u(self.digest), "iat": self.issued_at, "result": self.result}

    @classmethod
    def read(cls, members: Members, name: str) -> CanaryMention:
        with members.object(name) as inner:
            return cls(inner.binary("digest", 32), inner.count("iat"), inner.choice("result", CANARY_RESULTS))


@dataclass(frozen=True, slots=True)
class LicenceMention:
    """The vendor's licence that this attestor verified: SHA-256 of the file, and when it ends."""

    digest: bytes
    expires_at: int

    def to_json(self) -> dict[str, Any]:
        return {"digest": b64u(self.digest), "exp": self.expires_at}

    @classmethod
    def read(cls, members: Members, name: str) -> LicenceMention:
        with members.object(name) as inner:
            return cls(inner.binary("digest", 32), inner.count("exp"))
