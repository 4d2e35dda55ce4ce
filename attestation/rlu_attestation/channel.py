"""The channel between clients and the gateway, as instance and session statements name it (FORMATS sections 3 and 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed

TLS_ORIGINS = ("gateway-memory", "provisioned", "plaintext")


@dataclass(frozen=True, slots=True)
class Channel:
    """How clients reach the gateway: where its TLS key was born, and the digest of its SubjectPublicKeyInfo."""

    origin: str
    spki_sha256: bytes | None

    def to_json(self) -> dict[str, Any]:
        value = {"origin": self.origin}
        return value if self.spki_sha256 is None else {**value, "spki_sha256": b64u(self.spki_sha256)}

    @classmethod
    def read(cls, members: Members, name: str) -> Channel:
        with members.object(name) as inner:
            channel = cls(
                inner.choice("origin", TLS_ORIGINS), inner.optional(inner.binary, "spki_sha256", 32)
            )
        if (channel.origin == "plaintext") != (channel.spki_sha256 is None):
            raise Malformed("statement.claims", f"{name}: a TLS key has an SPKI digest, plain text has none")
        return channel
