from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest

from rlu_server.adapters.events import Events
from rlu_server.core.responses import LABEL
from rlu_server.core.routes import RELAYED
from rlu_server.supervisor.streams import Output, read_posture


async def given(*lines: bytes, starting: bool = True) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    events: list[tuple[str, dict[str, Any]]] = []
    output = Output(lambda name, values: events.append((name, dict(values))))
    if not starting:
        output.forget()
    reading, writing = os.pipe()
    task = asyncio.create_task(output.read(reading))
    await asyncio.to_thread(os.write, writing, b"".join(lines))
    os.close(writing)
    await asyncio.wait_for(task, 60)
    return events, list(output.lines)


async def test_events_pass() -> None:
    events, lines = await given(b'{"event": "a.b", "code": "x_y", "count": 3, "time": 1.5}\n', starting=False)
    assert events == [("a.b", {"code": "x_y", "count": 3, "time": 1.5})]
    assert lines == []


@pytest.mark.parametrize(
    "line",
    [
        b'{"event": "a", "note": "what the user said"}\n',
        b'{"event": "a b"}\n',
        b'{"event": ""}\n',
        b'{"event": 1}\n',
        b'{"event": "a", "inner": {"x": 1}}\n',
        b'{"event": "' + b"a" * 65 + b'"}\n',
        b"Traceback: SECRET\n",
        b"\xff\xfe\n",
        b"SECRET without an end",
        b"[1]\n",
    ],
)
async def test_anything_else_is_withheld_once_content_is_possible(line: bytes) -> None:
    events, lines = await given(line, starting=False)
    assert (events, lines) == ([("output.withheld", {})], [])


async def test_every_line_of_the_access_log_passes() -> None:
    """Each route there is, models by the names hubs have; and what it must not be does not."""
    routes = [route.path for route in RELAYED.values()]
    said: list[bytes] = []
    log = Events(said.append)
    for route in (*routes, "/", "/v1/models", "/v1/models/{id}", LABEL, "own", "other"):
        log.access(route=route, status=200, request_id="req_0_1", code="", model="Qwen/Qwen3-8B:main", seq=1)
    events, _ = await given(*said, starting=False)
    assert [values["route"] for _, values in events] == [json.loads(line)["route"] for line in said]
    assert {name for name, _ in events} == {"request_answered"}
    log.access(route="/v1/what was said", status=200, request_id="req_0_1", code="")
    assert await given(said[-1], starting=False) == ([("output.withheld", {})], [])


async def test_text_explains_a_start() -> None:
    events, lines = await given(b"why\n", b'{"text": "because"}\n', b"x" * 1000 + b"\n")
    assert events == []
    assert lines == ["why", "because", "x" * 400]


async def test_an_endless_line_ends_nothing() -> None:
    async def flood() -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
        return await given(b"A" * 300_000, b"\n", b'{"event": "after"}\n', starting=False)

    events, lines = await asyncio.wait_for(flood(), 60)
    assert events[-1] == ("after", {})
    assert lines == []


async def posture(data: bytes) -> dict[str, Any]:
    reading, writing = os.pipe()
    task = asyncio.create_task(read_posture(reading))
    await asyncio.to_thread(os.write, writing, data)
    os.close(writing)
    return await asyncio.wait_for(task, 60)


async def test_posture() -> None:
    assert await posture(json.dumps({"a": 1}).encode() + b"\n") == {"a": 1}


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"x" * 70_000])
async def test_no_posture(data: bytes) -> None:
    assert await posture(data) == {}
