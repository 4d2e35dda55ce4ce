"""Where one request ends and the next begins: what we take is what h11 takes, an independent parser, or one of the two refuses.

Two readers of one stream that both go on and disagree are what request smuggling is made of. Whatever pieces a stream arrives in, it is
read alike. Streams are put together from fragments by a seeded generator.
"""

from __future__ import annotations

import itertools
import random

import h11
import pytest

from rlu_server.adapters.arrivals import Arrivals
from rlu_server.core.errors import GatewayError
from rlu_server.settings import Gateway

SETTINGS = Gateway()
Request = tuple[bytes, bytes, bytes]

STARTS = [
    b"POST /a HTTP/1.1\r\n",
    b"GET /b HTTP/1.1\r\n",
    b"POST /c HTTP/1.0\r\n",
    b"POST  /d HTTP/1.1\r\n",
    b"PUT /e HTTP/1.1\r\n",
    b"\r\nPOST /f HTTP/1.1\r\n",
    b"POST /g HTTP/1.1\n",
    b"POST /h HTTP/2.0\r\n",
]
HEADERS = [
    b"Host: x\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 05\r\n",
    b"content-length: 5\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length: 5, 5\r\n",
    b"Content-Length:\t5\r\n",
    b"Content-Length: 5 \r\n",
    b"Content-Length : 5\r\n",
    b"Content-Length: 6\r\n",
    b"Content_Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: Chunked\r\n",
    b"transfer-encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n",
    b"Transfer-Encoding:chunked\r\n",
    b"Transfer_Encoding: chunked\r\n",
    b"Transfer-Encoding: x\r\n chunked\r\n",
    b"X: y\r\n",
    b"X: y\n",
    b"X: a\rb\r\n",
    b"X:\r\n",
    b" X: y\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: content-length\r\n",
    b"Expect: 100-continue\r\n",
    b"Trailer: x\r\n",
]
ENDS = [b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"]
CONTENTS = [
    b"",
    b"12345",
    b"5\r\n12345\r\n0\r\n\r\n",
    b"05\r\n12345\r\n00\r\n\r\n",
    b"5;x=y\r\n12345\r\n0\r\n\r\n",
    b"5\r\n12345\r\n0\r\nX: y\r\n\r\n",
    b"0\r\n\r\n",
    b"5 \r\n12345\r\n0\r\n\r\n",
    b"5\n12345\n0\n\n",
    b"5\r\n12345\n0\r\n\r\n",
    b'5;x="\r\n\r\n"\r\n12345\r\n0\r\n\r\n',
    b"5;\n\r\n12345\r\n0\r\n\r\n",
    b"0x5\r\n12345\r\n0\r\n\r\n",
    b"5\r\n12345\r\n0\r\nContent-Length: 5\r\n\r\n",
    b"5\r\n123450\r\n\r\n",
    b"12345\r\n",
    b"1234",
    b"123456",
]


def ours(stream: bytes, cuts: list[int] | None = None) -> tuple[list[Request], str | None]:
    """Requests that are complete and acceptable, and why there were no more."""
    arrivals = Arrivals(SETTINGS)
    taken: list[Request] = []
    at = sorted({0, len(stream), *(cuts or [])})
    for begin, end in itertools.pairwise(at):
        if arrivals.poison is None:
            arrivals.feed(stream[begin:end])
    while True:
        incoming = arrivals.take()
        if incoming is None or not incoming.complete:
            return taken, None if arrivals.poison is None else arrivals.poison.code
        try:
            incoming.check_head(SETTINGS.max_body_bytes)
        except GatewayError as error:
            return taken, error.code
        taken.append((incoming.method, incoming.target, incoming.content()))
        if not incoming.keep_alive:
            return taken, "close"


def theirs(stream: bytes) -> list[Request]:
    connection = h11.Connection(h11.SERVER)
    taken: list[Request] = []
    current: list[bytes] = []
    try:
        connection.receive_data(stream)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                current = [event.method, event.target, b""]
            elif isinstance(event, h11.Data):
                current[2] += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                taken.append((current[0], current[1], current[2]))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    return taken
                connection.start_next_cycle()
            elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return taken
    except h11.RemoteProtocolError:
        return taken


def stream_of(draw: random.Random) -> bytes:
    parts = []
    for _ in range(draw.choice((1, 2, 2, 3))):
        headers = [HEADERS[0]] * (draw.random() < 0.9) + draw.sample(HEADERS, draw.choice((0, 1, 1, 2, 3)))
        draw.shuffle(headers)
        parts += [draw.choice(STARTS), *headers, draw.choice(ENDS), draw.choice(CONTENTS)]
    return b"".join(parts)


@pytest.mark.parametrize("seed", range(8))
def test_two_readers_agree_on_what_both_take(seed: int):
    draw = random.Random(seed)
    agreed = refused = 0
    for _ in range(1500):
        stream = stream_of(draw)
        mine, why = ours(stream)
        other = theirs(stream)
        both = min(len(mine), len(other))
        assert mine[:both] == other[:both], stream
        agreed += both
        refused += why not in (None, "close")
        cuts = [draw.randrange(len(stream) + 1) for _ in range(draw.randrange(6))]
        assert ours(stream, cuts) == (mine, why), (stream, cuts)
    assert agreed > 100
    assert refused > 200
