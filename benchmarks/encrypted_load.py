"""What it costs to load weights from an encrypted model, against the plain one.

    python benchmarks/encrypted_load.py [--dir DIRECTORY] [--mib 1024] [--models 8] [--rounds 5]

Models of two safetensors files of random bytes, together so many MiB, are made in DIRECTORY and encrypted. Both ways are what `rlu serve`
does between the start and weights in the engine's memory: the plain model is hashed where it lies, then every tensor is copied out of its
file, as vLLM's loader does; the encrypted one is decrypted into a tmpfs, hashed on the way, then copied out of that. They are taken in
turn, model by model, once with the page cache dropped and once with it, and added up. Asking the broker is left out: two requests, whatever
the size.

Why many models, and as much memory written and given back before each: the host of a virtual machine takes free memory away within seconds,
and giving it again costs many times what using it costs. On a busy virtual machine that still shows, in the kernel's share (`system`) of
the way that takes more memory; `user` is hashing, decrypting and copying alone. A first round is not counted.

The target, at most 15 % more, is for wall-clock and CPU time, as the median of the rounds' ratios. Prints a table and writes
`results/encrypted-load.json`; exit code 1 if the target is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from rlu_server.broker.sealed_files import seal, unseal
from rlu_server.models import manifest
from rlu_server.models.walking import walk
from rlu_server.supervisor import runtime

RESULTS = Path(__file__).resolve().parent / "results" / "encrypted-load.json"
TARGET = 1.15
TENSOR = 1 << 23
"""Bytes of one tensor."""
KEY = bytes(range(32))
TIMES, WAYS = ("cold", "warm"), ("plain", "encrypted")


def make(directory: Path, mib: int) -> None:
    """A model; its bytes are random, so that no storage is clever about them."""
    directory.mkdir()
    for number in range(2):
        count = (mib << 20) // 2 // TENSOR
        tensors = {
            f"layer.{index}.weight": torch.frombuffer(bytearray(os.urandom(TENSOR)), dtype=torch.bfloat16)
            for index in range(count)
        }
        save_file(tensors, directory / f"model-{number:05}.safetensors")
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def load(directory: Path, memory: torch.Tensor) -> None:
    """Every tensor copied into memory that is there already, as vLLM's loader fills its parameters."""
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                memory.copy_(file.get_tensor(name))


def plain(model: Path, memory: torch.Tensor) -> None:
    manifest.digest(walk(model))
    load(model, memory)


def encrypted(sealed: Path, tmpfs: Path, memory: torch.Tensor) -> None:
    unseal(sealed, tmpfs, KEY)
    load(tmpfs, memory)


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds: on the clock, and of CPUs altogether, in this program and in the kernel."""
    wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return {"wall": time.perf_counter() - wall, "cpu": user + system, "user": user, "system": system}


def drop(directory: Path) -> None:
    """Out of the page cache, where the file system does that."""
    for path in directory.iterdir():
        with path.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def settle(directory: Path, mib: int) -> None:
    """Have the memory that is about to be used come from this machine, not from its host."""
    place, block = directory / "settle", bytes(1 << 20)
    with place.open("wb", buffering=0) as file:
        os.ftruncate(file.fileno(), mib << 20)
        for _ in range(mib):
            file.write(block)
    place.unlink()


@contextlib.contextmanager
def tmpfs(mib: int) -> Iterator[Path]:
    """Memory of the same kind that the server opens weights into."""
    place = runtime.create(None)
    try:
        place.separate("weights1-00000000", (mib + 64) << 20, huge=True)
        yield place.path / "weights1-00000000"
    finally:
        place.remove()


def one_round(models: list[tuple[Path, Path]], opened: Path, mib: int) -> dict[str, dict[str, float]]:
    """Every model, both ways, cold and warm: the sums."""
    memory = torch.empty(TENSOR // 2, dtype=torch.bfloat16)
    sums = {
        f"{name} {way}": dict.fromkeys(("wall", "cpu", "user", "system"), 0.0)
        for name in TIMES
        for way in WAYS
    }
    for name in TIMES:
        for model, sealed in models:
            for way, directory in zip(WAYS, (model, sealed), strict=True):
                if name == "cold":
                    drop(directory)
                settle(opened, mib)
                work = partial(plain, model) if way == "plain" else partial(encrypted, sealed, opened)
                found = timed(partial(work, memory))
                runtime.wipe(opened)
                for what, seconds in found.items():
                    sums[f"{name} {way}"][what] += seconds
    return sums


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dir", type=Path, default=None, help="on the storage to be measured")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    rounds: list[dict[str, dict[str, float]]] = []
    each = given.mib // given.models
    with tempfile.TemporaryDirectory(dir=given.dir, prefix="encrypted-load-") as place, tmpfs(each) as opened:
        models = [(Path(place) / f"m{number}", Path(place) / f"s{number}") for number in range(given.models)]
        size = 0
        for model, sealed in models:
            make(model, each)
            size += seal(model, sealed, KEY, bytes(32)).manifest.size
        for number in range(given.rounds + 1):
            found = one_round(models, opened, each)
            if number:
                rounds.append(found)
    mib = size / (1 << 20)
    medians = {
        name: {what: round(statistics.median(r[name][what] for r in rounds), 3) for what in first}
        for name, first in rounds[0].items()
    }
    ratios = {
        f"{name} {what}": round(
            statistics.median(r[f"{name} encrypted"][what] / r[f"{name} plain"][what] for r in rounds), 3
        )
        for name in TIMES
        for what in ("wall", "cpu", "user")
    }
    result = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "command": " ".join(["python", "benchmarks/encrypted_load.py", *sys.argv[1:]]),
        "mib": round(mib),
        "models": given.models,
        "rounds": given.rounds,
        "cores": len(os.sched_getaffinity(0)),
        "machine": f"{platform.machine()}, {_processor()}, load {os.getloadavg()[0]:.1f}",
        "seconds": medians,
        "encrypted_over_plain": ratios,
        "target": TARGET,
    }
    for name, took in medians.items():
        print(
            f"{name:15} {took['wall']:7.2f} s, {mib / took['wall']:6.0f} MiB/s; CPU {took['cpu']:5.2f} s, "
            f"of these in the kernel {took['system']:5.2f} s"
        )
    for name, ratio in ratios.items():
        print(f"encrypted over plain, {name:10} {ratio:6.3f}")
    held = all(ratio <= TARGET for name, ratio in ratios.items() if not name.endswith("user"))
    print(f"target {TARGET}: {'held' if held else 'missed'}")
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if held else 1


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return "processor not named"


if __name__ == "__main__":
    raise SystemExit(main())
