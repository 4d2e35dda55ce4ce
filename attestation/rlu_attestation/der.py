"""A strict reader for DER (X.690): single-byte tags, definite minimal lengths, nothing left over.

It exists because X.509 certificates that TPM vendors really issued (a SET that is not sorted, serial number 0) are refused as a whole by
`cryptography`'s certificate loader, although nothing that decides trust is wrong with them. Names are never taken apart here, they are
compared as bytes; everything else is as strict as DER asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from rlu_attestation.cursor import Cursor

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31
MAX_OID, MAX_INTEGER = 128, 64
"""Bytes. Longer ones occur in no certificate; they would cost quadratic time, and have more digits than Python writes."""
_DIGITS = frozenset(b"0123456789")


def context(number: int, *, constructed: bool = True) -> int:
    """The tag byte of a context-specific tag."""
    return (0xA0 if constructed else 0x80) | number


@dataclass(frozen=True, slots=True)
class Element:
    """One tag-length-value; `raw` is all of it, `content` the value."""

    tag: int
    content: bytes
    raw: bytes


class Reader:
    """Reads the elements inside some DER content, in order."""

    __slots__ = ("_cursor", "_max", "code")

    def __init__(self, data: bytes, code: str, max_bytes: int) -> None:
        self.code = code
        self._max = max_bytes
        self._cursor = Cursor(data, code, max_bytes)

    @property
    def remaining(self) -> int:
        return self._cursor.remaining

    def next_is(self, tag: int) -> bool:
        """Whether another element follows and has this tag."""
        return self._cursor.peek() == tag

    def any(self, field: str) -> Element:
        """The next element, whatever its tag."""
        start = self._cursor.position
        tag = self._cursor.u8(field)
        if tag & 0x1F == 0x1F:
            raise self._cursor.malformed(f"{field}: multi-byte tags are not accepted")
        content = self._cursor.take(self._length(field), field)
        return Element(tag, content, self._cursor.since(start))

    def element(self, tag: int, field: str) -> Element:
        """The next element, which must have this tag."""
        found = self.any(field)
        if found.tag != tag:
            raise self._cursor.malformed(f"{field}: tag 0x{found.tag:02x} where 0x{tag:02x} belongs")
        return found

    def inside(self, tag: int, field: str) -> Reader:
        """A reader for the content of the next element."""
        return Reader(self.element(tag, field).content, self.code, self._max)

    def oid(self, field: str) -> str:
        """An object identifier in dotted form."""
        content = self.element(OID, field).content
        if len(content) > MAX_OID:
            raise self._cursor.malformed(f"{field}: an object identifier of more than {MAX_OID} bytes")
        arcs: list[int] = []
        value = 0
        for position, byte in enumerate(content):
            if value == 0 and byte == 0x80:
                raise self._cursor.malformed(f"{field}: an arc with leading zeros")
            value = value << 7 | byte & 0x7F
            if byte & 0x80:
                if position + 1 == len(content):
                    raise self._cursor.malformed(f"{field}: the last arc is cut")
                continue
            arcs.append(value)
            value = 0
        if not arcs:
            raise self._cursor.malformed(f"{field}: an empty object identifier")
        first = min(arcs[0] // 40, 2)
        return ".".join(map(str, [first, arcs[0] - 40 * first, *arcs[1:]]))

    def integer(self, field: str) -> int:
        """A minimal two's complement integer of at most 64 bytes."""
        content = self.element(INTEGER, field).content
        if len(content) > MAX_INTEGER:
            raise self._cursor.malformed(f"{field}: an integer of more than {MAX_INTEGER} bytes")
        if not content or (
            len(content) > 1
            and ((content[0] == 0 and content[1] < 0x80) or (content[0] == 0xFF and content[1] >= 0x80))
        ):
            raise self._cursor.malformed(f"{field}: not a minimal integer")
        return int.from_bytes(content, "big", signed=True)

    def boolean(self, field: str) -> bool:
        content = self.element(BOOLEAN, field).content
        if content not in (b"\x00", b"\xff"):
            raise self._cursor.malformed(f"{field}: a boolean is 00 or ff")
        return content == b"\xff"

    def bit_string(self, field: str) -> tuple[bytes, int]:
        """The bytes of a bit string and the number of unused bits at its end, which must be zero."""
        content = self.element(BIT_STRING, field).content
        if (
            not content
            or content[0] > 7
            or (content[0] and (len(content) == 1 or content[-1] & ((1 << content[0]) - 1)))
        ):
            raise self._cursor.malformed(f"{field}: not a bit string")
        return content[1:], content[0]

    def time(self, field: str) -> datetime:
        """UTCTime or GeneralizedTime to the second, in UTC (RFC 5280 section 4.1.2.5)."""
        found = self.any(field)
        size = {UTC_TIME: 13, GENERALIZED_TIME: 15}.get(found.tag)
        if (
            size is None
            or len(found.content) != size
            or found.content[-1:] != b"Z"
            or not _DIGITS.issuperset(found.content[:-1])
        ):
            raise self._cursor.malformed(f"{field}: not a time in UTC to the second")
        text = found.content[:-1].decode("ascii")
        if found.tag == UTC_TIME:
            text = ("20" if int(text[:2]) < 50 else "19") + text
        try:
            return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
        except ValueError as error:
            raise self._cursor.malformed(f"{field}: no such time") from error

    def end(self) -> None:
        """Nothing may be left."""
        self._cursor.end()

    def _length(self, field: str) -> int:
        first = self._cursor.u8(field)
        if first < 0x80:
            return first
        octets = first & 0x7F
        if not 1 <= octets <= 4:
            raise self._cursor.malformed(f"{field}: indefinite or oversize length")
        length = int.from_bytes(self._cursor.take(octets, field), "big")
        if length < 0x80 or length >> 8 * (octets - 1) == 0:
            raise self._cursor.malformed(f"{field}: the length is not minimal")
        return length
