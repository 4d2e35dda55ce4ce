"""`make soak`: does the gateway's memory stay within its bound, and where it is, under full load?

First 2,000 sessions are opened and left alone and 512 streams run, and beside them short requests come as fast as they are answered: the
gateway must need less than 300 MB. Once it is warm, the same goes on for ten minutes unless told otherwise, and the gateway's memory
must not grow. The attestor's may, by what it keeps of each leaf until a segment is sealed.

Warm is who has done everything often enough to need no more memory for it: rings of receipts are full, what each stream keeps for its next
look has come and gone, and the allocator has seen the worst moments of all streams at once, which takes minutes (README.md).

Exit codes: 0 it holds, 1 it does not, or something could not be started.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
import uvloop

from bench.certificates import make_certificate
from bench.gateway import rlu
from bench.growth import Growth, Sample, growth
from bench.idle_sessions import open_sessions
from bench.peers import Bench, System
from bench.processes import BENCHMARKS, BenchError, start_engine
from bench.scenarios import BOOK
from loadgen import Plan, Totals, parse_target, request_bytes
from loadgen.client import Repeating
from rlu_server.attestor.committer import SEGMENT_LEAVES

MEMORY_BOUND = 300 * 10**6
LEAF_BYTES = 96
"""Of the attestor's memory, for a leaf that is not sealed: its hash twice, what the log keeps beside it, and room to grow into."""
SAMPLES = 60
BEGINNING_S = 60.0
LOAD = 32
WARM_ANSWERS, WARM_EVENTS = 4096, 256
"""Short answers in all, and events of each stream on average, without which nothing is warm, however long it took: four times the
receipts that a session keeps, and some three times what is kept of a stream."""
WARMING_S = 240.0
"""Beyond the time asked for: a machine that takes longer is too busy to say anything."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What was seen; memory in bytes."""

    sessions: int
    streams: int
    gateway_peak: int
    requests: int
    errors: int
    gateway: Growth
    attestor: Growth
    refusals: dict[str, int]
    """Refusals of the gateway by code, as far as its events tell: ten a second of each."""
    warm_up: list[Sample] = field(default_factory=list)
    """The gateway's, before it was warm; none of them counts but for the peak."""
    samples: list[Sample] = field(default_factory=list)
    """The gateway's, from then on."""

    def problems(self, bound: int = MEMORY_BOUND) -> list[str]:
        """What does not hold, in words; nothing when all is well."""
        found = []
        if self.gateway_peak >= bound:
            found.append(f"the gateway needed {_mb(self.gateway_peak)}, and {_mb(bound)} is its bound")
        if self.gateway.beyond():
            found.append(
                f"the gateway's memory grew by {_mb(self.gateway.grown)}, {self.gateway.per_request:.0f} bytes a request"
            )
        if self.attestor.beyond(LEAF_BYTES * min(self.requests, SEGMENT_LEAVES)):
            found.append(f"the attestor's memory grew by {_mb(self.attestor.grown)}")
        if self.errors:
            codes = ", ".join(sorted(self.refusals)) or "none that the gateway told of"
            found.append(f"{self.errors} requests were refused or lost; codes: {codes}")
        if not self.requests:
            found.append("no request was served")
        return found


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Hold the gateway's memory to its bound under full load.")
    parser.add_argument("--minutes", type=float, default=10.0, help="of what is judged")
    parser.add_argument("--warm-up", type=float, default=8.0, metavar="MINUTES", help="at least, before that")
    parser.add_argument("--sessions", type=int, default=2000, help="open and idle")
    parser.add_argument("--streams", type=int, default=512, help="at once, an event each 20 ms")
    parser.add_argument("--output", type=Path, help="write what was seen as JSON")
    return parser.parse_args(argv)


def resident(pid: int, field: str = "VmRSS") -> int:
    """Bytes of a living process's memory; `VmHWM` for the most it ever had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise BenchError(f"process {pid} has ended")


def run(options: argparse.Namespace) -> Findings:
    """Start everything, load it, look."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="rlu-soak-") as directory, ExitStack() as stack:
        scratch = Path(directory)
        (scratch / "book.json").write_text(json.dumps(BOOK))
        engine = start_engine(scratch, scratch / "book.json", cores)
        stack.callback(engine.process.stop)
        cache = BENCHMARKS.parent / ".cache"
        system = rlu(Bench(scratch, engine, tuple(cores), cache, make_certificate(scratch)))
        stack.callback(system.stop)
        findings: Findings = uvloop.run(_soak(system, options))
        return findings


