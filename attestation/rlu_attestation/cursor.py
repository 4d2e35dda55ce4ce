"""The one way binary input is read: a bounded cursor.

Short input, oversize input, reserved bytes that are not zero and leftovers refuse with `Malformed`, under the code that the caller names
for its structure. Nothing is padded, cut or skipped silently. Readers take the field's name, so that a refusal says where it happened.
"""

from __future__ import annotations

from rlu_attestation.errors import Malformed


class Cursor:
    """Reads one byte string front to back.

    Args:
        data: the bytes to read.
        code: stable code of every refusal, such as `tpm2.public`.
        max_bytes: more input than this refuses at once.
    """

    __slots__ = ("_data", "_position", "code")

    def __init__(self, data: bytes, code: str, max_bytes: int) -> None:
        if not isinstance(data, bytes):
            raise TypeError("a cursor reads bytes")
        self.code = code
        self._data = data
        self._position = 0
        if len(data) > max_bytes:
            raise self.malformed(f"{len(data)} bytes, at most {max_bytes} are accepted")

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._position

    @property
    def remaining(self) -> int:
        """Bytes not yet read."""
        return len(self._data) - self._position

    def malformed(self, reason: str) -> Malformed:
        """The refusal to raise for this structure."""
        return Malformed(self.code, reason)

    def take(self, size: int, field: str) -> bytes:
        """Exactly `size` bytes."""
        if size < 0 or size > self.remaining:
            raise self.malformed(
                f"{field} needs {size} bytes at offset {self._position}, {self.remaining} are left"
            )
        start = self._position
        self._position = start + size
        return self._data[start : self._position]

    def peek(self) -> int | None:
        """The next byte without reading it; None at the end."""
        return self._data[self._position] if self.remaining else None

    def since(self, start: int) -> bytes:
        """The bytes already read from an earlier `position` up to this one."""
        return self._data[start : self._position]

    def u8(self, field: str) -> int:
        return self.take(1, field)[0]

    def u16(self, field: str) -> int:
        """Two bytes, big endian."""
        return int.from_bytes(self.take(2, field), "big")

    def u32(self, field: str) -> int:
        """Four bytes, big endian."""
        return int.from_bytes(self.take(4, field), "big")

    def u64(self, field: str) -> int:
        """Eight bytes, big endian."""
        return int.from_bytes(self.take(8, field), "big")

    def u16_le(self, field: str) -> int:
        """Two bytes, little endian."""
        return int.from_bytes(self.take(2, field), "little")

    def u32_le(self, field: str) -> int:
        """Four bytes, little endian."""
        return int.from_bytes(self.take(4, field), "little")

    def u64_le(self, field: str) -> int:
        """Eight bytes, little endian."""
        return int.from_bytes(self.take(8, field), "little")

    def sized16(self, field: str, max_bytes: int) -> bytes:
        """A big-endian 16-bit length and that many bytes (the TPM's `TPM2B_…`)."""
        size = self.u16(field)
        if size > max_bytes:
            raise self.malformed(f"{field} has {size} bytes, at most {max_bytes} are allowed")
        return self.take(size, field)

    def reserved(self, size: int, field: str) -> None:
        """Bytes that the specification reserves: they must be zero."""
        if any(self.take(size, field)):
            raise self.malformed(f"{field} is reserved and not zero")

    def end(self) -> None:
        """Everything must have been read."""
        if self.remaining:
            raise self.malformed(f"{self.remaining} bytes are left over at offset {self._position}")
