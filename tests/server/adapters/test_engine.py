"""Connections to the engine: reuse, the one second try, and answers that are none."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from rlu_server.adapters import engine as module
from rlu_server.adapters.engine import Call, Engine, ResponseHead
from rlu_server.core.errors import GatewayError
from waiting import PATIENCE_S, turns, until

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"


class Fake:
    """A server whose answer to the n-th request of the n-th connection is scripted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[tuple[int, bytes]] = []
        self.connections = 0
        self.answer: Callable[[int, int], bytes | None] = lambda connection, request: OK
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self.server = await asyncio.start_unix_server(self.serve, str(self.path))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number, count = self.connections, 0
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
                self.requests.append((number, await reader.readexactly(length)))
                count += 1
                answer = self.answer(number, count)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.transport.abort()


class Ask:
    def __init__(self) -> None:
        self.heads: list[ResponseHead] = []
        self.content = b""
        self.error: str | None = None
        self.over = asyncio.Event()

    def engine_read(self, head: ResponseHead | None, content: bytes, ended: bool) -> None:
        assert not self.over.is_set()
        if head is not None:
            self.heads.append(head)
        self.content += content
        if ended:
            self.over.set()

    def engine_failed(self, error: GatewayError) -> None:
        assert not self.over.is_set()
        self.error = error.code
        self.over.set()


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[Fake]:
    fake = Fake(tmp_path / "e.sock")
    await fake.start()
    yield fake
    fake.server.close()
    await asyncio.sleep(0.02)


@pytest.fixture
async def engine(fake: Fake) -> AsyncIterator[Engine]:
    engine = Engine(fake.path)
    yield engine
    engine.close()
    await asyncio.sleep(0.02)


async def ask(engine: Engine, body: bytes = b"{}") -> Ask:
    asked = Ask()
    engine.post("/v1/completions", body, asked)
    await asyncio.wait_for(asked.over.wait(), PATIENCE_S)
    return asked


async def test_connections_are_used_again(fake: Fake, engine: Engine):
    for number in range(5):
        asked = await ask(engine, b"%d" % number)
        assert (asked.content, asked.error, asked.heads[0].status, asked.heads[0].length) == (
            b"hi",
            None,
            200,
            2,
        )
    assert fake.requests == [(1, b"%d" % number) for number in range(5)]


async def test_concurrent_requests_have_connections_of_their_own(fake: Fake, engine: Engine):
    asked = await asyncio.gather(*(ask(engine) for _ in range(8)))
    assert [a.content for a in asked] == [b"hi"] * 8
    assert fake.connections == 8


async def test_a_connection_the_engine_had_closed_is_no_failure(fake: Fake, engine: Engine):
    fake.answer = lambda connection, request: OK if connection > 1 or request == 1 else None
    await ask(engine)
    again = await ask(engine, b"second")
    assert (again.content, again.error) == (b"hi", None)
    assert [r for r in fake.requests if r[1] == b"second"] == [(1, b"second"), (2, b"second")]


async def test_a_fresh_connection_that_ends_is_not_tried_again(fake: Fake, engine: Engine):
    fake.answer = lambda connection, request: None
    assert (await ask(engine)).error == "engine_lost"
    assert len(fake.requests) == 1


async def test_the_second_try_is_the_last(fake: Fake, engine: Engine):
    fake.answer = lambda connection, request: OK if (connection, request) == (1, 1) else None
    await ask(engine)
    assert (await ask(engine, b"x")).error == "engine_lost"
    assert len(fake.requests) == 3


@pytest.mark.parametrize(
    "begun",
    [
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
    ],
)
async def test_an_answer_that_had_begun_is_never_asked_for_twice(fake: Fake, engine: Engine, begun: bytes):
    def answer(connection: int, request: int) -> bytes | None:
        return OK if (connection, request) == (1, 1) else begun if request == 2 else None

    await ask(engine)
    fake.answer = answer
    asked = Ask()
    engine.post("/v1/completions", b"x", asked)
    await until(lambda: len(fake.requests) == 2)
    await turns()
    assert not asked.over.is_set()
    for connection in list(engine._open):
        assert connection._transport is not None
        connection._transport.close()
    await asyncio.wait_for(asked.over.wait(), PATIENCE_S)
    assert asked.error == "engine_lost"
    assert len(fake.requests) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"\x00" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
        OK + OK,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Type: a\rb\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Type: a\x00b\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhix\r\n",
        b"ICY 200 OK\r\n\r\n",
        OK + b"and more than was said",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 40_000 + OK,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200_000 + b"\r\n",
    ],
)
async def test_what_is_no_answer_ends_the_connection(fake: Fake, engine: Engine, answer: bytes):
    fake.answer = lambda connection, request: answer
    asked = await ask(engine)
    assert asked.error == "engine_protocol"
    await until(lambda: not engine._open)


