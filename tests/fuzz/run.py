"""Coverage-guided fuzzing of everything that takes bytes from somebody else.

    python tests/fuzz/run.py [--seconds N] [--only TEXT] [--corpus DIR] [--list]

Every target runs in a process of its own for N seconds. It may raise nothing but the package's own errors, take no more than 5 seconds for
one input, and no more than 512 MiB of memory beyond what the program has at its start. An input that breaks this is kept in
`DIR/<target>/`, and printed. The target `relay-socket` is a whole gateway (see relay_socket.py); it prints a seed instead.
Exit codes: 0 nothing found, 1 something, 2 usage.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import importlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOCKET = "relay-socket"
INPUT_SECONDS, MEMORY_MIB, MAX_INPUT = 5, 512, 256 * 1024
sys.path[:0] = [str(HERE), str(ROOT / "tests")]


def main() -> int:
    arguments = _arguments()
    if arguments.target:
        return fuzz_in_turn(arguments.target, arguments.seconds, arguments.corpus)
    from targets import TARGETS

    everything = [*TARGETS, SOCKET]
    names = [name for name in everything if arguments.only in name]
    if arguments.list or not names:
        print("\n".join(names or everything))
        return 0 if names else 2
    found = [name for name in names if not _run(name, arguments.seconds, arguments.corpus)]
    print(
        f"{len(names)} targets, {arguments.seconds:g} s each: "
        + (f"FOUND in {', '.join(found)}" if found else "nothing found")
    )
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fuzz everything that takes bytes from somebody else.")
    parser.add_argument("--seconds", type=float, default=60, help="for each target (default: %(default)s)")
    parser.add_argument("--only", default="", help="only targets whose name holds this")
    parser.add_argument("--corpus", type=Path, default=ROOT / ".cache" / "fuzz", help="where inputs are kept")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--target", action="append", help=argparse.SUPPRESS)
    return parser.parse_args()


def _run(name: str, seconds: float, corpus: Path) -> bool:
    command = [sys.executable, __file__, "--target", name, "--seconds", str(seconds), "--corpus", str(corpus)]
    if name == SOCKET:
        command = [sys.executable, str(HERE / "relay_socket.py"), "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ending = [
        line for line in done.stderr.splitlines() if line.startswith(("Done", "stat::number_of_executed"))
    ]
    print(f"{name}: {'; '.join(ending) if done.returncode == 0 else 'FOUND'}", flush=True)
    if done.returncode:
        print(done.stdout[-4000:] + done.stderr[-8000:], flush=True)
    return done.returncode == 0


def fuzz_in_turn(names: list[str], seconds: float, corpus: Path) -> int:
    """Targets that watch the same rooms, each in its own process, which has all imported; what it says is in `DIR/<target>.log`."""
    if len(names) == 1:
        return fuzz(names[0], seconds, corpus)
    load(names[0])
    statuses = {}
    for name in names:
        assert watched(name) == watched(names[0])
        child = os.fork()
        if child == 0:
            with (corpus / f"{name}.log").open("wb") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            return fuzz(name, seconds, corpus)
        statuses[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps(statuses))
    return 1 if any(statuses.values()) else 0


def load(name: str) -> None:
    """Import everything, the rooms that guide this target with their coverage."""
    import atheris

    with atheris.instrument_imports(include=watched(name)):
        importlib.import_module("targets")


def fuzz(name: str, seconds: float, corpus: Path) -> int:
    """Fuzz one target in this process; libFuzzer ends it."""
    import atheris

    load(name)
    from targets import TARGETS, RluError

    target = TARGETS[name]
    inputs = corpus / name.replace(" ", "-")
    inputs.mkdir(parents=True, exist_ok=True)

    def one(data: bytes) -> None:
        with contextlib.suppress(RluError):
            target.run(data)

    with tempfile.TemporaryDirectory() as seeds:
        for number, seed in enumerate(target.seeds()):
            one(seed)
            (Path(seeds) / str(number)).write_bytes(seed)
        options = [
            f"-max_total_time={max(1, round(seconds))}",
            f"-timeout={INPUT_SECONDS}",
            "-rss_limit_mb=0",  # it would count what the process that started this one once had
            "-malloc_limit_mb=0",
            f"-max_len={MAX_INPUT}",
            f"-artifact_prefix={inputs}/found-",
            "-print_final_stats=1",
            "-verbosity=0",
        ]
        _limit_memory()
        more = {"custom_mutator": mutate} if target.nested else {}
        atheris.Setup([sys.argv[0], *options, str(inputs), seeds], one, **more)
        atheris.Fuzz()
    return 0


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (MEMORY_MIB << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def watched(name: str) -> list[str]:
    """The rooms whose coverage guides a target: instrumenting all of them would take longer than a short run."""
    first = name.partition("-")[0]
    if first in ("model", "safetensors"):
        return ["rlu_server.models"]
    if first in ("key", "weights"):
        return ["rlu_server.broker.protocol", "rlu_server.broker.sealing"]
    read = ["explain", "bundle", "boundary", "log.tally"]
    rooms = {
        "boundary": read,
        "gcp": ["evidence.gcp_vtpm"],
        "ima": ["tpm"],
        "inspect": read,
        "instance sev": ["evidence.sev_snp"],
        "instance tdx": ["evidence.tdx"],
        "instance nitro": ["evidence.nitro"],
        "instance nvidia": ["evidence.nvidia"],
        "nitro": ["evidence.nitro"],
        "nvidia": ["evidence.nvidia"],
        "sev": ["evidence.sev_snp"],
        "tally": read,
        "tdx": ["evidence.tdx"],
        "tpm": ["tpm"],
        "tpm2": ["evidence.tpm2", "tpm"],
    }
    others = [
        "bundle",
        "canonical",
        "claims",
        "cose",
        "crl",
        "der",
        "instance",
        "jose",
        "policy",
        "statements",
        "x509",
    ]
    return [f"rlu_attestation.{room}" for room in rooms.get(first, others)]


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """Mutate one value inside an item: bytes below their base64url, numbers, or the item's own text."""
    import atheris

    draw = random.Random(seed)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or draw.random() < 0.1:
        return bytes(atheris.Mutate(data, most))
    _mutate_leaf(value, draw)
    try:
        encoded = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except (ValueError, UnicodeEncodeError):
        return data
    return encoded if len(encoded) <= most else data


def _mutate_leaf(value: Any, draw: random.Random) -> None:
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = draw.choice(keys)
        if isinstance(value[key], (dict, list)) and value[key]:
            value = value[key]
            continue
        value[key] = _changed(value[key], draw)
        return


def _changed(leaf: Any, draw: random.Random) -> Any:
    import atheris

    if isinstance(leaf, str):
        try:
            raw = base64.urlsafe_b64decode(leaf + "=" * (-len(leaf) % 4))
        except ValueError:
            raw = b""
        if not raw:
            return leaf + draw.choice("ab1")
        return base64.urlsafe_b64encode(atheris.Mutate(raw, len(raw) + 64)).rstrip(b"=").decode()
    if isinstance(leaf, int):
        return draw.choice((leaf + 1, leaf - 1, 0, 2**53, -(2**63)))
    return draw.choice((None, [], {}, 0, ""))


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
