"""Keyed commitments to content (FORMATS section 7).

Only holders of the 32-byte key can test a guess, so a receipt or a log entry reveals nothing even about a one-byte prompt.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct

KEY_SIZE = 32
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))
_NUMBERS = struct.Struct(">QQ").pack
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


class SessionCommitter:
    """`commit` for one key and session. What all its commitments share is hashed once (RFC 2104 section 4): a gateway makes three of
    them for every response."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes, session: bytes) -> None:
        if len(key) != KEY_SIZE or len(session) != 16:
            raise ValueError("a commitment takes a 32-byte key and a 16-byte session id")
        block = key.ljust(64, b"\x00")
        self._outer = hashlib.sha256(block.translate(_OUTER_PAD))
        self._inner = {}
        for tag in (Tag.REQUEST, Tag.RESPONSE, Tag.FORWARDED):
            shared = b"rlu/commitment/v1\x00" + tag.value + session
            self._inner[tag] = hashlib.sha256(block.translate(_INNER_PAD) + shared)

    def commit(self, tag: Tag, seq: int, length: int, digest: bytes) -> bytes:
        """The same bytes as `commit` with this key and session."""
        if len(digest) != 32:
            raise ValueError("a commitment takes a 32-byte digest")
        inner = self._inner[tag].copy()
        inner.update(_NUMBERS(seq, length) + digest)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


def key_digest(key: bytes) -> bytes:
    """What the session statement says of the key: H("rlu/commitment-key/v1" ‖ 0x00 ‖ key)."""
    if len(key) != KEY_SIZE:
        raise ValueError("a commitment key has 32 bytes")
    return hashlib.sha256(b"rlu/commitment-key/v1\x00" + key).digest()