async def _soak(system: System, options: argparse.Namespace) -> Findings:
    target = parse_target(system.target)
    pids = {process.name: process.pid for process in system.processes}
    await open_sessions(target, system.key or "", options.sessions)
    totals = Totals(counting=True)
    streams = request_bytes(Plan(stream=True, script="paced", key=system.key))
    shorts = request_bytes(Plan(script="short", key=system.key))
    clients = [await target.connect(lambda: Repeating(streams, totals)) for _ in range(options.streams)]
    until = time.monotonic() + BEGINNING_S
    while len(totals.ttft) < options.streams:
        if time.monotonic() > until:
            raise BenchError(f"only {len(totals.ttft)} of {options.streams} streams began")
        await asyncio.sleep(0.1)
    clients += [await target.connect(lambda: Repeating(shorts, totals)) for _ in range(LOAD)]
    watching = _Watching(pids, totals)
    warm_up = await watching.warm(options)
    served = totals.requests
    samples = await watching.samples(options.minutes * 60 / SAMPLES, SAMPLES)
    for client in clients:
        client.stopped = True
        client.transport.abort()
    return Findings(
        sessions=options.sessions,
        streams=options.streams,
        gateway_peak=resident(pids["gateway"], "VmHWM"),
        requests=totals.requests - served,
        errors=totals.errors,
        gateway=growth(samples["gateway"]),
        attestor=growth(samples["attestor"]),
        refusals=refusals(next(each.output for each in system.processes if each.name == "gateway")),
        warm_up=warm_up,
        samples=samples["gateway"],
    )


class _Watching:
    """Looks at the processes' memory while the load runs."""

    def __init__(self, pids: dict[str, int], totals: Totals) -> None:
        self._pids = pids
        self._totals = totals
        self._started = time.monotonic()

    async def warm(self, options: argparse.Namespace) -> list[Sample]:
        """Wait until the gateway is warm; gives its samples.

        Raises:
            BenchError: it took too long.
        """
        least = options.warm_up * 60
        taken: list[Sample] = []
        while True:
            taken += (await self.samples(1.0 if least < 60 else 10.0, 1))["gateway"]
            past, totals = time.monotonic() - self._started, self._totals
            enough = totals.requests >= WARM_ANSWERS and totals.events >= WARM_EVENTS * options.streams
            if past >= least and enough:
                return taken
            if past > least + WARMING_S:
                raise BenchError(
                    f"not warm after {past:.0f} s: {totals.requests} answers and {totals.events} events; let nothing else run here"
                )

    async def samples(self, every_s: float, count: int) -> dict[str, list[Sample]]:
        """So many samples of each process."""
        taken: dict[str, list[Sample]] = {name: [] for name in self._pids}
        for _ in range(count):
            await asyncio.sleep(every_s)
            # One measurement for each answer would be a leak of our own.
            self._totals.ttft.clear()
            self._totals.latency.clear()
            for name, pid in self._pids.items():
                at = time.monotonic() - self._started
                taken[name].append(Sample(at, resident(pid), self._totals.requests))
        return taken


def refusals(output: Path) -> dict[str, int]:
    """Codes in a gateway's events, and how often each was written."""
    events = (orjson.loads(line) for line in output.read_bytes().splitlines() if line.startswith(b"{"))
    return dict(Counter(event["code"] for event in events if event["level"] != "info" and "code" in event))


def told(findings: Findings) -> list[str]:
    """What was seen, in words."""
    lines = [
        f"{findings.sessions} idle sessions and {findings.streams} streams: the gateway's peak was {_mb(findings.gateway_peak)}"
    ]
    for name, seen in (("gateway", findings.gateway), ("attestor", findings.attestor)):
        lines.append(
            f"{name}: {_mb(seen.early)} early, {_mb(seen.late)} late, {seen.per_request:.1f} bytes a request"
        )
    lines += [f"{code}: {count} events" for code, count in sorted(findings.refusals.items())]
    return [*lines, f"{findings.requests} answers"]


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def main(say: Callable[[str], None] = print) -> int:
    options = arguments()
    try:
        findings = run(options)
    except BenchError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    for line in told(findings):
        say(line)
    problems = findings.problems()
    if options.output is not None:
        document: dict[str, Any] = {**asdict(findings), "problems": problems}
        options.output.write_text(json.dumps(document, indent=1) + "\n")
    for problem in problems:
        print(f"soak: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
