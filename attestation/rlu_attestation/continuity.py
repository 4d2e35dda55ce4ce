"""Continuity (FORMATS section 14.1): the key that steps down names the one that follows, and the head of its own log.

It is a word of the old key and of nothing else: what holds the new key is for the new key's own evidence to show. So a thief of the old
key can name a successor, and gains nothing by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlu_attestation import canonical, cose, jose
from rlu_attestation.claims import Members
from rlu_attestation.cose import SignedHead
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed, RluError, Untrusted
from rlu_attestation.instance import issuer

TYPE = "rlu-continuity+jwt"
MAX_CONTINUITY = 8192
_ENCODING = "continuity.encoding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuity:
    """One key's word about the next.

    Attributes:
        jwk: the key that steps down.
        issued_at: seconds since the epoch.
        successor: thumbprint of the key that follows, 32 bytes.
        head: signed head of the old key's log when the new one took over; sessions that were open then go on in the old log.
    """

    jwk: dict[str, str]
    issued_at: int
    successor: bytes
    head: bytes

    @property
    def kid(self) -> bytes:
        """Thumbprint of the key that steps down."""
        return jose.thumbprint(self.jwk)

    @property
    def issuer(self) -> str:
        """Who steps down."""
        return issuer(self.kid)

    def to_json(self) -> dict[str, Any]:
        return {
            "cnf": {"jwk": dict(self.jwk)},
            "iat": self.issued_at,
            "iss": self.issuer,
            "rlu_head": b64u(self.head),
            "rlu_successor": {"iss": issuer(self.successor), "jkt": b64u(self.successor)},
        }

    def signing_input(self) -> bytes:
        """The ASCII bytes whose SHA-256 the old key signs; `jose.jws_assemble` makes the statement of them."""
        header = _header(jose.thumbprint(self.jwk))
        return f"{b64u(header)}.{b64u(canonical.encode(self.to_json()))}".encode("ascii")


def verify(text: str) -> tuple[Continuity, SignedHead]:
    """A continuity statement and the head it names, both signed by the key that it says it is of.

    Raises:
        Malformed: `continuity.encoding`.
        Untrusted: `continuity.kid`: another key signed than the one that steps down; `.invalid`; `.head`.
    """
    try:
        statement, kid, signing_input, signature = _parse(text)
        key = jose.public_key(statement.jwk)
        head = cose.parse_head(statement.head)
    except RluError as error:
        raise Malformed(_ENCODING, error.message) from error
    if kid != jose.thumbprint(statement.jwk):
        raise Untrusted("continuity.kid", "another key signed than the one that steps down")
    try:
        jose.verify_es256(key, signing_input, signature)
    except Untrusted as error:
        raise Untrusted("continuity.invalid", "the old key did not sign this") from error
    try:
        head.verify(key)
    except Untrusted as error:
        raise Untrusted("continuity.head", "the head is not signed by the old key") from error
    if head.issuer != statement.issuer:
        raise Untrusted("continuity.head", "the head is of another instance's log")
    return statement, head


def peek(text: str) -> Continuity:
    """What a statement says, without asking who signed it: for people to read.

    Raises:
        Malformed: `continuity.encoding`.
    """
    try:
        return _parse(text)[0]
    except RluError as error:
        raise Malformed(_ENCODING, error.message) from error


def _parse(text: str) -> tuple[Continuity, bytes, bytes, bytes]:
    parts = text.split(".") if len(text) <= MAX_CONTINUITY else []
    if len(parts) != 3:
        raise Malformed(_ENCODING, "not a compact JWS")
    header, payload, signature = map(unb64u, parts)
    kid = canonical.decode(header).get("kid")
    kid_bytes = unb64u(kid) if isinstance(kid, str) else b""
    if header != _header(kid_bytes) or len(signature) != jose.SIGNATURE_SIZE:
        raise Malformed(_ENCODING, f'the header must be {{"alg":"ES256","kid":thumbprint,"typ":"{TYPE}"}}')
    value = canonical.decode(payload)
    with Members(value, "continuity") as members:
        with members.object("cnf") as cnf:
            jwk = cnf.mapping("jwk")
        jose.public_key(jwk)
        with members.object("rlu_successor") as successor:
            thumbprint = successor.binary("jkt", 32)
            successor.exactly("iss", issuer(thumbprint))
        statement = Continuity(
            jwk=jwk,
            issued_at=members.count("iat"),
            successor=thumbprint,
            head=members.binary("rlu_head"),
        )
        members.exactly("iss", statement.issuer)
    return statement, kid_bytes, f"{parts[0]}.{parts[1]}".encode("ascii"), signature


def _header(kid: bytes) -> bytes:
    return canonical.encode({"alg": "ES256", "kid": b64u(kid), "typ": TYPE})
