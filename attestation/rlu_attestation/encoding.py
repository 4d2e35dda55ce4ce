"""base64url without padding, in its only accepted spelling (FORMATS, conventions)."""

from __future__ import annotations

import base64
import binascii
import re

from rlu_attestation.errors import Malformed

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)


def b64u(data: bytes) -> str:
    """Encode bytes as base64url without padding (RFC 4648 section 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64u(text: str) -> bytes:
    """Decode base64url without padding.

    Raises:
        Malformed: another alphabet, padding, an impossible length, or unused trailing bits that are not zero.
    """
    if not isinstance(text, str) or _ALPHABET.fullmatch(text) is None:
        raise Malformed("encoding.base64url", "not base64url without padding")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise Malformed("encoding.base64url", "not base64url: impossible length") from error
    if b64u(data) != text:
        raise Malformed("encoding.base64url", "not base64url: unused trailing bits are set")
    return data
