"""A relay with nothing on, as short as Python allows: asyncio's protocols on uvloop, llhttp on both sides, bytes passed on as they come.

What the gateway is built on, without the gateway: no relay in Python takes a request, or passes on a single event, for less. It checks
nothing, signs nothing, rewrites nothing, has no deadlines and takes no pipelined requests.

    python bare_relay.py ENGINE_SOCKET PORT
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import httptools
import uvloop


class Upstream(asyncio.Protocol):
    """A connection to the engine, which goes back to the idle ones at the end of an answer."""

    def __init__(self, idle: list[Upstream]) -> None:
        self._idle = idle
        self._parser = httptools.HttpResponseParser(self)
        self.client: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        if self.client is not None:
            self.client.write(data)
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._idle.append(self)


class Client(asyncio.Protocol):
    """A client's connection; a request goes to the engine when all of it is here."""

    def __init__(self, engine: str, idle: list[Upstream]) -> None:
        self._engine, self._idle = engine, idle
        self._parser = httptools.HttpRequestParser(self)
        self._request: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._request.append(data)
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        request, self._request = b"".join(self._request), []
        if self._idle:
            self._send(self._idle.pop(), request)
        else:
            opening = asyncio.ensure_future(self._connected(request))
            opening.add_done_callback(asyncio.Task.result)

    async def _connected(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        _, upstream = await loop.create_unix_connection(lambda: Upstream(self._idle), self._engine)
        self._send(upstream, request)

    def _send(self, upstream: Upstream, request: bytes) -> None:
        upstream.client = self._transport
        upstream.write(request)


async def serve(engine: str, port: int) -> None:
    idle: list[Upstream] = []
    server = await asyncio.get_running_loop().create_server(lambda: Client(engine, idle), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
