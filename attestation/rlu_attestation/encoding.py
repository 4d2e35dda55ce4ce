"""base64url without padding, in its only accepted spelling (FORMATS, conventions)."""

from __future__ import annotations

import base64
import binascii
import re

from rlu_attestation.errors import Malformed

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def b64u(data: bytes) -> str:
    """Encode bytes as base64url without padding (RFC 4648 section 5)."""
    # Half the time of base64.urlsafe_b64encode; statements are full of digests.
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE).rstrip(b"=").decode("ascii")


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
