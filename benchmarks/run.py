"""`make bench`: measure the gateway beside its peers and write `results/latest.json`, the picture and the README's table.

The system under test has one core, the generator and the scripted engine the other; systems take turns within a round, so that whatever
else the machine does hits all of them alike. See README.md for what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import uvloop

from bench.certificates import make_certificate
from bench.gateway import rlu, rlu_tls
from bench.installed import litellm, sglang_router, vllm_router
from bench.peers import Bench, Starter, System, bare, direct, framework, nginx, nginx_tls
from bench.picture import picture
from bench.processes import BENCHMARKS, BenchError, start_engine
from bench.report import replaced, section, table
from bench.scenarios import BOOK, SCENARIOS, Scenario
from loadgen import Result, drive, parse_target

SYSTEMS: dict[str, Starter] = {
    "direct": direct,
    "nginx": nginx,
    "bare": bare,
    "rlu": rlu,
    "vllm-router": vllm_router,
    "sglang-router": sglang_router,
    "nginx-tls": nginx_tls,
    "rlu-tls": rlu_tls,
    "litellm": litellm,
    "fastapi+httpx": framework,
}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Benchmark the gateway beside its peers.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one measurement")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--scenarios", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        help="worker processes of the systems that have them, each on its core",
    )
    parser.add_argument("--no-write", action="store_true", help="print the table, keep nothing")
    return parser.parse_args(argv)


def start_systems(
    bench: Bench, names: Sequence[str], stack: ExitStack
) -> tuple[list[System], dict[str, Any]]:
    """Start what can be started; what cannot is told, not passed over."""
    running, about = [], {}
    for name in names:
        try:
            system = SYSTEMS[name](bench)
        except BenchError as error:
            print(f"  {name}: {error}", file=sys.stderr)
            about[name] = {"failed": str(error)}
            continue
        stack.callback(system.stop)
        running.append(system)
        about[name] = {"version": system.version, "note": system.note}
    return running, about


def divided(cores: Sequence[int], workers: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Cores for the systems under test, for the engine, and for the generator; the last two share one where there are only so many.

    Raises:
        BenchError: there are too few.
    """
    if len(cores) < workers + 1:
        raise BenchError(
            f"{workers + 1} cores are needed: {workers} for the system under test, one for load and engine"
        )
    rest = cores[workers:]
    return tuple(cores[:workers]), (rest[-1],), (rest[0],)


def measure(system: System, scenario: Scenario, beside: tuple[int, ...], seconds: float) -> dict[str, Any]:
    plan = scenario.plan_for(system.key, system.pids(), beside, seconds)
    target = parse_target(system.target, system.ca)
    result: Result = uvloop.run(drive(target, plan))
    return result.as_json()


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All measurements, raw."""
    cores = sorted(os.sched_getaffinity(0))
    tested, engine_cores, ours = divided(cores, options.workers)
    scenarios = [scenario for scenario in SCENARIOS if scenario.name in options.scenarios]
    measured: dict[str, dict[str, list[dict[str, Any]]]] = {scenario.name: {} for scenario in scenarios}
    with tempfile.TemporaryDirectory(prefix="rlu-bench-") as directory, ExitStack() as stack:
        scratch = Path(directory)
        (scratch / "book.json").write_text(json.dumps(BOOK))
        engine = start_engine(scratch, scratch / "book.json", engine_cores)
        stack.callback(engine.process.stop)
        cache = BENCHMARKS.parent / ".cache"
        bench = Bench(scratch, engine, tested, cache, make_certificate(scratch), options.workers)
        systems, about = start_systems(bench, options.systems, stack)
        os.sched_setaffinity(0, ours)
        # Which processes may, together with the generator, fill a core.
        beside = (engine.process.pid,) if engine_cores == ours else ()
        started = time.monotonic()
        for round_number in range(options.rounds):
            for scenario in scenarios:
                for system in systems:
                    if system.only is not None and (scenario.name not in system.only or round_number):
                        continue
                    one = measure(system, scenario, beside, options.seconds)
                    measured[scenario.name].setdefault(system.name, []).append(one)
            spent = time.monotonic() - started
            print(f"  round {round_number + 1} of {options.rounds}, {spent:.0f} s", file=sys.stderr)
    return {
        "when": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "machine": machine(cores),
        "workers": options.workers,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "systems": about,
        "measured": measured,
    }


def machine(cores: Sequence[int]) -> dict[str, Any]:
    info = Path("/proc/cpuinfo").read_text()
    names = [line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": len(cores),
        "kernel": platform.release(),
        "python": platform.python_version(),
        # Decides what hashing the content costs: with them about half a nanosecond a byte, without some three.
        "sha_instructions": "sha_ni" in info or " sha2 " in info,
        "load_at_end": os.getloadavg()[0],
    }


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=BENCHMARKS, capture_output=True, check=False
    )
    return done.stdout.decode().strip() or "unknown"


def write(result: dict[str, Any]) -> None:
    results = BENCHMARKS / "results"
    results.mkdir(exist_ok=True)
    (results / "latest.json").write_text(json.dumps(result, indent=1) + "\n")
    (results / "latest.svg").write_text(picture(result))
    readme = BENCHMARKS / "README.md"
    readme.write_text(replaced(readme.read_text(), section(result)))


def main() -> int:
    options = arguments()
    try:
        result = run(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(table(result))
    if not options.no_write:
        write(result)
    failed = [name for name, about in result["systems"].items() if "failed" in about]
    if failed:
        print(f"bench: not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
