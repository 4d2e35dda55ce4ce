"""Cuts a stream of server-sent events into blocks, verbatim: the blocks joined are the stream, byte for byte.

The stream is read as the strictest reader of it might read it. A block ends at the first empty line; lines end in LF or CRLF. What another
reader could understand differently (a CR alone, a second `data` or `event` line, a field with another name, a byte order mark) does not
stop the cutting, but makes the block `odd`, and who decides by a block's meaning must not decide by an odd one's.
(WHATWG HTML section 9.2.6 allows more than is called plain here.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlu_attestation.connect.errors import Unproven

MAX_BLOCK = 32 * 1024 * 1024
_EMPTY_LINE = re.compile(rb"\n\r?\n")


@dataclass(frozen=True, slots=True)
class Block:
    """One event with its final empty line, as it came.

    Attributes:
        event: the `event` field, empty if absent.
        data: the `data` field, `None` if absent.
        odd: readers could differ about it; `event` and `data` are then not set.
    """

    raw: bytes
    event: str = ""
    data: bytes | None = None
    odd: bool = False


class Splitter:
    """Fed with the stream as it comes, in whatever pieces."""

    __slots__ = ("_looked", "_rest")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._looked = 0

    @property
    def rest(self) -> bytes:
        """What came since the last complete block."""
        return bytes(self._rest)

    def feed(self, data: bytes) -> list[Block]:
        """The blocks that these bytes complete.

        Raises:
            Unproven: `response.too_large`: a block without end.
        """
        rest = self._rest
        rest += data
        blocks: list[Block] = []
        start = 0
        while (end := self._end(start)) > 0:
            blocks.append(_block(bytes(rest[start:end])))
            start = self._looked = end
        del rest[:start]
        # The end of a block may be split over two pieces.
        self._looked = max(len(rest) - 3, 0)
        if len(rest) > MAX_BLOCK:
            raise Unproven("response.too_large", f"an event of the answer is longer than {MAX_BLOCK} bytes")
        return blocks

    def _end(self, start: int) -> int:
        """Where the block that begins at `start` ends, 0 if it does not yet."""
        found = _EMPTY_LINE.search(self._rest, max(self._looked, start))
        return 0 if found is None else found.end()


def _block(raw: bytes) -> Block:
    event: str | None = None
    data: bytes | None = None
    for line in raw.replace(b"\r\n", b"\n").split(b"\n"):
        if not line or (line.startswith(b":") and b"\r" not in line):
            continue
        name, colon, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if b"\r" in line or not colon:
            return Block(raw, odd=True)
        if name == b"data" and data is None:
            data = value
        elif name == b"event" and event is None and value.isascii():
            event = value.decode("ascii")
        else:
            return Block(raw, odd=True)
    return Block(raw, event or "", data)
