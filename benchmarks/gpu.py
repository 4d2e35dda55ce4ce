"""`make bench-gpu`: what the gateway takes from a real vLLM on a real GPU, and whether sizing was right.

vLLM serves a model of a realistic shape with dummy weights on its Unix socket. Load comes over that socket and through the gateway with
everything on, in turns: tokens per second with as many connections as saturate the engine, and the time to the first token with few.
All prompts are equal, so the prefix cache takes the prefill away and the engine decodes as fast as it can: the hardest case for a hop.
Then what `rlu size` says of this model and GPU is put beside what vLLM measured.

Exit codes: 0 measured and the targets met, 1 missed or something failed, 2 this machine cannot do it (and what is missing).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop

from bench import dummy_model, hop
from bench.certificates import make_certificate
from bench.gateway import rlu
from bench.machine import described
from bench.peers import Bench
from bench.processes import BENCHMARKS, BenchError, Engine, Process, start, wait_until
from loadgen import Plan, Result, Target, drive, parse_target
from rlu_server.preflight import probe_gpus

UNABLE = 2
MODEL = "scripted"
"""The name it is served by, as the benchmarks' gateway has it."""
START_S = 1200.0
FEW = 8
"""Connections of the measurement of the first token."""
SHORT_ANSWER = 16
CORES = 4
"""One each for gateway with attestor and generator, the rest for the engine, which needs two."""


@dataclass(frozen=True, slots=True)
class Running:
    """An engine to measure: where it listens, what it is, and how it tells its memory."""

    engine: Engine
    product: str
    version: str


StartEngine = Callable[[argparse.Namespace, Path, Sequence[int]], Running]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the gateway before a real vLLM on a GPU.")
    shapes = [name for name in dummy_model.SHAPES if name != "tiny"]
    parser.add_argument("--model", choices=shapes, default=shapes[0], help="shape of the model")
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="interpreter that has vLLM's CUDA build"
    )
    parser.add_argument(
        "--connections", type=int, nargs="+", default=[64, 128, 256, 512], help="tried to saturate it"
    )
    parser.add_argument("--prompt-bytes", type=int, default=1024, help="a token each")
    parser.add_argument("--answer-tokens", type=int, default=256)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of one measurement")
    parser.add_argument("--no-write", action="store_true", help="print the result, keep nothing")
    return parser.parse_args(argv)


def missing(options: argparse.Namespace, root: Path = Path("/")) -> list[str]:
    """What this machine lacks, each with what to do; nothing when it can be measured."""
    found = []
    gpus = probe_gpus.nvidia(root)
    if gpus.problem is not None:
        found.append(f"the NVIDIA driver does not answer ({gpus.problem[0]}): {gpus.problem[1]}")
    elif not gpus.gpus:
        found.append("an NVIDIA GPU with its driver")
    elif hop.known_gpu(gpus.gpus[0].name) is None:
        found.append(
            f"figures of {gpus.gpus[0].name} in rlu_server/sizing/gpus.py, to hold its memory against"
        )
    problem = _cuda_build(options.python)
    if problem is not None:
        found.append(problem)
    if len(os.sched_getaffinity(0)) < CORES:
        found.append(
            f"{CORES} cores (there are {len(os.sched_getaffinity(0))}): gateway, generator, and two for the engine"
        )
    return found


