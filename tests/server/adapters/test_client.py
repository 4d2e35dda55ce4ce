"""The client's side of HTTP, attacked over raw sockets."""

from __future__ import annotations

import asyncio
import json

import pytest

from fakes.rig import Rig

PATH = "/v1/chat/completions"


TIMES = {"header_timeout_s": 1.0, "body_timeout_s": 1.0, "idle_timeout_s": 2.0}


@pytest.fixture
def overrides(request: pytest.FixtureRequest) -> dict[str, object]:
    timed = request.node.originalname in (
        "test_slow_heads_end",
        "test_a_slow_body_ends",
        "test_idle_connections_end",
    )
    return {"max_body_bytes": 20_000, "max_header_bytes": 4096, **(TIMES if timed else {})}


def head(rig: Rig, *lines: str, path: str = PATH, method: str = "POST", version: str = "1.1") -> bytes:
    own = (f"Authorization: Bearer {rig.keys['alice']}", "Content-Type: application/json")
    return (
        "\r\n".join((f"{method} {path} HTTP/{version}", "Host: x", *own, *lines)).encode("latin-1")
        + b"\r\n\r\n"
    )


def body(rig: Rig) -> bytes:
    return json.dumps(rig.chat()).encode()


async def test_chunked_bodies_are_put_together(rig: Rig):
    content = body(rig)
    chunks = b"".join(b"%x;ext=1\r\n%b\r\n" % (1, content[i : i + 1]) for i in range(len(content)))
    answer = await rig.raw(head(rig, "Transfer-Encoding: chunked") + chunks + b"0\r\nX-Trailer: y\r\n\r\n")
    assert answer.status == 200
    receipt = await rig.receipt(answer)
    assert receipt.request is not None
    assert receipt.request.size == len(content)


