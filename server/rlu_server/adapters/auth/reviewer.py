"""Asks the relay for TokenReviews: one short HTTP/1.1 request over a connection of its own, bounded in time, size and number.

Tokens travel on this way: a Unix socket, or TLS with the relay's own CA. Plain HTTP is for a relay on the same machine.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import httptools

from rlu_server.adapters.events import Events
from rlu_server.core.auth import reviews

MAX_AT_ONCE = 32


class Reviewer:
    """Implements `authenticator.Cluster`.

    Args:
        relay: `unix:/path`, `http://address:port` or `https://address:port`.
        trust: makes the TLS context, anew for each question, so that a changed CA file counts.
    """

    def __init__(
        self, relay: str, timeout_s: float, events: Events, trust: Callable[[], ssl.SSLContext] | None = None
    ) -> None:
        self._relay = relay
        self._timeout_s = timeout_s
        self._events = events
        self._trust = trust
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)

    def ask(self, question: bytes, answered: Callable[[bytes | None], None]) -> None:
        task = asyncio.get_running_loop().create_task(self._run(question, answered))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._events.internal(error)

    async def _run(self, question: bytes, answered: Callable[[bytes | None], None]) -> None:
        exchange = asyncio.ensure_future(self._exchange(question))
        try:
            # The exchange is a task of its own: `asyncio.wait_for` before Python 3.12 can lose a cancellation.
            done, _ = await asyncio.wait((exchange,), timeout=self._timeout_s)
            answer = exchange.result() if done else None
        except (OSError, ValueError, httptools.HttpParserError, asyncio.IncompleteReadError) as error:
            self._events.emit("relay_failed", type(error).__name__)
            answer = None
        finally:
            if not exchange.done():
                exchange.cancel()
                await asyncio.gather(exchange, return_exceptions=True)
        answered(answer)

    async def _exchange(self, question: bytes) -> bytes:
        async with self._turns:
            reader, writer = await self._connect()
            try:
                writer.write(
                    b"POST %b HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b"
                    % (reviews.PATH.encode("ascii"), len(question), question)
                )
                return await _answer(reader)
            finally:
                writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._relay.startswith("unix:"):
            return await asyncio.open_unix_connection(self._relay.removeprefix("unix:"))
        url = urlsplit(self._relay)
        context = self._trust() if url.scheme == "https" and self._trust is not None else None
        return await asyncio.open_connection(url.hostname, url.port, ssl=context)


class _Reading:
    def __init__(self) -> None:
        self.content = b""
        self.complete = False

    def on_body(self, data: bytes) -> None:
        self.content += data
        if len(self.content) > reviews.MAX_ANSWER:
            raise ValueError("too long")

    def on_message_complete(self) -> None:
        self.complete = True


async def _answer(reader: asyncio.StreamReader) -> bytes:
    reading = _Reading()
    parser = httptools.HttpResponseParser(reading)
    arrived = 0
    while not reading.complete:
        data = await reader.read(65536)
        arrived += len(data)
        if not data or arrived > 2 * reviews.MAX_ANSWER:
            raise ValueError("no complete answer")
        parser.feed_data(data)
    if parser.get_status_code() not in (200, 201):
        raise ValueError("the relay refused")
    return reading.content
