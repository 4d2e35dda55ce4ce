"""A client that keeps the very bytes, and breaks off wherever it is told to. One connection for each request."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Stage = Literal["headers", "upload", "waiting", "stream"]
"""Where a client leaves: within its headers, within its body, before the first byte of the answer, within the answer."""
TIMEOUT_S = 180.0
LATER_S = 0.15
"""How long a client that leaves early has been there."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One request.

    Attributes:
        body: its bytes; `chunked`: sent in chunks, without a declared length; `declared`: length that is declared instead of the real one.
        leave: where the client breaks off; None: it reads to the end.
        markers: texts that it holds.
    """

    kind: str
    path: str
    body: bytes = b""
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False
    declared: int | None = None
    leave: Stage | None = None
    markers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: 0 if there was no whole head. `content` is the body, as far as it came."""

    status: int
    content: bytes


class Caller:
    """An API key at a gateway on this machine."""

    def __init__(self, port: int, certificate: Path, key: str) -> None:
        self._port = port
        self._certificate = certificate
        self._key = key

    async def send(self, shot: Shot) -> Answer:
        """Make the request. A connection that is refused or breaks is an answer with status 0."""
        try:
            trust = ssl.create_default_context(cafile=str(self._certificate))
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self._port, ssl=trust, server_hostname="localhost"
            )
        except (OSError, ssl.SSLError):
            return Answer(0, b"")
        try:
            return await asyncio.wait_for(self._exchange(shot, reader, writer), TIMEOUT_S)
        except (OSError, ssl.SSLError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            return Answer(0, b"")
        finally:
            if shot.leave is None:
                writer.close()
            else:
                writer.transport.abort()
            with contextlib.suppress(OSError, ssl.SSLError, asyncio.TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 5)

    async def _exchange(
        self, shot: Shot, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Answer:
        head = self._head(shot)
        if shot.leave == "headers":
            writer.write(head[: len(head) - 3])
            await writer.drain()
            await asyncio.sleep(LATER_S)
            return Answer(0, b"")
        writer.write(head)
        answer = asyncio.ensure_future(_answer(reader, shot.leave == "stream"))
        try:
            if shot.leave == "upload":
                writer.write(shot.body[: max(1, len(shot.body) * 3 // 4)])
                await writer.drain()
                await asyncio.sleep(LATER_S)
                return Answer(0, b"")
            await self._upload(shot, writer, answer)
            if shot.leave == "waiting":
                await asyncio.sleep(LATER_S)
                return Answer(0, b"")
            return await answer
        finally:
            answer.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError, ssl.SSLError):
                await answer

    async def _upload(self, shot: Shot, writer: asyncio.StreamWriter, answer: asyncio.Future[Answer]) -> None:
        """The body, until it is sent or the server has answered without waiting for it."""
        step = 256 * 1024
        try:
            for start in range(0, len(shot.body), step):
                piece = shot.body[start : start + step]
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if shot.chunked else piece)
                await writer.drain()
                if answer.done():
                    return
            if shot.chunked:
                writer.write(b"0\r\n\r\n")
            await writer.drain()
        except OSError:
            return  # refused while it was being sent; what was answered may still be there

    def _head(self, shot: Shot) -> bytes:
        headers = {
            "Host": f"localhost:{self._port}",
            "Authorization": f"Bearer {self._key}",
            "Content-Type": "application/json",
            "Connection": "close",
        }
        if shot.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif shot.body or shot.declared is not None or shot.method == "POST":
            headers["Content-Length"] = str(len(shot.body) if shot.declared is None else shot.declared)
        headers.update(shot.headers)
        lines = [
            f"{shot.method} {shot.path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode("utf-8")


async def _answer(reader: asyncio.StreamReader, begun_only: bool) -> Answer:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    content = bytearray()
    with contextlib.suppress(OSError, ssl.SSLError):
        while data := await reader.read(1 << 16):
            content += data
            if begun_only:
                break
    chunked = b"transfer-encoding: chunked" in head.lower()
    return Answer(status, _joined(bytes(content)) if chunked else bytes(content))


def _joined(content: bytes) -> bytes:
    """A body that came in chunks, as far as it came."""
    joined, at = bytearray(), 0
    while (end := content.find(b"\r\n", at)) >= 0:
        try:
            size = int(content[at:end].partition(b";")[0], 16)
        except ValueError:
            break
        joined += content[end + 2 : end + 2 + size]
        at = end + 4 + size
    return bytes(joined)
