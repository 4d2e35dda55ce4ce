"""Sessions that are opened and left alone."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import cast

import httptools

from bench.processes import BenchError
from loadgen import Target
from rlu_attestation.encoding import b64u

OPENERS = 16
OPENING_S = 120.0


async def open_sessions(target: Target, key: str, count: int) -> None:
    """Open sessions that nobody uses, over a few connections.

    Raises:
        BenchError: one was refused.
    """
    content = b'{"nonce":"%b"}' % b64u(bytes(16)).encode()
    request = (
        b"POST /v1/rlu/sessions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b" % (key.encode(), len(content), content)
    )
    shares = [count // OPENERS + (number < count % OPENERS) for number in range(OPENERS)]
    openers = [await target.connect(partial(_Opening, request, share)) for share in shares if share]
    done, late = await asyncio.wait([opener.done for opener in openers], timeout=OPENING_S)
    for opener in openers:
        opener.transport.abort()
    if late:
        raise BenchError(f"{count} sessions were not open after {OPENING_S:.0f} s")
    refused = [error for error in (each.exception() for each in done) if error is not None]
    if refused:
        raise refused[0]


class _Opening(asyncio.Protocol):
    """One connection that sends its share of a request, one after the other, each answered with success."""

    def __init__(self, request: bytes, share: int) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self._request = request
        self._left = share
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(BenchError("the gateway closed a connection while sessions were opened"))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status not in (200, 201):
            self._end(BenchError(f"a session was refused with status {status}"))

    def on_message_complete(self) -> None:
        self._left -= 1
        if self._left:
            self._parser = httptools.HttpResponseParser(self)
            self.transport.write(self._request)
        else:
            self._end(None)

    def _end(self, error: BenchError | None) -> None:
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
