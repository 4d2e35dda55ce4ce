"""One short HTTP/1.1 request to `rlu relay`, over a connection of its own, bounded in size; the caller bounds time and number.

A Unix socket, or TLS with the relay's own CA. Plain HTTP is for a relay on the same machine.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import httptools

FAILURES = (OSError, ValueError, httptools.HttpParserError, asyncio.IncompleteReadError)
"""What `post` raises."""


async def post(
    relay: str, path: str, content: bytes, most: int, trust: Callable[[], ssl.SSLContext] | None = None
) -> bytes:
    """The answer's content; a status other than 200 and 201 is a ValueError.

    Args:
        relay: `unix:/path`, `http://address:port` or `https://address:port`.
        most: bytes that the answer's content may have.
        trust: makes the TLS context, anew each time, so that a changed CA file counts.
    """
    reader, writer = await _connect(relay, trust)
    try:
        writer.write(
            b"POST %b HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (path.encode("ascii"), len(content), content)
        )
        return await _answer(reader, most)
    finally:
        writer.transport.abort()


async def _connect(
    relay: str, trust: Callable[[], ssl.SSLContext] | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if relay.startswith("unix:"):
        return await asyncio.open_unix_connection(relay.removeprefix("unix:"))
    url = urlsplit(relay)
    context = trust() if url.scheme == "https" and trust is not None else None
    return await asyncio.open_connection(url.hostname, url.port, ssl=context)


class _Reading:
    def __init__(self, most: int) -> None:
        self.content = b""
        self.complete = False
        self._most = most

    def on_body(self, data: bytes) -> None:
        self.content += data
        if len(self.content) > self._most:
            raise ValueError("too long")

    def on_message_complete(self) -> None:
        self.complete = True


async def _answer(reader: asyncio.StreamReader, most: int) -> bytes:
    reading = _Reading(most)
    parser = httptools.HttpResponseParser(reading)
    arrived = 0
    while not reading.complete:
        data = await reader.read(65536)
        arrived += len(data)
        if not data or arrived > 2 * most:
            raise ValueError("no complete answer")
        parser.feed_data(data)
    if parser.get_status_code() not in (200, 201):
        raise ValueError("the relay refused")
    return reading.content
