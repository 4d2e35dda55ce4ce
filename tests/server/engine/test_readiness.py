from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from rlu_server.engine import readiness
from rlu_server.engine.canary import Canary
from rlu_server.engine.readiness import EngineUnfit

CANARY = Canary("question", "answer", 16)


def http(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def answer(text: object) -> bytes:
    return http(200, json.dumps({"choices": [{"message": {"content": text}}]}).encode())


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Callable[[bytes], asyncio.Future[Path]]]:
    """An engine that gives one answer to everything."""
    servers = []

    async def start(reply: bytes) -> Path:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply)
            writer.close()

        path = tmp_path / f"{len(servers)}.sock"
        servers.append(await asyncio.start_unix_server(serve, str(path)))
        return path

    yield start  # type: ignore[misc]
    for server in servers:
        server.close()


async def test_the_known_answer(engine: Callable[[bytes], asyncio.Future[Path]]) -> None:
    await readiness.check_canary(await engine(answer("answer")), "m", CANARY)


@pytest.mark.parametrize(
    "reply",
    [
        answer("another answer"),
        answer("answer "),
        answer(None),
        http(500, b""),
        http(200, b"{}"),
        http(200, b"[]"),
        http(200, b"not JSON"),
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: 99999999\r\n\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\nshort",
    ],
)
async def test_anything_else_is_unfit(engine: Callable[[bytes], asyncio.Future[Path]], reply: bytes) -> None:
    with pytest.raises(EngineUnfit) as caught:
        await readiness.check_canary(await engine(reply), "m", CANARY)
    assert "another answer" not in str(caught.value)


async def test_waits_for_health(tmp_path: Path, engine: Callable[[bytes], asyncio.Future[Path]]) -> None:
    await asyncio.wait_for(readiness.wait_healthy(await engine(http(200, b""))), 60)
    for path in (tmp_path / "absent.sock", await engine(http(503, b"")), await engine(b"")):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(readiness.wait_healthy(path), 0.5)


async def test_a_cancellation_that_comes_with_an_answer_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who stops waiting for an engine does, whatever the engine says at that moment."""
    statuses = iter((503, 200))

    async def answered(*_: object) -> tuple[int, bytes]:
        waiting.cancel()
        return next(statuses), b""

    monkeypatch.setattr(readiness, "_request", answered)
    waiting = asyncio.ensure_future(readiness.wait_healthy(tmp_path))
    await asyncio.wait((waiting,))
    assert waiting.cancelled()


def test_no_canary(tmp_path: Path) -> None:
    assert readiness.load_canary(tmp_path) is None


async def test_another_answer_is_told_from_none(engine: Callable[[bytes], asyncio.Future[Path]]) -> None:
    with pytest.raises(readiness.WrongAnswer):
        await readiness.check_canary(await engine(answer("another")), "m", CANARY)
    with pytest.raises(EngineUnfit) as caught:
        await readiness.check_canary(await engine(http(500, b"")), "m", CANARY)
    assert not isinstance(caught.value, readiness.WrongAnswer)


def test_canary_file(tmp_path: Path) -> None:
    (tmp_path / readiness.CANARY_FILE).write_text('{"prompt": "p", "expect": "e"}')
    assert readiness.load_canary(tmp_path) == Canary("p", "e", 512)


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", '{"prompt": "p"}', '{"prompt": "p", "expect": ""}', '{"prompt": 1, "expect": "e"}'),
        *(
            '{"prompt": "p", "expect": "e", "x": 1}',
            '{"prompt": "p", "expect": "e", "max_tokens": 0}',
            " " * 70000,
        ),
    ],
)
def test_other_canary_files_refuse(tmp_path: Path, content: str) -> None:
    (tmp_path / readiness.CANARY_FILE).write_text(content)
    with pytest.raises(EngineUnfit):
        readiness.load_canary(tmp_path)
