"""Readers that watch an answer go by: did it end in the ordinary way, and how many tokens did it use?

They are fed the bytes *after* these were relayed, in whatever pieces they came, and cannot fail or hold anything back. Two rules make
the result independent of how the stream was cut: the state is a fold over complete lines, and whether a line matters is decided by
that line alone. Lines end in LF or CRLF (a lone CR, which nobody sends, is not a line end here); comments and unknown fields pass by.
Only lines with one of a few marks in them are parsed, because an agent's stream is thousands of lines of which two or three matter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from rlu_server.core import usage
from rlu_server.core.routes import Api
from rlu_server.core.usage import End, Usage

MAX_LINE = 8 * 1024 * 1024
"""Longer lines are not parsed; only the type at their end is looked at."""
MAX_DOCUMENT = 2 * 1024 * 1024
TAIL = 4096

_USAGE_MARKS = (b'"usage":{', b'"usage": {')
_MARKS: dict[Api, tuple[bytes, ...]] = {
    Api.CHAT: (b"[DONE]", b'"error"', *_USAGE_MARKS),
    Api.COMPLETIONS: (b"[DONE]", b'"error"', *_USAGE_MARKS),
    Api.RESPONSES: (b"response.completed", b"response.incomplete", b"response.failed", b'"error"'),
    Api.MESSAGES: (b"message_stop", b"message_start", b"message_delta", b'"error"'),
}
_ORDINARY = frozenset({"response.completed", "response.incomplete", "message_stop"})
_FAILED = frozenset({"response.failed", "error"})
_TYPE_AT_END = re.compile(rb'"type":\s*"([a-z_.]+)"\s*\}\s*$')


class Reader(Protocol):
    """Watches one answer.

    Attributes:
        answer: once an answer of the Responses API has ended in the ordinary way, its response object; only if it was asked for.
    """

    usage: Usage | None
    answer: bytes | None

    def feed(self, data: bytes) -> None: ...

    def end(self) -> End:
        """What the content says, once it has ended or was cut."""

    def at_boundary(self) -> bool:
        """Could an error event be appended without breaking an event in two?"""


def reader(api: Api, content_type: str, *, wanted: bool = False) -> Reader:
    """The reader for an answer with this media type.

    Args:
        wanted: the response object itself, too.
    """
    if content_type.startswith("text/event-stream"):
        return StreamReader(api, wanted=wanted)
    return DocumentReader(api, wanted=wanted)


class StreamReader:
    """Server-sent events."""

    __slots__ = ("_carried", "_carry", "_done", "_failed", "_last", "_marks", "_wanted", "answer", "usage")

    def __init__(self, api: Api, *, wanted: bool = False) -> None:
        self.usage: Usage | None = None
        self.answer: bytes | None = None
        self._wanted = wanted
        self._marks = _MARKS.get(api, ())
        self._carry: list[bytes] = []
        self._carried = 0
        self._last = b""
        self._done = False
        self._failed = False

    def feed(self, data: bytes) -> None:
        self._last = data[-4:] if len(data) >= 4 else (self._last + data)[-4:]
        cut = data.rfind(b"\n")
        if cut < 0:
            self._keep(data)
            return
        block = data if cut + 1 == len(data) else data[: cut + 1]
        if self._carry:
            first = data.find(b"\n")
            self._finish_line(data[:first])
            block = block[first + 1 :]
        for line in _marked(block, self._marks):
            self._line(line)
        if cut + 1 < len(data):
            self._keep(data[cut + 1 :])

    def end(self) -> End:
        if self._failed:
            return End.ERROR
        return End.ORDINARY if self._done else End.NONE

    def at_boundary(self) -> bool:
        return not self._last or self._last.endswith((b"\n\n", b"\r\n\r\n"))

    def _keep(self, data: bytes) -> None:
        """Carry an unfinished line; of one that is too long, its start and its end."""
        self._carry.append(data)
        self._carried += len(data)
        if self._carried > MAX_LINE + TAIL and len(self._carry) > 1:
            whole = b"".join(self._carry)
            self._carry = [whole[:TAIL], whole[-TAIL:]]

    def _finish_line(self, rest: bytes) -> None:
        self._carry.append(rest)
        whole = b"".join(self._carry)
        if self._carried + len(rest) > MAX_LINE:
            self._long_line(whole)
        else:
            self._line(whole)
        self._carry.clear()
        self._carried = 0

    def _line(self, line: bytes) -> None:
        if len(line) > MAX_LINE:
            self._long_line(line)
            return
        if not line.startswith(b"data:") or not any(mark in line for mark in self._marks):
            return
        data = line[5:].strip()
        if data == b"[DONE]":
            self._done = True
            return
        event = usage.event(data)
        if event is not None:
            self._event(event)

    def _long_line(self, line: bytes) -> None:
        found = _TYPE_AT_END.search(line[-TAIL:]) if line.startswith(b"data:") else None
        if found and any(mark in found.group() for mark in self._marks):
            self._typed(found.group(1).decode("ascii"))

    def _event(self, event: usage.Event) -> None:
        if event.type is not None:
            self._typed(event.type)
        if not usage.is_null(event.error):
            self._failed = True
        if self._wanted and event.type in _ORDINARY and self.answer is None:
            self.answer = bytes(event.response)
        self.usage = usage.merge(self.usage, event.usage)
        for nested in (event.response, event.message):
            if not usage.is_null(nested):
                within = usage.inner(nested)
                if within is not None:
                    self.usage = usage.merge(self.usage, within.usage)

    def _typed(self, kind: str) -> None:
        if kind in _ORDINARY:
            self._done = True
        elif kind in _FAILED:
            self._failed = True


def _marked(block: bytes, marks: Sequence[bytes]) -> list[bytes]:
    """The lines that have a mark in them, of a block of complete lines, in their order."""
    found: dict[int, int] = {}
    for mark in marks:
        at = block.find(mark)
        while at >= 0:
            end = block.index(b"\n", at)
            found[block.rfind(b"\n", 0, at) + 1] = end
            at = block.find(mark, end)
    return [block[start : found[start]] for start in sorted(found)]


class DocumentReader:
    """One JSON document. A long one is not kept; its usage is read from its last bytes."""

    __slots__ = ("_api", "_long", "_most", "_parts", "_size", "_wanted", "answer", "usage")

    def __init__(self, api: Api, *, wanted: bool = False) -> None:
        self.usage: Usage | None = None
        self.answer: bytes | None = None
        self._wanted = wanted
        self._most = MAX_LINE if wanted else MAX_DOCUMENT
        self._api = api
        self._parts: list[bytes] = []
        self._size = 0
        self._long = False

    def feed(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._most:
            self._long = True
            self._parts = [b"".join(self._parts)[-TAIL:]]
            self._size = len(self._parts[0])

    def end(self) -> End:
        whole = b"".join(self._parts)
        if self._long:
            self.usage = usage.of_tail(whole[-TAIL:])
            return End.ORDINARY
        end, self.usage = usage.of_document(self._api, whole)
        if self._wanted and end is End.ORDINARY:
            self.answer = whole
        return end

    def at_boundary(self) -> bool:
        return False
