"""Break a deployment by seeded schedules, and see that its promises hold.

    python tests/faults/run.py [--schedules N] [--minutes N] [--first SEED] [--seed SEED [--only 1,3] [--minimise]] [--workers N] [--again]

A schedule starts a deployment of its own (`rlu serve` under its lock, a scripted engine, an emulated TPM, a disk of its own), lets
clients of two tenants work, breaks what the seed says, mends it, and judges what the clients saw against the log (`observer.py`).
Whatever was judged is kept in `.cache/faults/`, so that a run that was interrupted goes on where it was. Exit codes: 0 everything held,
1 something did not, 2 usage, 3 swtpm is missing.

--seed makes one schedule again; --only leaves out all but some of its steps; --minimise takes out step by step what the failure does not
need. Timing differs from run to run: a seed that failed once may have to be tried a few times.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from faults import trial  # noqa: E402
from faults.observer import Violation  # noqa: E402
from faults.schedule import Schedule, generate  # noqa: E402
from rlu_server import swtpm  # noqa: E402
from rlu_server.selftest.node import NodeError  # noqa: E402

CACHE = ROOT / ".cache" / "faults"
TRIES = 2
"""How often a smaller schedule may hold before its step is taken to be needed."""


def main(given: Sequence[str] | None = None) -> int:
    options = _arguments(given)
    if shutil.which("swtpm") is None:
        print("faults: swtpm is missing: apt-get install swtpm swtpm-tools", file=sys.stderr)
        return 3
    options.cache.mkdir(parents=True, exist_ok=True)
    swtpm.manufacture(options.cache / "tpm")
    results = options.cache / "results.jsonl"
    if options.again:
        results.unlink(missing_ok=True)
    if options.seed is not None:
        return _one(options)
    deadline = time.monotonic() + options.minutes * 60
    known = {(one["seed"], one["workers"]) for one in _known(results)}
    for seed in range(options.first, options.first + options.schedules):
        schedule = generate(seed, options.workers)
        if (seed, schedule.workers) in known:
            continue
        if time.monotonic() > deadline:
            print(f"time is over before seed {seed}; the same command goes on there")
            break
        with results.open("a") as out:
            out.write(json.dumps(_made(schedule, options.cache)) + "\n")
    return _summary([one for one in _known(results) if 0 <= one["seed"] - options.first < options.schedules])


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Break a deployment by seeded schedules; its promises must hold."
    )
    parser.add_argument("--schedules", type=int, default=300, help="how many seeds (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=120, help="no schedule begins later (default: %(default)s)"
    )
    parser.add_argument("--first", type=int, default=1, help="the first seed (default: %(default)s)")
    parser.add_argument(
        "--workers",
        type=int,
        choices=(1, 2, 3, 4),
        help="processes of the gateway (default: 1 or 2, by the seed)",
    )
    parser.add_argument("--seed", type=int, help="this schedule only")
    parser.add_argument(
        "--only", type=_numbers, help="with --seed: these of its steps, counted from 1, such as 1,3"
    )
    parser.add_argument(
        "--minimise", action="store_true", help="with --seed: leave out steps that the failure does not need"
    )
    parser.add_argument("--again", action="store_true", help="forget what was judged before")
    parser.add_argument(
        "--cache", type=Path, default=CACHE, help="where results are kept (default: %(default)s)"
    )
    options = parser.parse_args(given)
    if options.seed is None and (options.only or options.minimise):
        parser.error("--only and --minimise need --seed")
    return options


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _one(options: argparse.Namespace) -> int:
    schedule = generate(options.seed, options.workers)
    if options.only:
        schedule = schedule.only(options.only)
    result = _made(schedule, options.cache)
    if result["violations"] and options.minimise:
        smallest = minimised(schedule, lambda one: bool(_made(one, options.cache)["violations"]))
        whole = generate(options.seed, options.workers).steps
        kept = ",".join(str(whole.index(step) + 1) for step in smallest.steps)
        print(f'as small as it gets: make faults ARGS="--seed {schedule.seed} --only {kept}"')
    return _summary([result])


def minimised(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """The schedule without the steps that its failure does not need."""
    for smaller in schedule.smaller():
        if smaller.steps and any(fails(smaller) for _ in range(TRIES)):
            return minimised(smaller, fails)
    return schedule


def _made(schedule: Schedule, cache: Path) -> dict[str, object]:
    """Make a schedule, say what it was, and give its line for the results."""
    print(
        f"seed {schedule.seed}, workers {schedule.workers}: {'; '.join(map(str, schedule.steps))}", flush=True
    )
    result: dict[str, object] = {"seed": schedule.seed, "workers": schedule.workers}
    try:
        outcome = trial.run(schedule, cache / "tpm")
    except NodeError as error:
        found: tuple[Violation, ...] = (Violation("recovery", str(error)),)
    else:
        found = outcome.violations
        seen = outcome.observed
        result.update(
            made=[f"{step.kind} {step.target}".strip() for step in outcome.made],
            calls=len(seen.calls),
            sessions=len(seen.opened),
            proven=outcome.proven,
            recovered_s=None if seen.recovered_s is None else round(seen.recovered_s, 2),
            slowest_s=round(max((call.seconds for call in seen.calls), default=0.0), 2),
            memory_mib={role: most >> 20 for role, (_, most) in seen.memory.items()},
            omitted=list(outcome.omitted),
            seconds=round(outcome.seconds, 1),
        )
        if found:
            kept = cache / f"seed-{schedule.seed}"
            kept.mkdir(exist_ok=True)
            (kept / "server.log").write_text(outcome.said)
            for number, log in enumerate(seen.logs.values()):
                (kept / f"log-{number}.jsonl").write_bytes(log)
    for one in found:
        print(f"  VIOLATED {one}")
    if found:
        print(f'  again: make faults ARGS="--seed {schedule.seed}"', flush=True)
    result["violations"] = [str(one) for one in found]
    return result


def _known(results: Path) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(FileNotFoundError):
        for line in results.read_text().splitlines():
            with contextlib.suppress(ValueError):  # interrupted while it was written
                yield json.loads(line)


def _summary(results: list[dict[str, Any]]) -> int:
    failed = [one for one in results if one["violations"]]
    recovered = sorted(one["recovered_s"] for one in results if one.get("recovered_s") is not None)
    print(f"{len(results)} schedules, {sum(one.get('calls', 0) for one in results)} requests")
    if recovered:
        shown = {
            part: recovered[min(int(part * len(recovered)), len(recovered) - 1)] for part in (0.5, 0.9, 1.0)
        }
        print(f"served again after: median {shown[0.5]} s, 90% {shown[0.9]} s, longest {shown[1.0]} s")
    peaks: dict[str, int] = {}
    for one in results:
        for role, size in one.get("memory_mib", {}).items():
            peaks[role] = max(peaks.get(role, 0), size)
    print("most memory: " + ", ".join(f"{role} {size} MiB" for role, size in sorted(peaks.items())))
    made = collections.Counter(kind for one in results for kind in one.get("made", ()))
    print(f"{made.total()} faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(made.items())))
    for text in sorted({text for one in results for text in one.get("omitted", ())})[:10]:
        print(f"not made: {text}")
    print(f"FAILED: seeds {', '.join(str(one['seed']) for one in failed)}" if failed else "everything held")
    return 1 if failed else 0


if __name__ == "__main__":
    # A run that is told to end leaves no deployment, and no disk mounted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