@pytest.mark.parametrize(
    ("lines", "content", "status"),
    [
        (("Content-Length: 5", "Transfer-Encoding: chunked"), b"0\r\n\r\n", 400),
        (("Transfer-Encoding: chunked", "Content-Length: 5"), b"0\r\n\r\n", 400),
        (("Content-Length: 5", "Content-Length: 5"), b"12345", 400),
        (("Content-Length: 5", "Content-Length: 6"), b"12345", 400),
        (("Content-Length: 5, 5",), b"12345", 400),
        (("Content-Length: +5",), b"12345", 400),
        (("Content-Length: -1",), b"", 400),
        (("Content-Length: 0x5",), b"12345", 400),
        (("Content-Length: 99999999999999999999999",), b"", 400),
        (("Transfer-Encoding: gzip, chunked",), b"0\r\n\r\n", 400),
        (("Transfer-Encoding: chunked, chunked",), b"0\r\n\r\n", 400),
        (("Transfer-Encoding: identity",), b"", 400),
        (("Transfer-Encoding: xchunked",), b"0\r\n\r\n", 400),
        (("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), b"0\r\n\r\n", 400),
        (("Transfer-Encoding : chunked",), b"0\r\n\r\n", 400),
        (("Transfer-Encoding: chunked",), b"5\n12345\r\n0\r\n\r\n", 400),
        (("Transfer-Encoding: chunked",), b"0x5\r\n12345\r\n0\r\n\r\n", 400),
        (("Transfer-Encoding: chunked",), b"-5\r\n12345\r\n0\r\n\r\n", 400),
        (("Transfer-Encoding: chunked",), b"5\r\n1234567\r\n0\r\n\r\n", 400),
        (("Transfer-Encoding: chunked",), b"FFFFFFFFFFFFFFFFF\r\n", 400),
        (("Transfer-Encoding: chunked ",), b"0\r\n\r\n", 400),
        (('Transfer-Encoding: "chunked"',), b"0\r\n\r\n", 400),
        (("Transfer-Encoding: chunked,",), b"0\r\n\r\n", 400),
        (("Transfer-Encoding: chunked;q=1",), b"0\r\n\r\n", 400),
        (("Transfer-Encoding:\x0bchunked",), b"0\r\n\r\n", 400),
        (("Content-Length: ",), b"", 400),
        (("Content-Length: 5 ",), b"12345", 400),
        (("Content-Length: 5;x",), b"12345", 400),
        (("Content-Length: 5_0",), b"12345", 400),
        (("Content-Length\t: 5",), b"12345", 400),
        (("Content-Length: 5\r", "X: y"), b"12345", 400),
        (("X: a\rTransfer-Encoding: chunked", "Content-Length: 5"), b"12345", 400),
        (("X: a\nTransfer-Encoding: chunked", "Content-Length: 5"), b"12345", 400),
        (("X: a\x7fb", "Content-Length: 5"), b"12345", 400),
        ((": y", "Content-Length: 5"), b"12345", 400),
        (("no colon", "Content-Length: 5"), b"12345", 400),
        (("Transfer-Encoding: chunked",), b"5 \r\n12345\r\n0\r\n\r\n", 400),
        (("Transfer-Encoding: chunked",), b" 5\r\n12345\r\n0\r\n\r\n", 400),
        (("Transfer-Encoding: chunked",), b"\r\n5\r\n12345\r\n0\r\n\r\n", 400),
        (("Transfer-Encoding: chunked",), b"5;a\nb\r\n12345\r\n0\r\n\r\n", 400),
        (("Transfer-Encoding: chunked",), b"5;a\rb\r\n12345\r\n0\r\n\r\n", 400),
        (("Transfer-Encoding: chunked",), b'5;a="x\r\ny"\r\n12345\r\n0\r\n\r\n', 400),
        (("Transfer-Encoding: chunked",), b"5;\x00\r\n12345\r\n0\r\n\r\n", 400),
        (("Transfer-Encoding: chunked",), b"5\r\n12345\n0\r\n\r\n", 400),
        (("Transfer-Encoding: chunked",), b"5\r\n12345\r\n0\r\nContent-Length: 9\r\n\r\n", 400),
        (("Transfer-Encoding: chunked",), b"5\r\n12345\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (("X: y", " folded: z", "Content-Length: 5"), b"12345", 400),
        (("Bad\x01Name: y",), b"", 400),
        (("X: a\x00b",), b"", 400),
        (("Host: y", "Content-Length: 5"), b"12345", 400),
        (("Authorization: Bearer other", "Content-Length: 5"), b"12345", 400),
        (("Upgrade: h2c", "Connection: Upgrade", "Content-Length: 5"), b"12345", 400),
        (("Expect: 200-ok", "Content-Length: 5"), b"", 417),
        (("Content-Encoding: br", "Content-Length: 5"), b"12345", 415),
        (("Content-Encoding: gzip, gzip", "Content-Length: 5"), b"12345", 415),
        (("Content-Encoding: gzip", "Content-Encoding: gzip", "Content-Length: 5"), b"12345", 400),
        (("Content-Length: 20001",), b"", 413),
        (("Transfer-Encoding: chunked",), b"4e21\r\n" + b"x" * 20001 + b"\r\n0\r\n\r\n", 413),
        ((), b"", 411),
        (("X: " + "y" * 5000,), b"", 431),
        (tuple(f"X-{i}: y" for i in range(200)), b"", 431),
    ],
)
async def test_ambiguous_or_oversized_requests_are_refused_and_end_the_connection(
    rig: Rig, lines: tuple[str, ...], content: bytes, status: int
):
    seen = len(rig.engine.seen)
    wire = await rig.wire()
    # What a smuggler would hide behind it must never be answered.
    await wire.send(head(rig, *lines) + content + b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = await wire.response()
    assert answer.status == status, answer
    assert answer.json()["error"]["message"]
    if status != 411:  # that one is understood, and only lacks content
        assert answer.headers["connection"] == "close"
        assert await wire.closed()
        assert wire.received.count(b"HTTP/1.1 ") == 1
    assert all(s.target == "/health" for s in list(rig.engine.seen)[seen:])


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/0.9\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET http://other/v1/models HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT other:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /a\x00b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET other:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.10\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 400),
        (b"GET / http/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"TRACE /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /tokenize HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (
            b"POST /v1/chat/completions/../../invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
            404,
        ),
        (b"GET /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        (b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", 401),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    ],
)
async def test_requests_that_are_not_for_us(rig: Rig, data: bytes, status: int):
    wire = await rig.wire()
    await wire.send(data)
    received = await wire.until(b"\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 %d " % status), received


async def test_a_head_request_has_no_content(rig: Rig):
    wire = await rig.wire()
    await wire.send(
        b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    assert await wire.closed()
    first, _, rest = wire.received.partition(b"\r\n\r\n")
    assert b"Content-Length: 14" in first
    assert rest.startswith(b"HTTP/1.1 200")


async def test_pipelined_requests_are_answered_in_order(rig: Rig):
    wire = await rig.wire()
    slow = rig.request(PATH, rig.chat(script="late"), headers={"session-id": "a"})
    fast = rig.request(PATH, rig.chat(), headers={"session-id": "b"})
    unknown = rig.request("/nowhere", None, method="GET")
    await wire.send(slow + unknown + fast + unknown)
    answers = [await wire.response() for _ in range(4)]
    assert [a.status for a in answers] == [200, 404, 200, 404]
    assert rig.session(answers[0].session).conversation != rig.session(answers[2].session).conversation


async def test_too_many_pipelined_requests_end_the_connection(rig: Rig):
    wire = await rig.wire()
    one = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    await wire.send(rig.request(PATH, rig.chat(script="late")) + one * 200)
    assert await wire.closed()
    assert wire.received.count(b"HTTP/1.1 200") <= 66


async def test_connections_are_kept(rig: Rig):
    wire = await rig.wire()
    for _ in range(5):
        await wire.send(rig.request(PATH, rig.chat(stream=True, script="split")))
        assert (await wire.response()).status == 200
    await wire.send(rig.request(PATH, rig.chat(), headers={"Connection": "close"}))
    assert (await wire.response()).headers["connection"] == "close"
    assert await wire.closed()
    assert len(rig.gateway.engine.replicas[0].engine._open) <= 2


async def test_http_1_0_gets_an_answer_that_ends_with_the_connection(rig: Rig):
    content = json.dumps(rig.chat(stream=True, script="slow")).encode()
    wire = await rig.wire()
    await wire.send(head(rig, f"Content-Length: {len(content)}", version="1.0") + content)
    received = await wire.until(b"data: ")
    assert b"chunked" not in received
    assert b"Connection: close" in received


async def test_expect_continue(rig: Rig):
    content = body(rig)
    wire = await rig.wire()
    await wire.send(head(rig, f"Content-Length: {len(content)}", "Expect: 100-continue"))
    assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await wire.send(content)
    wire.responses.done.clear()
    assert b"HTTP/1.1 200 OK" in await wire.until(b"200 OK")


async def test_a_wrong_key_is_refused_before_the_body_is_taken(rig: Rig):
    wire = await rig.wire()
    await wire.send(
        b"POST %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer rlu_0_0\r\nContent-Length: 9000\r\n"
        % PATH.encode()
    )
    await wire.send(b"Expect: 100-continue\r\n\r\n")
    answer = await wire.response()
    assert (answer.status, answer.json()["error"]["code"]) == (401, "key_invalid")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["connection"] == "close"
    assert b"100 Continue" not in wire.received


@pytest.mark.parametrize(
    "start", [b"", b"POST ", b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nX: "]
)
async def test_slow_heads_end(rig: Rig, start: bytes):
    wire = await rig.wire()
    await wire.send(start)
    closed = asyncio.ensure_future(wire.closed())
    while not closed.done():  # a byte now and then does not help
        await asyncio.sleep(0.1)
        if start and not wire.writer.is_closing():
            wire.writer.write(b"x")
    assert await closed
    assert (b"408" in wire.received) is bool(start)


async def test_a_slow_body_ends(rig: Rig):
    wire = await rig.wire()
    await wire.send(head(rig, "Content-Length: 1000") + b"{")
    answer = await wire.response()
    assert (answer.status, answer.json()["error"]["code"]) == (408, "request_timeout")


async def test_idle_connections_end(rig: Rig):
    wire = await rig.wire()
    started = asyncio.get_running_loop().time()
    await wire.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await wire.response()).status == 200
    assert await wire.closed()
    assert asyncio.get_running_loop().time() - started > 1.5


async def test_an_endless_header_is_cut_off(rig: Rig):
    wire = await rig.wire()
    wire.writer.write(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(20):
        wire.writer.write(b"y" * 1000)
        await asyncio.sleep(0.01)
    answer = await wire.response()
    assert answer.status == 431


async def test_chunk_extensions_cost_no_more_than_content(rig: Rig):
    wire = await rig.wire()
    wire.writer.write(head(rig, "Transfer-Encoding: chunked"))
    for _ in range(20):
        wire.writer.write(b"1;" + b"e" * 1000 + b"\r\nx\r\n")
        await asyncio.sleep(0.01)
    assert (await wire.response()).status == 400


async def test_too_many_connections(rig: Rig):
    limited = rig.settings.gateway.model_copy(update={"max_connections": 3})
    rig.gateway.relay.settings = limited
    wires = [await rig.wire() for _ in range(3)]
    await rig.eventually(lambda: len(rig.gateway.relay.connections) == 3)
    extra = await rig.wire()
    answer = await extra.response()
    assert (answer.status, answer.json()["error"]["code"]) == (503, "overloaded")
    await wires[0].send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await wires[0].response()).status == 200