def _cuda_build(python: Path) -> str | None:
    look = "import importlib.util as u, torch; print(u.find_spec('vllm') is not None, torch.version.cuda)"
    try:
        done = subprocess.run([python, "-c", look], capture_output=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"an interpreter that has vLLM ({python}: {type(error).__name__}); give --python"
    said = done.stdout.decode(errors="replace").split()
    if done.returncode or said[:1] != ["True"]:
        return f"vLLM in {python}: install it there, or give --python"
    if said[1:] == ["None"]:
        return f"vLLM's CUDA build ({python} has one without CUDA): pip install vllm in an environment of its own, and give --python"
    return None


def engine_arguments(model: Path, uds: Path, options: argparse.Namespace) -> list[str | Path]:
    """vLLM's command line: dummy weights, everything else as it comes."""
    sequences = max(options.connections)
    return [
        *(options.python, "-m", "vllm.entrypoints.openai.api_server", "--model", model),
        *("--served-model-name", MODEL, "--uds", uds, "--load-format", "dummy"),
        *("--max-model-len", str(options.context), "--max-num-seqs", str(sequences)),
        *("--disable-uvicorn-access-log", "--generation-config", "vllm"),
    ]


def start_vllm(options: argparse.Namespace, scratch: Path, cores: Sequence[int]) -> Running:
    """Real vLLM on the GPU."""
    gpu = probe_gpus.nvidia(Path("/")).gpus[0]
    model = dummy_model.write(dummy_model.SHAPES[options.model], scratch / "model")
    uds = scratch / "engine.sock"
    offline = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    process = start("vllm", engine_arguments(model, uds, options), cores, scratch, **offline)
    wait_until(process, lambda: _get(uds, "/health") is not None, START_S)
    version = json.loads(_get(uds, "/version") or "{}").get("version", "unknown")
    return Running(Engine(process, uds, 0), gpu.name, version)


def measure_hop(
    options: argparse.Namespace, direct: Target, relayed: Target, key: str | None, say: Callable[[str], None]
) -> tuple[int, hop.Hop]:
    """Find what saturates the engine, then direct and relayed in turns."""

    def tokens(target: Target, connections: int, seconds: float) -> float:
        found = _drive(target, key, options, connections, options.answer_tokens, seconds)
        return found.requests_per_s * float(options.answer_tokens)

    tried = {count: tokens(direct, count, options.seconds / 2) for count in options.connections}
    connections = hop.saturating(tried)
    say("direct: " + ", ".join(f"{count} connections {rate:,.0f} tokens/s" for count, rate in tried.items()))
    rates: tuple[list[float], list[float]] = ([], [])
    firsts: tuple[list[float], list[float]] = ([], [])
    for number in range(options.rounds):
        for target, rate, first in zip((direct, relayed), rates, firsts, strict=True):
            rate.append(tokens(target, connections, options.seconds))
            few = _drive(target, key, options, FEW, SHORT_ANSWER, options.seconds / 3)
            first.append(few.ttft_p50_ms)
        say(f"round {number + 1} of {options.rounds}")
    return connections, hop.Hop(
        direct_tokens=rates[0], relayed_tokens=rates[1], direct_ttft_ms=firsts[0], relayed_ttft_ms=firsts[1]
    )


def run(options: argparse.Namespace, start_engine: StartEngine = start_vllm) -> dict[str, Any]:
    """Everything, raw."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="rlu-bench-gpu-") as directory, ExitStack() as stack:
        scratch = Path(directory)
        running = start_engine(options, scratch, cores[2:] or cores)
        process: Process = running.engine.process
        stack.callback(process.stop)
        bench = Bench(
            scratch, running.engine, (cores[0],), BENCHMARKS.parent / ".cache", make_certificate(scratch)
        )
        system = rlu(bench)
        stack.callback(system.stop)
        os.sched_setaffinity(0, {cores[1 % len(cores)]})
        stack.callback(os.sched_setaffinity, 0, set(cores))
        connections, found = measure_hop(
            options, Target(uds=running.engine.uds), parse_target(system.target), system.key, _say
        )
        name = hop.known_gpu(running.product)
        config = scratch / "model" / "config.json"
        said = None
        if name is not None and config.exists():
            said = asdict(hop.predicted(config.read_bytes(), name, options.context, max(options.connections)))
        log = process.output.read_text(errors="replace")
        seen = asdict(hop.measured(log, (_get(running.engine.uds, "/metrics") or b"").decode()))
        return {
            **described(),
            "model": options.model,
            "gpu": running.product,
            "vllm": running.version,
            "connections": connections,
            "hop": asdict(found),
            "met": found.met,
            "predicted": said,
            "measured": seen,
        }


def _drive(
    target: Target,
    key: str | None,
    options: argparse.Namespace,
    connections: int,
    answer: int,
    seconds: float,
) -> Result:
    plan = Plan(
        stream=True,
        connections=connections,
        duration_s=seconds,
        settle_s=min(5.0, seconds / 2),
        spread_s=min(1.0, seconds / 4),
        model=MODEL,
        prompt_bytes=options.prompt_bytes,
        key=key,
        extra={"max_tokens": answer, "ignore_eos": True},
    )
    found: Result = uvloop.run(drive(target, plan))
    if found.errors:
        raise BenchError(f"{found.errors} answers of the engine or the gateway were errors")
    return found


def _get(uds: Path, path: str) -> bytes | None:
    """What the engine answers; None while it does not."""
    connection = http.client.HTTPConnection("engine", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    with closing(connection):
        try:
            connection.sock.settimeout(10)
            connection.sock.connect(str(uds))
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.read() if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    lacking = missing(options)
    if lacking:
        print("bench-gpu: this machine cannot do it; missing:", *lacking, sep="\n  - ", file=sys.stderr)
        return UNABLE
    try:
        result = run(options)
    except (BenchError, ConnectionError) as error:
        print(f"bench-gpu: {error}", file=sys.stderr)
        return 1
    print(hop.table(result))
    if not options.no_write:
        (BENCHMARKS / "results" / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
