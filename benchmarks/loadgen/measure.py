"""One measurement: open the connections, let them settle, count for a while, and put the numbers together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from loadgen.client import EVENT, Checked, Repeating, Target, Totals
from loadgen.cpu import Usage

PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}


@dataclass(frozen=True, slots=True)
class Plan:
    api: str = "chat"
    stream: bool = False
    connections: int = 32
    duration_s: float = 3.0
    settle_s: float = 0.5
    """Load runs this long before anything is counted."""
    model: str = "scripted"
    script: str | None = None
    """Name of the scripted engine's script."""
    prompt_bytes: int = 64
    key: str | None = None
    pids: tuple[int, ...] = ()
    """Processes whose CPU time is attributed to the requests."""
    beside: tuple[int, ...] = ()
    """Processes that share the generator's core, such as the engine; together they may be the limit."""
    think_s: float = 0.0
    """Mean pause of a connection between an answer and its next request."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further members of the request's body."""
    spread_s: float = 0.0
    """Connections open evenly over this time, so that paced streams do not tick together."""


@dataclass(frozen=True, slots=True)
class Result:
    requests_per_s: float
    events_per_s: float
    bytes_per_s: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    latency_p50_ms: float
    cpu_us_per_request: float | None
    cpu_us_per_event: float | None
    target_cpu: float | None
    """Cores the target used: 1.0 is one core, saturated."""
    generator_cpu: float
    """Cores this generator and what runs beside it used; near 1.0 they, not the target, were the limit."""
    errors: int
    requests: int
    events: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def request_bytes(plan: Plan) -> bytes:
    """The whole request as it goes out, HTTP/1.1 with keep-alive."""
    body: dict[str, Any] = {"model": plan.model, "stream": plan.stream}
    if plan.script:
        body["metadata"] = {"script": plan.script}
    prompt = ("what is the answer? " * (1 + plan.prompt_bytes // 20))[: plan.prompt_bytes]
    if plan.api == "completions":
        body["prompt"] = prompt
    elif plan.api == "responses":
        body["input"] = prompt
    else:
        body["messages"] = [{"role": "user", "content": prompt}]
    if plan.api == "messages":
        body["max_tokens"] = 4096
    body.update(plan.extra)
    content = json.dumps(body, separators=(",", ":")).encode()  # as SDKs and agents write it
    head = f"POST {PATHS[plan.api]} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
    if plan.key:
        head += f"authorization: Bearer {plan.key}\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(content) + content


async def check(target: Target, request: bytes, stream: bool, patience_s: float = 10.0) -> int:
    """Ask once with a real parser; returns the number of events seen.

    Raises:
        ConnectionError: any other status than 200, an answer of the wrong kind, or none.
    """
    asked = await target.connect(lambda: Checked(request))
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(asked.done.wait(), patience_s)
    asked.transport.abort()
    if asked.status != 200:
        raise ConnectionError(f"the target answered {asked.status}: {asked.body[:300]!r}")
    events = asked.body.count(EVENT)
    if bool(events) != stream:
        raise ConnectionError("the target answered with the wrong kind of content")
    return events


async def drive(target: Target, plan: Plan) -> Result:
    """Run the plan against the target."""
    request = request_bytes(plan)
    await check(target, request, plan.stream)
    totals = Totals()
    clients = []
    for _ in range(plan.connections):
        clients.append(await target.connect(lambda: Repeating(request, totals, plan.think_s)))
        if plan.spread_s:
            await asyncio.sleep(plan.spread_s / plan.connections)
    await asyncio.sleep(plan.settle_s)
    theirs, ours = Usage(plan.pids), Usage((os.getpid(), *plan.beside))
    started = time.perf_counter()
    totals.counting = True
    await asyncio.sleep(plan.duration_s)
    totals.counting = False
    seconds = time.perf_counter() - started
    used, own = theirs.seconds(), ours.seconds()
    for client in clients:
        client.stopped = True
        client.transport.abort()
    await asyncio.sleep(0.05)
    return _result(totals, plan, seconds, used, own)


def _result(totals: Totals, plan: Plan, seconds: float, used: float, own: float) -> Result:
    ttft, latency = sorted(totals.ttft), sorted(totals.latency)
    return Result(
        requests_per_s=totals.requests / seconds,
        events_per_s=totals.events / seconds,
        bytes_per_s=totals.bytes / seconds,
        ttft_p50_ms=_quantile(ttft, 0.5) * 1000,
        ttft_p99_ms=_quantile(ttft, 0.99) * 1000,
        latency_p50_ms=_quantile(latency, 0.5) * 1000,
        cpu_us_per_request=used / totals.requests * 1e6 if plan.pids and totals.requests else None,
        cpu_us_per_event=used / totals.events * 1e6 if plan.pids and totals.events else None,
        target_cpu=used / seconds if plan.pids else None,
        generator_cpu=own / seconds,
        errors=totals.errors,
        requests=totals.requests,
        events=totals.events,
        seconds=seconds,
    )


def _quantile(ordered: list[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0
