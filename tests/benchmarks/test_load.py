"""The load generator counts what really happened, however the answers are cut into reads."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadgen import Plan, Result, Target, Usage, drive, parse_target, request_bytes
from loadgen.client import Repeating, Totals
from scripted import Engine, load_book, serve

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
FAULT = {"fault": {"kind": "status", "status": 500}}
QUICK = {"connections": 3, "duration_s": 0.4, "settle_s": 0.05}


class Wire(asyncio.Transport):
    """Counts requests and keeps none."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def write(self, data: object) -> None:
        self.asked += 1


def answered(data: bytes, step: int, count: Callable[[Totals], int]) -> tuple[int, int]:
    """Feed two copies of an answer in reads of `step` bytes; returns requests completed and `count`."""
    totals = Totals(counting=True)
    client = Repeating(b"request", totals)
    wire = Wire()
    client.connection_made(wire)
    for _ in range(2):
        for start in range(0, len(data), step):
            client.data_received(data[start : start + step])
    assert wire.asked == totals.requests + 1
    assert totals.errors == 0
    return totals.requests, count(totals)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 64, 10_000])
def test_an_answer_is_recognised_however_it_is_cut(step: int) -> None:
    known = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    assert answered(known, step, lambda t: t.bytes) == (2, 10)
    empty = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    assert answered(empty, step, lambda t: t.bytes) == (2, 0)
    event = b'data: {"a":1}\n\n'
    chunk = b"%x\r\n%b\r\n" % (len(event), event)
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    requests, _ = answered(head + chunk * 3 + b"0\r\n\r\n", step, lambda t: t.events)
    assert requests == 2
    assert answered(head + b"0\r\n\r\n", step, lambda t: t.events) == (2, 0)
    if step >= 64:
        assert answered(head + chunk * 3 + b"0\r\n\r\n", 10_000, lambda t: t.events) == (2, 6)


async def driven(target: Target, plan: Plan) -> Result:
    """A run in which this machine did not stand still: so much is answered in a tenth of the time."""
    for _ in range(50):
        result = await drive(target, plan)
        if result.requests > 150:
            return result
    raise AssertionError(f"{result.requests} requests")


@pytest.mark.parametrize("api", ["chat", "completions", "responses", "messages"])
async def test_streams_and_whole_answers_of_every_api(tmp_path: Path, api: str) -> None:
    server = await serve(Engine(load_book({"default": {"events": 5}})), uds=tmp_path / "engine")
    target = parse_target(f"unix:{tmp_path / 'engine'}")
    whole = await driven(target, Plan(api=api, pids=(os.getpid(),), **QUICK))
    assert (whole.errors, whole.events) == (0, 0)
    assert whole.cpu_us_per_request is not None
    # The process is this one, with one thread, and the clock of its processor time ticks 100 times a second.
    tick_us = 1e6 / os.sysconf("SC_CLK_TCK") / whole.requests
    assert 0 < whole.cpu_us_per_request < 1e6 / whole.requests_per_s + 2 * tick_us
    stream = await driven(target, Plan(api=api, stream=True, **QUICK))
    events = {"chat": 8, "completions": 6, "responses": 13, "messages": 10}[api]
    assert stream.events / stream.requests == pytest.approx(events, rel=0.05)
    assert 0 < stream.ttft_p50_ms <= stream.ttft_p99_ms
    assert stream.ttft_p50_ms < 200
    server.close()


async def test_the_first_event_is_what_is_timed(tmp_path: Path) -> None:
    book = {"scripts": {"slow": {"events": 2, "first_ms": 60, "interval_ms": 40}}}
    server = await serve(Engine(load_book(book)), uds=tmp_path / "engine")
    plan = Plan(stream=True, script="slow", **{**QUICK, "duration_s": 1.0})
    result = await drive(parse_target(f"unix:{tmp_path / 'engine'}"), plan)
    assert result.ttft_p50_ms > 55
    # Three more events follow, 40 ms apart.
    assert result.latency_p50_ms > result.ttft_p50_ms + 110
    server.close()


async def test_a_target_that_refuses_is_not_measured(tmp_path: Path) -> None:
    book: dict[str, Any] = {
        "scripts": {
            "down": {"fault": {"kind": "status", "status": 503}},
            "gone": {"fault": {"kind": "reset"}},
        }
    }
    server = await serve(Engine(load_book(book)), uds=tmp_path / "engine")
    target = parse_target(f"unix:{tmp_path / 'engine'}")
    for script, what in (("down", "answered 503"), ("gone", "answered 0")):
        with pytest.raises(ConnectionError, match=what):
            await drive(target, Plan(script=script, **QUICK))
    server.close()
    with pytest.raises(OSError, match=r"No such file|refused"):
        await drive(parse_target(f"unix:{tmp_path / 'nobody'}"), Plan(**QUICK))


async def test_an_error_during_the_run_is_counted(tmp_path: Path) -> None:
    engine = Engine(load_book({}))
    server = await serve(engine, uds=tmp_path / "engine")
    faulty, reply, asked = load_book({"default": FAULT}), engine.reply, 0

    def fails_later(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 10:  # the first answer is read by a real parser, and has to be good
            engine.book = faulty
        return reply(*arguments)

    engine.reply = fails_later  # type: ignore[method-assign]
    assert (await drive(parse_target(f"unix:{tmp_path / 'engine'}"), Plan(**QUICK))).errors > 0
    server.close()


def test_requests_are_what_was_asked_for() -> None:
    head, _, body = request_bytes(
        Plan(api="messages", stream=True, script="x", prompt_bytes=1000, key="k")
    ).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/messages HTTP/1.1\r\n")
    assert b"authorization: Bearer k" in head
    parsed = json.loads(body)
    assert (parsed["stream"], parsed["metadata"]) == (True, {"script": "x"})
    assert len(parsed["messages"][0]["content"]) == 1000


@pytest.mark.parametrize("text", ["", "http://host", "ftp://host:1", "unix"])
def test_targets_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="give unix:PATH"):
        parse_target(text)


def test_cpu_time_is_the_processs_own() -> None:
    usage = Usage((os.getpid(),))
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    assert usage.seconds() == pytest.approx(0.2, abs=0.1)
    idle = Usage((os.getpid(),))
    time.sleep(0.1)
    assert idle.seconds() < 0.05


def test_the_command(tmp_path: Path) -> None:
    engine = [sys.executable, str(BENCHMARKS / "scripted_engine.py"), "--port", "0"]
    load = [sys.executable, str(BENCHMARKS / "load.py")]
    with subprocess.Popen(engine, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            host, port = json.loads(process.stdout.readline())["tcp"]
            command = [
                *load,
                f"http://{host}:{port}",
                "--pid",
                str(process.pid),
                "--duration-s",
                "1.0",
                "--stream",
            ]
            done = subprocess.run(command, capture_output=True, check=True, timeout=120)
        finally:
            process.terminate()
    result = json.loads(done.stdout)
    assert result["events"] >= 10
    assert result["cpu_us_per_event"] > 0
    gone = subprocess.run([*load, "http://127.0.0.1:9"], capture_output=True, timeout=120)
    assert gone.returncode == 1
    assert gone.stderr.startswith(b"load: ")
