"""Keyed commitments to content (FORMATS section 7).

Only holders of the 32-byte key can test a guess, so a receipt or a log entry reveals nothing even about a one-byte prompt.
"""

from __future__ import annotations

import enum
import hashlib
import hmac

KEY_SIZE = 32
OPENING_SESSION = bytes(16)
"""Stands for the session id in an opening commitment, which is made before the id exists."""


class Tag(bytes, enum.Enum):
    """What a commitment is over."""

    REQUEST = b"\x01"
    RESPONSE = b"\x02"
    FORWARDED = b"\x03"
    OPENING = b"\x04"


def commit(key: bytes, tag: Tag, session: bytes, seq: int, length: int, digest: bytes) -> bytes:
    """Commit to `length` bytes of content whose SHA-256 is `digest`.

    Args:
        key: the session's commitment key, 32 bytes.
        session: the session id's 16 bytes.
        seq: the exchange's number in its session.
    """
    if len(key) != KEY_SIZE or len(session) != 16 or len(digest) != 32:
        raise ValueError("a commitment takes a 32-byte key, a 16-byte session id and a 32-byte digest")
    message = b"".join(
        (
            b"rlu/commitment/v1\x00",
            tag.value,
            session,
            seq.to_bytes(8, "big"),
            length.to_bytes(8, "big"),
            digest,
        )
    )
    return hmac.digest(key, message, "sha256")


def key_digest(key: bytes) -> bytes:
    """What the session statement says of the key: H("rlu/commitment-key/v1" ‖ 0x00 ‖ key)."""
    if len(key) != KEY_SIZE:
        raise ValueError("a commitment key has 32 bytes")
    return hashlib.sha256(b"rlu/commitment-key/v1\x00" + key).digest()
