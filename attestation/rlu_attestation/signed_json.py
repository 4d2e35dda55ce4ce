"""Signed documents between parties who know each other's keys: compact JWS (RFC 7515) over canonical JSON, ES256 or Ed25519 (RFC 9864).

The header is exactly `{"alg","kid","typ"}`; the key that the reader trusts decides the algorithm, the file only has to agree. A document of
one type is never taken for one of another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from rlu_attestation import canonical, jose
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed, RluError, Untrusted
from rlu_attestation.policy_signature import PrivateKey, PublicKey, algorithm, key_id

MAX_TEXT = 16 * 1024
"""Characters of a document, unless the reader allows more."""
SIGNATURE_SIZE = 64


def sign(typ: str, payload: dict[str, Any], key: PrivateKey) -> str:
    """A signed document."""
    public = key.public_key()
    header = canonical.encode({"alg": algorithm(public), "kid": b64u(key_id(public)), "typ": typ})
    signing_input = f"{b64u(header)}.{b64u(canonical.encode(payload))}"
    message = signing_input.encode("ascii")
    if isinstance(key, Ed25519PrivateKey):
        signature = key.sign(message)
    else:
        r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return f"{signing_input}.{b64u(signature)}"


def verify(typ: str, text: str, keys: Iterable[PublicKey], room: str, most: int = MAX_TEXT) -> dict[str, Any]:
    """The payload of a document that one of these keys signed.

    Args:
        room: what codes begin with.
        most: characters that are read.

    Raises:
        Malformed: `<room>.encoding`.
        Untrusted: `<room>.key`, `<room>.signature`.
    """
    named, content, message, signature = _split(typ, text, room, most)
    key = next((one for one in keys if b64u(key_id(one)) == named["kid"]), None)
    if key is None or algorithm(key) != named["alg"]:
        raise Untrusted(f"{room}.key", "it is signed by a key that is not among those trusted for this")
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, message)
        else:
            jose.verify_es256(key, message, signature)
    except (InvalidSignature, Untrusted) as error:
        raise Untrusted(f"{room}.signature", "the signature does not verify: the file was altered") from error
    return content


def peek(typ: str, text: str, room: str, most: int = MAX_TEXT) -> dict[str, Any]:
    """What a document says, without asking who signed it: for people to read.

    Raises:
        Malformed: `<room>.encoding`.
    """
    return _split(typ, text, room, most)[1]


def _split(typ: str, text: str, room: str, most: int) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Header, payload, what is signed, signature."""
    malformed = f"{room}.encoding"
    parts = text.split(".") if len(text) <= most else []
    if len(parts) != 3:
        raise Malformed(malformed, f"not a compact JWS of at most {most} characters")
    try:
        header, payload, signature = (unb64u(part) for part in parts)
        named = canonical.decode(header)
        content = canonical.decode(payload, most)
    except RluError as error:
        raise Malformed(malformed, error.message) from error
    if set(named) != {"alg", "kid", "typ"} or named["typ"] != typ or len(signature) != SIGNATURE_SIZE:
        raise Malformed(malformed, f"the header must have alg, kid and typ, which is {typ}")
    return named, content, f"{parts[0]}.{parts[1]}".encode("ascii"), signature
