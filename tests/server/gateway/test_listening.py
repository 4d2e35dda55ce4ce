"""The listener of the metrics: one path, nobody else's requests, and no harm from whoever connects."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.rig import Response, Rig, Wire, ask_metrics
from rlu_server.gateway import listening
from rlu_server.gateway.listening import MetricsServer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[MetricsServer]:
    server = MetricsServer(("127.0.0.1", 0), lambda: b"rlu_ready 1\n", "text/plain; version=0.0.4")
    await server.start()
    yield server
    await server.close()


async def said(server: MetricsServer, request: bytes) -> bytes:
    """All that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    found = await reader.read()
    writer.close()
    await writer.wait_closed()
    return found


async def test_what_it_answers(server: MetricsServer) -> None:
    head, _, content = (await said(server, b"GET /metrics?x HTTP/1.1\r\n\r\n")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: text/plain; version=0.0.4" in head
    assert content == b"rlu_ready 1\n"
    only_head = await said(server, b"HEAD /metrics HTTP/1.1\r\n\r\n")
    assert only_head.startswith(b"HTTP/1.1 200")
    assert only_head.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET / HTTP/1.1", b"404"),
        (b"GET /metrics/ HTTP/1.1", b"404"),
        (b"GET /v1/models HTTP/1.1", b"404"),
        (b"POST /metrics HTTP/1.1", b"405"),
        (b"", b"404"),
    ],
)
async def test_what_it_refuses(server: MetricsServer, request_line: bytes, status: bytes) -> None:
    assert (await said(server, request_line + b"\r\nHost: x\r\n\r\n")).split()[1] == status


async def test_who_says_too_much_or_leaves_is_let_go(server: MetricsServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * (listening.MAX_HEAD + 1))
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.transport.abort()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /met")
    writer.transport.abort()
    assert b"rlu_ready" in await said(server, b"GET /metrics HTTP/1.1\r\n\r\n")


async def test_who_says_nothing_does_not_stay(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "TIMEOUT_S", 0.01)
    assert await said(server, b"") == b""


async def test_who_does_not_read_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "TIMEOUT_S", 0.05)
    server = MetricsServer(("127.0.0.1", 0), lambda: bytes(64 << 20), "text/plain")
    await server.start()
    wire = Wire(*await asyncio.open_connection("127.0.0.1", server.port))
    await wire.send(b"GET /metrics HTTP/1.1\r\n\r\n")
    while not server._tasks:
        await asyncio.sleep(0.001)
    while server._tasks:
        await asyncio.sleep(0.005)
    wire.abort()
    await server.close()


async def test_only_so_many_at_once(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MAX_CONNECTIONS", 1)
    first = Wire(*await asyncio.open_connection("127.0.0.1", server.port))
    while not server._tasks:
        await asyncio.sleep(0.001)
    second = Wire(*await asyncio.open_connection("127.0.0.1", server.port))
    assert await second.closed()
    second.abort()
    await first.send(b"GET /metrics HTTP/1.1\r\n\r\n")
    assert (await first.response()).content == b"rlu_ready 1\n"
    first.abort()


async def test_the_gateway_s_is_a_socket_of_its_own(tmp_path: Path) -> None:
    async with Rig(tmp_path) as rig:
        mode = rig.places.metrics.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert not mode & 0o007
        answer: Response = await ask_metrics(rig.places.metrics)
        assert answer.status == 200
        assert b"rlu_ready 1.0" in answer.content
        assert (await ask_metrics(rig.places.metrics, "/healthz")).status == 404
        for who in (None, "alice"):
            refused = await rig.call("/metrics", None, who=who, method="GET")
            assert (refused.status, refused.json()["error"]["code"]) == (404, "route_not_found")


async def test_a_port_or_nothing(tmp_path: Path) -> None:
    with_port = {"metrics": {"listen": "127.0.0.1:0"}}
    async with Rig(tmp_path, sections=with_port) as rig:
        assert rig.gateway.metrics is not None
        port = rig.gateway.metrics.port
        assert [e["at"] for e in rig.events if e["event"] == "metrics_listening"] == [f"127.0.0.1:{port}"]
        wire = Wire(*await asyncio.open_connection("127.0.0.1", port))
        await wire.send(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert b"rlu_ready" in (await wire.response()).content
        wire.abort()
        assert not rig.places.metrics.exists()
    async with Rig(tmp_path, sections={"metrics": {"listen": "off"}}) as rig:
        assert rig.gateway.metrics is None
        assert not rig.places.metrics.exists()
