"""ES256 keys and signatures in JOSE form: JWK, thumbprint, compact JWS (RFC 7515, 7517, 7638).

There is one algorithm and one header; nothing is negotiated, so there is nothing to confuse. Signing is split in two
(`jws_signing_input`, `jws_assemble`) because the private key lives in hardware.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from rlu_attestation import canonical
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed, Untrusted

SIGNATURE_SIZE = 64
MAX_JWS = 128 * 1024
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def public_jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """The JWK of a P-256 public key, with the members a thumbprint needs and no others."""
    numbers = key.public_numbers()
    if not isinstance(numbers.curve, ec.SECP256R1):
        raise ValueError("instance keys are on P-256")
    return {
        "crv": "P-256",
        "kty": "EC",
        "x": b64u(numbers.x.to_bytes(32, "big")),
        "y": b64u(numbers.y.to_bytes(32, "big")),
    }


def public_key(jwk: Mapping[str, Any]) -> ec.EllipticCurvePublicKey:
    """The key of a JWK.

    Raises:
        Malformed: other members, another curve, or a point that is not on it.
    """
    if set(jwk) != {"crv", "kty", "x", "y"} or jwk["crv"] != "P-256" or jwk["kty"] != "EC":
        raise Malformed("key.jwk", "expected exactly crv P-256, kty EC, x and y")
    x, y = unb64u(jwk["x"]), unb64u(jwk["y"])
    if len(x) != 32 or len(y) != 32:
        raise Malformed("key.jwk", "coordinates have 32 bytes")
    try:
        return ec.EllipticCurvePublicNumbers(
            int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
        ).public_key()
    except ValueError as error:
        raise Malformed("key.jwk", "the point is not on P-256") from error


def thumbprint(jwk: Mapping[str, Any]) -> bytes:
    """RFC 7638 SHA-256 thumbprint, 32 bytes."""
    members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    return hashlib.sha256(canonical.encode(members)).digest()


@dataclass(frozen=True, slots=True)
class Jws:
    """A compact JWS taken apart; the signature is *not* yet verified."""

    kid: bytes
    payload: bytes
    signing_input: bytes
    signature: bytes


def jws_signing_input(kid: bytes, payload: bytes) -> bytes:
    """The ASCII bytes whose SHA-256 the key signs."""
    return f"{b64u(_header(kid))}.{b64u(payload)}".encode("ascii")


def jws_assemble(signing_input: bytes, signature: bytes) -> str:
    """Append the raw signature (r ‖ s, 64 bytes)."""
    if len(signature) != SIGNATURE_SIZE:
        raise ValueError("an ES256 signature has 64 bytes")
    return f"{signing_input.decode('ascii')}.{b64u(signature)}"


def jws_parse(text: str) -> Jws:
    """Take a compact JWS apart.

    Raises:
        Malformed: not three parts, too long, or a header other than the one header that FORMATS section 3 allows.
    """
    parts = text.split(".") if isinstance(text, str) and len(text) <= MAX_JWS else []
    if len(parts) != 3:
        raise Malformed("statement.encoding", "not a compact JWS")
    header, payload, signature = (unb64u(part) for part in parts)
    kid = canonical.decode(header).get("kid")
    kid_bytes = unb64u(kid) if isinstance(kid, str) else b""
    if len(kid_bytes) != 32 or header != _header(kid_bytes):
        raise Malformed(
            "statement.header", 'the header must be {"alg":"ES256","kid":thumbprint,"typ":"eat+jwt"}'
        )
    if len(signature) != SIGNATURE_SIZE:
        raise Malformed("statement.encoding", "an ES256 signature has 64 bytes")
    return Jws(kid_bytes, payload, f"{parts[0]}.{parts[1]}".encode("ascii"), signature)


def verify_es256(key: ec.EllipticCurvePublicKey, message: bytes, signature: bytes) -> None:
    """Verify a raw ES256 signature over a message.

    Raises:
        Untrusted: it does not verify (`signature.invalid`).
    """
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        if len(signature) != SIGNATURE_SIZE or not (0 < r < P256_ORDER and 0 < s < P256_ORDER):
            raise InvalidSignature
        key.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise Untrusted(
            "signature.invalid", "the ES256 signature does not verify under the instance key"
        ) from error


def _header(kid: bytes) -> bytes:
    return canonical.encode({"alg": "ES256", "kid": b64u(kid), "typ": "eat+jwt"})
