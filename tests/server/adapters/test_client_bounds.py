"""A client's connection holds a bounded amount of what arrives, and is read again when there is room."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref

import pytest

from fakes.rig import Rig
from rlu_server.adapters.arrivals import SMALL_PART, Arrivals
from rlu_server.adapters.client import HIGH_WATER, Connection
from rlu_server.adapters.http1 import Incoming
from rlu_server.settings import Gateway

PATH = "/v1/chat/completions"
MAX_BODY = 4 << 20
CHUNKED = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def overrides() -> dict[str, object]:
    return {"max_body_bytes": MAX_BODY}


async def test_a_connection_is_read_again_after_pipelined_refusals(rig: Rig):
    wire = await rig.wire()
    unknown = rig.request("/nowhere", None, method="GET")
    await wire.send(rig.request(PATH, rig.chat(script="late")) + unknown + unknown)
    assert [(await wire.response()).status for _ in range(3)] == [200, 404, 404]
    await wire.send(rig.request(PATH, rig.chat()))
    assert (await wire.response()).status == 200


async def test_the_next_request_s_content_is_not_read_far_ahead(rig: Rig):
    """Nobody has looked at its key yet, and no tenant's memory is charged for it."""
    wire = await rig.wire()
    content = b'{"model": "scripted", "messages": [], "x": "' + b"y" * (MAX_BODY - 100) + b'"}'
    await wire.send(rig.request(PATH, rig.chat(stream=True, script="slow")))
    await wire.until(b"data: ")
    wire.writer.write(rig.request(PATH, content, who="rlu_0_0"))
    connection = next(c for c in rig.gateway.relay.connections if c._arrivals.taken is not None)
    await rig.eventually(lambda: not connection._transport.is_reading())
    arriving = connection._arrivals.arriving
    assert arriving is not None
    assert HIGH_WATER < arriving.size <= 3 * HIGH_WATER
    # The answer ends, and the connection goes on with the next request.
    assert (await wire.response()).status == 200
    refused = await wire.response()
    assert (refused.status, refused.json()["error"]["code"]) == (401, "key_invalid")


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("per_read", [1, 20_000])
def test_tiny_chunks_take_little_more_memory_than_their_content(size: int, per_read: int):
    arrivals = Arrivals(Gateway(max_body_bytes=MAX_BODY))
    arrivals.feed(CHUNKED)
    incoming = arrivals.take()
    assert incoming is not None
    one = b"%x\r\n%b\r\n" % (size, b"abcde"[:size])
    reads, count = 40_000 // per_read, 0
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(reads):
            arrivals.feed(one * per_read)
            count += per_read
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert arrivals.poison is None
    assert incoming.size == count * size
    assert len(incoming.parts) <= 2 * incoming.size // SMALL_PART + 2
    assert used < 3 * incoming.size + 64 * 1024
    arrivals.feed(b"0\r\n\r\n")
    assert incoming.complete
    assert incoming.content() == b"abcde"[:size] * count


async def test_a_body_in_tiny_chunks_is_committed_to_as_it_is(rig: Rig):
    """Parts are joined and hashed in turns; the digest is of the whole."""
    content = rig.request(PATH, rig.chat("z" * 30_000)).partition(b"\r\n\r\n")[2]
    head = rig.request(
        PATH, None, headers={"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
    )
    wire = await rig.wire()
    sizes = [1, 4095, 2, 4097, 1, 1, 9000, 3, 1, 8000, 2, 30_000]
    await wire.send(head)
    at = 0
    for size in sizes:
        piece = content[at : at + size]
        at += len(piece)
        if piece:
            await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            await asyncio.sleep(0.002)
    await wire.send(b"0\r\n\r\n")
    answer = await wire.response()
    assert answer.status == 200
    (seen,) = [one for one in rig.engine.seen if one.method == "POST"][-1:]
    receipt = await rig.receipt(answer)
    rig.check_commitments(receipt, content, seen.body, answer.content)


CONTENT = b"content that nobody may keep" * 100


def kept() -> tuple[int, int]:
    """Connections that are still reachable, and requests that still hold content."""
    gc.collect()
    found = gc.get_objects()
    requests = [one for one in found if type(one) is Incoming and CONTENT[:28] in b"".join(one.parts)]
    return sum(type(one) is Connection for one in found), len(requests)


async def test_a_refused_token_does_not_keep_the_request(rig: Rig):
    """Refusals are remembered by digest; an error would hold on to everything that its traceback names."""
    before, _ = kept()
    for _ in range(3):
        answer = await rig.call(PATH, CONTENT, who="not.a.token")
        assert (answer.status, answer.json()["error"]["code"]) == (401, "key_invalid")
    await rig.eventually(lambda: not rig.gateway.relay.connections)
    assert kept() == (before, 0)


@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: 100000\r\n\r\n" + CONTENT,
        b"Transfer-Encoding: chunked\r\n\r\nfff\r\n" + CONTENT,
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\nzz\r\n" % (len(CONTENT), CONTENT),
    ],
    ids=["cut short", "cut in a chunk", "malformed"],
)
async def test_content_goes_with_the_connection(rig: Rig, sent: bytes):
    """At once, and the connection too: the collector of cycles comes by seldom."""
    wire = await rig.wire()
    gc.collect()
    gc.disable()
    try:
        await wire.send(rig.request(PATH, None, headers={"Content-Type": "application/json"})[:-2] + sent)
        await rig.eventually(lambda: any(one._arrivals.taken for one in rig.gateway.relay.connections))
        ended = [weakref.ref(one) for one in rig.gateway.relay.connections]
        wire.abort()
        await rig.eventually(lambda: not any(one() for one in ended))
        assert not rig.gateway.relay.connections
        holders = [one for one in gc.get_objects() if type(one) is Incoming and any(one.parts)]
    finally:
        gc.enable()
    assert holders == []


@pytest.mark.parametrize("at_once", [True, False])
def test_a_long_target_counts_as_head(at_once: bool):
    arrivals = Arrivals(Gateway(max_header_bytes=4096))
    request = b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    for piece in [request] if at_once else [request[at : at + 100] for at in range(0, len(request), 100)]:
        if arrivals.poison is None:
            arrivals.feed(piece)
    assert arrivals.poison is not None
    assert arrivals.poison.code == "header_too_large"
    assert arrivals.take() is None
