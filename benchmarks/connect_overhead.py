"""What `rlu connect` adds for one user: the same requests directly, through the in-process transport, and through the local proxy.

    python benchmarks/connect_overhead.py [--rounds 5] [--requests 40]

All three in one run and in turns, over TLS to the same gateway with everything on; they differ in proof alone. *Direct* checks nothing and
fetches no receipt. Gateway and attestor have one core; user, proxy and engine the other. Compare ratios, not runs.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from bench.certificates import make_certificate
from bench.gateway import rlu_tls
from bench.peers import Bench, System
from bench.processes import BENCHMARKS, BenchError, start, start_engine, wait_until
from bench.scenarios import BOOK
from rlu_attestation import load_policy
from rlu_attestation.connect import VerifyingTransport

POLICY = """
version = 1
pcrs = "any"
[accept]
hardware_profiles = "any"
regions = "any"
boundaries = "any"
sites = "any"
models = "any"
engines = "any"
engine_arguments = "any"
gateways = "any"
gateway_images = "any"
debug_states = "any"
[channel]
origins = ["gateway-memory"]
[lock]
attestor = "any"
engine = "any"
gateway = "any"
[minimum_source]
default = "asserted"
[profiles.benchmark]
keys = ["none"]
unattested = []
[trust]
unsafe_accept_unverified_boot = true
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A request; `events` is what its stream holds, 0 for an answer as a whole."""

    name: str
    path: str
    body: dict[str, Any]
    events: int = 0


def _chat(script: str, *, stream: bool) -> dict[str, Any]:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}
    return {**body, "metadata": {"script": script}, **({"stream": True} if stream else {})}


CASES = (
    Case("short answer", "/v1/chat/completions", _chat("short", stream=False)),
    Case("short stream", "/v1/chat/completions", _chat("short", stream=True), 8),
    Case("stream of 2,000 events, flooded", "/v1/chat/completions", _chat("flooded", stream=True), 2000),
    Case(
        "agent turn of 64 KB",
        "/v1/responses",
        {"model": "scripted", "input": "x" * 65536, "stream": True, "metadata": {"script": "agent"}},
        8,
    ),
)


@dataclass(slots=True)
class Way:
    """One way to ask."""

    name: str
    client: httpx2.Client
    base: str
    headers: dict[str, str]

    def ask(self, case: Case) -> tuple[float, float]:
        """Seconds to the first content, and to the end."""
        began = time.perf_counter()
        first = 0.0
        with self.client.stream(
            "POST", self.base + case.path, json=case.body, headers=self.headers
        ) as response:
            size = 0
            for piece in response.iter_raw():
                first = first or time.perf_counter() - began
                size += len(piece)
        if response.status_code != 200 or not size:
            raise BenchError(f"{self.name}, {case.name}: HTTP {response.status_code}")
        return first, time.perf_counter() - began


def ways(system: System, scratch: Path, core: int, stack: ExitStack) -> list[Way]:
    policy = scratch / "policy.toml"
    policy.write_text(POLICY)
    assert system.key is not None
    assert system.ca is not None
    headers = {"authorization": f"Bearer {system.key}", "accept-encoding": "identity"}
    transport = VerifyingTransport(
        system.target, load_policy(policy), api_key=system.key, insecure_accept_software_key=True
    )
    listening = _proxy(system, policy, scratch, core, stack)
    local = {"authorization": f"Bearer {listening['key']}", "accept-encoding": "identity"}
    trust = ssl.create_default_context(cafile=str(system.ca))
    found = [
        Way("direct", httpx2.Client(verify=trust, trust_env=False), system.target, headers),
        Way("transport", httpx2.Client(transport=transport), system.target, headers),
        Way("proxy", httpx2.Client(trust_env=False), listening["url"], local),
    ]
    for way in found:
        way.client.timeout = httpx2.Timeout(60.0)
        stack.callback(way.client.close)
    return found


def _proxy(system: System, policy: Path, scratch: Path, core: int, stack: ExitStack) -> dict[str, Any]:
    command = [sys.executable, "-c", "from rlu_attestation.cli import main; main()", "connect", system.target]
    options = ["--policy", policy, "--insecure-accept-software-key", "--json"]
    assert system.key is not None
    process = start("connect", [*command, *options], (core,), scratch, RLU_API_KEY=system.key)
    stack.callback(process.stop)

    def listening() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in process.output.read_text().splitlines() if line.startswith("{")]
        return [one for one in lines if one.get("event") == "listening"]

    wait_until(process, lambda: bool(listening()))
    return listening()[0]


def measure(found: Sequence[Way], rounds: int, requests: int) -> dict[str, dict[str, dict[str, float]]]:
    """Case to way to medians over rounds of each round's median, in milliseconds."""
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for way in found:
        for case in CASES:
            way.ask(case)  # opens connections and, where there is one, the session
    for _ in range(rounds):
        for case in CASES:
            count = max(requests // 10, 3) if case.events > 100 else requests
            for way in found:
                times = [way.ask(case) for _ in range(count)]
                middle = [statistics.median(column) * 1000 for column in zip(*times, strict=True)]
                taken.setdefault((case.name, way.name), []).append((middle[0], middle[1]))
    median: Callable[[list[float]], float] = statistics.median
    return {
        case.name: {
            way.name: {
                "first_ms": median([first for first, _ in taken[case.name, way.name]]),
                "total_ms": median([total for _, total in taken[case.name, way.name]]),
            }
            for way in found
        }
        for case in CASES
    }


def table(result: dict[str, dict[str, dict[str, float]]]) -> str:
    """Markdown: milliseconds to the first content and to the end, and the ratio of the ends to direct."""
    lines = [
        "| one user, ms to first content / to the end | direct | transport | proxy |",
        "|---|--:|--:|--:|",
    ]
    for case, row in result.items():
        cells = []
        for one in row.values():
            ratio = one["total_ms"] / row["direct"]["total_ms"]
            shown = "" if one is row["direct"] else f" ({ratio:.2f} ×)"
            cells.append(f"{one['first_ms']:.1f} / {one['total_ms']:.1f}{shown}")
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines)


def run(rounds: int, requests: int) -> dict[str, dict[str, dict[str, float]]]:
    """All measurements."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise BenchError("two cores are needed: one for the gateway, one for user, proxy and engine")
    with tempfile.TemporaryDirectory(prefix="rlu-bench-") as directory, ExitStack() as stack:
        scratch = Path(directory)
        (scratch / "book.json").write_text(json.dumps(BOOK))
        engine = start_engine(scratch, scratch / "book.json", cores[1:2])
        stack.callback(engine.process.stop)
        bench = Bench(scratch, engine, (cores[0],), BENCHMARKS.parent / ".cache", make_certificate(scratch))
        system = rlu_tls(bench)
        stack.callback(system.stop)
        found = ways(system, scratch, cores[1], stack)
        os.sched_setaffinity(0, {cores[1]})
        return measure(found, rounds, requests)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what `rlu connect` adds.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=40, help="of each kind and way in a round")
    options = parser.parse_args()
    try:
        print(table(run(options.rounds, options.requests)))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
