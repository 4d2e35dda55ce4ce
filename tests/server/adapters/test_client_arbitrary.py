"""The connection without sockets: whatever arrives, in whatever pieces, no exception leaves it and what it writes is HTTP."""

from __future__ import annotations

import asyncio
import itertools

import httptools
from hypothesis import given, settings
from hypothesis import strategies as st

from rlu_server.adapters.client import Connection, Job
from rlu_server.adapters.http1 import Incoming
from rlu_server.core.errors import GatewayError
from rlu_server.settings import Gateway

PIECES = (
    b"GET / HTTP/1.1\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\n",
    b"Host: x\r\n",
    b"\r\n",
    b"\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"abc",
    b"Connection: close\r\n",
    b"Upgrade: x\r\n",
    b"Expect: 100-continue\r\n",
)


class Desk:
    settings = Gateway()
    draining = False
    connections_elsewhere = 0

    def __init__(self) -> None:
        self.connections: set[Connection] = set()

    def next_request_id(self) -> str:
        return "r"

    def accept(self, connection: Connection, incoming: Incoming, request_id: str) -> Job:
        if incoming.method == b"POST":
            return Echo(connection, incoming)
        raise GatewayError("route_not_found")

    def refused(self, incoming: Incoming, error: GatewayError, request_id: str) -> None:
        pass


class Echo:
    """Answers with what it got, at once."""

    def __init__(self, connection: Connection, incoming: Incoming) -> None:
        self.connection = connection
        self.incoming = incoming

    def content_arrived(self) -> None:
        pass

    def complete(self) -> None:
        content = self.incoming.content()
        self.connection.start(200, [b"Content-Length: %d\r\n" % len(content)], content, ended=True)

    def client_gone(self) -> None:
        pass

    pause = resume = content_arrived


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closing
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def can_write_eof(self) -> bool:
        return False


async def fed(pieces: list[bytes]) -> bytes:
    connection, transport = Connection(Desk()), Transport()
    connection.connection_made(transport)
    for piece in pieces:
        if not transport.closing and transport.reading:
            connection.data_received(piece)
    connection.connection_lost(None)
    return transport.written


@settings(max_examples=300, deadline=None)
@given(
    data=st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=12),
    cuts=st.lists(st.integers(0, 200), max_size=4),
)
def test_arbitrary_bytes(data: list[bytes], cuts: list[int]):
    stream = b"".join(data)
    at = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    loop = asyncio.new_event_loop()
    try:
        written = loop.run_until_complete(fed([stream[a:b] for a, b in itertools.pairwise(at)]))
    finally:
        loop.close()
    httptools.HttpResponseParser(object()).feed_data(written)


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 300), max_size=12))
def test_no_way_of_cutting_changes_the_answers(cuts: list[int]):
    one = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    two = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nd\r\n2\r\nef\r\n0\r\n\r\n"
    stream = one + two + one
    at = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    loop = asyncio.new_event_loop()
    try:
        written = loop.run_until_complete(fed([stream[a:b] for a, b in itertools.pairwise(at)]))
    finally:
        loop.close()
    contents = [part.partition(b"\r\n\r\n")[2] for part in written.split(b"HTTP/1.1 200 OK")[1:]]
    assert contents == [b"abc", b"def", b"abc"]
