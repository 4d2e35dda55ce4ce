"""What comes back from the children: the posture, and lines of output."""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import Callable
from typing import Any

MAX_LINE = 64 * 1024
MAX_POSTURE = 64 * 1024
KEPT_LINES = 40

Event = Callable[[str, dict[str, str | int]], None]
"""Called with an event's name and its codes and counts."""


async def read_posture(handle: int) -> dict[str, Any]:
    """The launcher's report: a posture, or `{"refused": [reason, ...]}`; empty when the process ended without one. Closes the handle."""
    with os.fdopen(handle, "rb", buffering=0) as pipe:
        os.set_blocking(pipe.fileno(), False)
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            data = await reader.read(MAX_POSTURE)
            while chunk := await reader.read(MAX_POSTURE):
                data += chunk
                if len(data) > MAX_POSTURE:
                    return {}
        finally:
            transport.close()
    try:
        document = json.loads(data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


class Output:
    """Reads a child's output, line by line.

    A JSON object with an `event` is passed on if its values are codes, routes, names and numbers. Any other text is kept while `starting`,
    when there cannot be content in it yet, to explain a failed start; afterwards it is counted and forgotten.
    """

    def __init__(self, on_event: Event) -> None:
        self._on_event = on_event
        self.starting = True
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)

    async def read(self, handle: int) -> None:
        """Until the other end is closed. Closes the handle."""
        with os.fdopen(handle, "rb", buffering=0) as pipe:
            reader = asyncio.StreamReader(limit=MAX_LINE)
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
            try:
                await self._read_lines(reader)
            finally:
                transport.close()

    async def _read_lines(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    self._take(error.partial)
                return
            except asyncio.LimitOverrunError as error:
                await reader.readexactly(error.consumed)
                continue
            self._take(line)

    def _take(self, line: bytes) -> None:
        document = _json(line)
        name = document.pop("event", None)
        if isinstance(name, str) and _is_code(name) and all(map(_is_plain, document.values())):
            self._on_event(name, document)
        elif self.starting:
            text = (
                document["text"] if isinstance(document.get("text"), str) else line.decode("utf-8", "replace")
            )
            if text.strip():
                self.lines.append(text.rstrip()[:400])
        elif line.strip():
            self._on_event("output.withheld", {})

    def forget(self) -> None:
        """From now on there may be content: keep no text any more."""
        self.starting = False
        self.lines.clear()


def _json(line: bytes) -> dict[str, Any]:
    if not line.startswith(b"{"):
        return {}
    try:
        document = json.loads(line)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _is_code(text: str, more: str = "") -> bool:
    return 0 < len(text) <= 64 and all(c.isascii() and (c.isalnum() or c in "._-" or c in more) for c in text)


def _is_plain(value: object) -> bool:
    # Routes of ours (`/v1/models/{id}`) and models' names (`owner/name:tag`) are values too.
    return isinstance(value, (int, float)) or (
        isinstance(value, str) and (not value or _is_code(value, "/{}:"))
    )
