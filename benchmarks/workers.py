"""What further worker processes bring: `python benchmarks/workers.py` runs the gateway with one and with two, in turns.

Engine, generator, attestor, hub and two workers each want a core. With fewer than six, numbers are shown (`--anyway`) and nothing is made
of them: the processes then take each other's time. The generator's own CPU is shown too; near 1.0 it was the limit. Exit codes: 0 two
workers do at least 1.7 times of what one does, 1 they do not, or something could not be started, 3 not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from bench.certificates import make_certificate
from bench.gateway import rlu
from bench.peers import Bench, System
from bench.processes import BENCHMARKS, BenchError, start_engine
from bench.scenarios import BOOK, SCENARIOS
from loadgen import drive, parse_target

CORES = 6
WANTED = 1.7
SATURATED = 0.95
NOT_JUDGED = 3
SCENARIO = "short"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Throughput with two workers beside that with one.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--workers", type=int, default=2, help="beside one")
    parser.add_argument("--connections", type=int, default=128)
    parser.add_argument("--anyway", action="store_true", help="show numbers with too few cores")
    parser.add_argument("--output", type=Path, help="write what was measured as JSON")
    return parser.parse_args(argv)


def judged(ones: Sequence[dict[str, Any]], more: Sequence[dict[str, Any]], cores: int) -> tuple[int, str]:
    """The exit code, and the sentence that says why. Each round gives a ratio; their median counts."""
    ratios = sorted(b["requests_per_s"] / a["requests_per_s"] for a, b in zip(ones, more, strict=True))
    ratio = statistics.median(ratios)
    said = f"{ratio:.2f} times (rounds: {ratios[0]:.2f} to {ratios[-1]:.2f})"
    if cores < CORES:
        return NOT_JUDGED, f"{said}, not judged: {cores} cores, {CORES} are needed"
    if max(one["generator_cpu"] for one in more) > SATURATED:
        return NOT_JUDGED, f"{said}, not judged: the generator was the limit"
    if any(one["errors"] for one in (*ones, *more)):
        return 1, f"{said}, and requests failed"
    return (0 if ratio >= WANTED else 1), f"{said}, {WANTED} are wanted"


def run(options: argparse.Namespace, cores: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """Everything that was measured, by the number of workers."""
    enough = len(cores) >= CORES
    engine_core, our_core, tested = cores[-1:], cores[:1], cores[1:-1] if enough else cores
    scenario = next(one for one in SCENARIOS if one.name == SCENARIO)
    measured: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="rlu-bench-") as directory, ExitStack() as stack:
        scratch = Path(directory)
        (scratch / "book.json").write_text(json.dumps(BOOK))
        engine = start_engine(scratch, scratch / "book.json", engine_core)
        stack.callback(engine.process.stop)
        systems: dict[int, System] = {}
        for workers in (1, options.workers):
            home = scratch / str(workers)
            home.mkdir()
            certificate = make_certificate(home)
            bench = Bench(home, engine, tuple(tested), BENCHMARKS.parent / ".cache", certificate, workers)
            systems[workers] = rlu(bench)
            stack.callback(systems[workers].stop)
        os.sched_setaffinity(0, our_core)
        for _ in range(options.rounds):
            for workers, system in systems.items():
                plan = scenario.plan_for(system.key, system.pids(), (), options.seconds)
                wide = replace(plan, connections=options.connections)
                result = uvloop.run(drive(parse_target(system.target, system.ca), wide))
                measured.setdefault(str(workers), []).append(result.as_json())
    return measured


def main() -> int:
    options = arguments()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < CORES and not options.anyway:
        print(f"workers: {len(cores)} cores, {CORES} are needed; --anyway shows numbers", file=sys.stderr)
        return NOT_JUDGED
    try:
        measured = run(options, cores)
    except BenchError as error:
        print(f"workers: {error}", file=sys.stderr)
        return 1
    for workers, rounds in measured.items():
        for name in ("requests_per_s", "latency_p50_ms", "cpu_us_per_request", "target_cpu", "generator_cpu"):
            print(f"{workers} workers: {name} {statistics.median(one[name] or 0.0 for one in rounds):.2f}")
    code, said = judged(measured["1"], measured[str(options.workers)], len(cores))
    print(said)
    if options.output is not None:
        about = {"cores": len(cores), "said": said, "measured": measured}
        options.output.write_text(json.dumps(about, indent=1) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