async def test_interim_answers_are_passed_over(fake: Fake, engine: Engine):
    fake.answer = lambda connection, request: b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK
    asked = await ask(engine)
    assert (asked.content, [h.status for h in asked.heads]) == (b"hi", [200])
    assert (await ask(engine)).content == b"hi"
    assert fake.connections == 1


async def test_a_trailer_is_not_the_next_answer_s_header(fake: Fake, engine: Engine):
    """The connection serves other tenants next."""
    first = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"
        b"Content-Type: text/evil\r\nRetry-After: 99\r\n\r\n"
    )
    second = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nho"
    fake.answer = lambda connection, request: first if request == 1 else second
    assert (await ask(engine)).content == b"hi"
    (head,) = (await ask(engine)).heads
    assert fake.connections == 1
    assert (head.content_type, head.retry_after) == (b"application/octet-stream", None)


async def test_an_engine_that_is_not_there(tmp_path: Path):
    engine = Engine(tmp_path / "nowhere.sock")
    assert (await ask(engine)).error == "engine_unavailable"


class Full:
    """An engine that accepts nothing for now, and whose line of waiting connections is full."""

    def __init__(self, path: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.setblocking(False)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.waiting: list[socket.socket] = []
        while True:
            one = socket.socket(socket.AF_UNIX)
            self.waiting.append(one)
            one.setblocking(False)
            try:
                one.connect(str(path))
            except BlockingIOError:
                return

    async def serve(self) -> None:
        """Accept everyone from now on, and answer who asks."""
        server = await asyncio.start_unix_server(self._answer, sock=self.listener)
        async with server:
            await server.serve_forever()

    @staticmethod
    async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n{}")
            writer.write(OK)
        writer.transport.abort()

    def close(self) -> None:
        for one in (self.listener, *self.waiting):
            one.close()


async def test_an_engine_whose_line_is_full_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "FULL_S", 600.0)  # we may be stopped for long
    full = Full(tmp_path / "engine.sock")
    engine = Engine(tmp_path / "engine.sock")
    asked = Ask()
    engine.post("/v1/completions", b"{}", asked)
    await asyncio.sleep(0.05)
    assert not asked.over.is_set()
    serving = asyncio.create_task(full.serve())
    await asyncio.wait_for(asked.over.wait(), 60)
    assert (asked.error, asked.content) == (None, b"hi")
    engine.close()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    full.close()


async def test_an_engine_whose_line_stays_full_counts_as_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "FULL_S", 0.05)
    full = Full(tmp_path / "engine.sock")
    assert (await ask(Engine(tmp_path / "engine.sock"))).error == "engine_unavailable"
    full.close()


async def test_cancelling_closes_the_connection_and_is_silent(fake: Fake, engine: Engine):
    fake.answer = lambda connection, request: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"
    asked = Ask()
    call: Call = engine.post("/v1/completions", b"{}", asked)
    await until(lambda: asked.content == b"hi")
    call.cancel()
    await until(lambda: not engine._open)
    assert not asked.over.is_set()
    early = engine.post("/v1/completions", b"{}", asked)
    early.cancel()
    await until(lambda: not engine.running)
    assert not engine._open
    assert not asked.over.is_set()


async def test_idle_connections_are_closed(fake: Fake, engine: Engine):
    await ask(engine)
    assert len(engine._open) == 1
    engine.tick(asyncio.get_running_loop().time() + module.IDLE_S + 1)
    await until(lambda: not engine._open)


async def test_a_connection_that_says_close_is_not_kept(fake: Fake, engine: Engine):
    fake.answer = lambda connection, request: OK.replace(
        b"Content-Type", b"Connection: close\r\nContent-Type"
    )
    assert (await ask(engine)).content == b"hi"
    assert (await ask(engine)).content == b"hi"
    assert fake.connections == 2


async def test_only_what_clients_may_see_is_taken_from_the_head(fake: Fake, engine: Engine):
    fake.answer = lambda connection, request: OK.replace(
        b"Content-Type", b"Server: uvicorn\r\nX-Model-Path: /models\r\nRetry-After: 3\r\nContent-Type"
    )
    (head,) = (await ask(engine)).heads
    assert (head.content_type, head.retry_after) == (b"text/plain", b"3")
    assert set(ResponseHead.__slots__) == {"content_type", "length", "retry_after", "status"}


async def test_a_connection_that_has_ended_is_gone_at_once(engine: Engine) -> None:
    """Not when the garbage collector comes by, which is seldom: meanwhile ended ones would take megabytes."""
    gc.disable()
    try:
        await ask(engine)
        (ended,) = (weakref.ref(connection) for connection in engine._open)
        engine.tick(asyncio.get_running_loop().time() + module.IDLE_S + 1.0)
        await until(lambda: ended() is None)
    finally:
        gc.enable()
