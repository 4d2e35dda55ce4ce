"""What is asked of every system, and which number of the answer counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from loadgen import Plan

BOOK: dict[str, Any] = {
    "default": {"events": 8},
    # Never full, so that no system holds requests back.
    "room": 100_000,
    "scripts": {
        "short": {"events": 8},
        "flooded": {"events": 2000},
        "paced": {"events": 3000, "interval_ms": 20},
        "ttft": {"events": 8, "interval_ms": 20, "first_ms": 20},
        "agent": {"events": 8},
    },
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """`headline`: the field of `Result` that the scenario is for; `better` says which way."""

    name: str
    title: str
    headline: str
    unit: str
    better: str
    plan: Plan

    def plan_for(
        self, key: str | None, pids: tuple[int, ...], beside: tuple[int, ...], duration_s: float
    ) -> Plan:
        return replace(self.plan, key=key, pids=pids, beside=beside, duration_s=duration_s)


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "short", "short requests, 32 connections", "requests_per_s", "req/s", "higher", Plan(script="short")
    ),
    Scenario(
        "flooded",
        "flooded, 32 streams",
        "events_per_s",
        "events/s",
        "higher",
        Plan(script="flooded", stream=True),
    ),
    Scenario(
        "paced",
        "paced (20 ms), 256 streams",
        "cpu_us_per_event",
        "CPU µs/event",
        "lower",
        Plan(script="paced", stream=True, connections=256, spread_s=0.5),
    ),
    Scenario(
        "ttft",
        "time to first event, 32 paced streams",
        "ttft_p50_ms",
        "ms",
        "lower",
        Plan(script="ttft", stream=True, spread_s=0.2, think_s=0.1),
    ),
    Scenario(
        "agent",
        "agent turns: 64 KB request, 8 events",
        "requests_per_s",
        "req/s",
        "higher",
        Plan(api="responses", script="agent", stream=True, prompt_bytes=64 * 1024),
    ),
)
