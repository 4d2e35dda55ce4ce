"""The listener of the metrics, apart from the clients': one short HTTP answer a connection, for whoever the operator lets there.

A Unix socket in the runtime directory, unless a port was set. There is nothing else to be had here, and no key: who can connect may ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

PATH = b"/metrics"
MAX_HEAD = 16 * 1024
MAX_CONNECTIONS = 32
TIMEOUT_S = 10.0
MAX_NAME = 64
"""Longer values of events do not pass the supervisor."""
_PLAIN = b"text/plain; charset=utf-8"


class MetricsServer:
    """Answers `GET /metrics`.

    Args:
        where: the socket's path, or address and port.
        text: makes what is answered, now.
        media_type: of that text.
    """

    def __init__(self, where: Path | tuple[str, int], text: Callable[[], bytes], media_type: str) -> None:
        self._where = where
        self._text = text
        self._media_type = media_type.encode("ascii")
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def name(self) -> str:
        """Where it listens, for the operator; of a path that is too long for an event, its end."""
        if not isinstance(self._where, Path):
            return f"{self._where[0]}:{self.port}"
        path = str(self._where)
        return path if len(path) <= MAX_NAME else self._where.name

    async def start(self) -> None:
        """Listen. Raises OSError."""
        if isinstance(self._where, Path):
            self._where.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._server = await asyncio.start_unix_server(self._accepted, str(self._where), limit=MAX_HEAD)
            self._where.chmod(0o660)
        else:
            host, port = self._where
            self._server = await asyncio.start_server(self._accepted, host, port, limit=MAX_HEAD)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport = writer.transport
        # Whoever asks slowly, or does not read, is let go: places are few.
        timer = asyncio.get_running_loop().call_later(TIMEOUT_S, transport.abort)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(self._answer(head))
            writer.close()
            await writer.wait_closed()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            timer.cancel()
            transport.abort()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if path != PATH:
            return _response(b"404 Not Found", _PLAIN, b"only /metrics is here\n")
        if method not in (b"GET", b"HEAD"):
            return _response(b"405 Method Not Allowed", _PLAIN, b"use GET\n", b"Allow: GET, HEAD\r\n")
        answer = _response(b"200 OK", self._media_type, self._text())
        return answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == b"HEAD" else answer


def _response(status: bytes, media_type: bytes, content: bytes, more: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%bConnection: close\r\n\r\n"
    return head % (status, media_type, len(content), more) + content
