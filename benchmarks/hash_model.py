"""How fast a model is hashed, against what one core can hash and what the storage can read.

    python benchmarks/hash_model.py [--dir DIRECTORY] [--mib 1024] [--files 8] [--rounds 5]

A model of several files of random bytes is made in DIRECTORY. Three rates: SHA-256 of one buffer in memory, the limit of one core; the
model from the page cache, by CPU time, because other work on the machine then costs neither; the model with the page cache dropped, by
wall-clock time, beside plain reads of it by as many threads. Either the hashing or the storage limits: the target is 80 % of the lower
one, for each core. Prints a table and writes `results/hash-model.json`; exit code 1 if hashing misses the target. A file is hashed by one
core: a model in one file is no faster than that.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rlu_server.models import manifest
from rlu_server.models.walking import Tree, walk

RESULTS = Path(__file__).resolve().parent / "results" / "hash-model.json"
TARGET = 0.8
MIB = 1 << 20


def make(directory: Path, files: int, mib: int) -> Tree:
    """The model; its bytes are random, so that no storage is clever about them."""
    for number in range(files):
        with (directory / f"model-{number:05}.safetensors").open("wb") as file:
            for _ in range(mib // files):
                file.write(os.urandom(MIB))
            file.flush()
            os.fsync(file.fileno())
    return walk(directory)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def in_memory(mib: int) -> None:
    buffer = os.urandom(MIB)
    whole = hashlib.sha256()
    for _ in range(mib):
        whole.update(buffer)


def drop(tree: Tree) -> None:
    """Out of the page cache, where the file system does that."""
    for file in tree.files:
        with file.real.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_only(tree: Tree, threads: int) -> None:
    def one(path: Path) -> None:
        buffer = bytearray(MIB)
        with path.open("rb", buffering=0) as opened:
            while opened.readinto(buffer):
                pass

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, (file.real for file in tree.files)))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dir", type=Path, default=None, help="on the storage to be measured")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    threads = manifest.workers()
    cores = len(os.sched_getaffinity(0))
    rates: dict[str, list[float]] = {name: [] for name in ("core", "cached", "storage", "cold")}
    with tempfile.TemporaryDirectory(dir=given.dir, prefix="hash-model-") as place:
        tree = make(Path(place), given.files, given.mib)
        mib = tree.size / MIB
        manifest.digest(tree)
        # Taken in turn, so that what else the machine does meets all of them.
        for _ in range(given.rounds):
            rates["core"].append(given.mib / 4 / timed(lambda: in_memory(given.mib // 4))[1])
            rates["cached"].append(mib / timed(lambda: manifest.digest(tree))[1])
            drop(tree)
            rates["storage"].append(mib / timed(lambda: read_only(tree, threads))[0])
            drop(tree)
            rates["cold"].append(mib / timed(lambda: manifest.digest(tree))[0])
    found = {name: round(statistics.median(each), 1) for name, each in rates.items()}
    limit = min(found["core"] * cores, found["storage"])
    result = {
        "mib": mib,
        "files": given.files,
        "cores": cores,
        "threads": threads,
        "machine": f"{platform.machine()}, load {os.getloadavg()[0]:.1f}",
        "mib_per_s": found,
        "of_one_core": round(found["cached"] / found["core"], 3),
        "of_the_lower_limit": round(found["cold"] / limit, 3),
        "target": TARGET,
    }
    print(f"SHA-256 in memory, one core        {found['core']:10.1f} MiB/s of CPU time")
    print(f"model from the page cache          {found['cached']:10.1f} MiB/s of CPU time")
    print(f"  of one core's limit              {100 * float(result['of_one_core']):10.1f} %   (target 80 %)")
    print(f"reading alone, page cache dropped  {found['storage']:10.1f} MiB/s")
    print(
        f"model, page cache dropped          {found['cold']:10.1f} MiB/s with {threads} threads, {cores} cores"
    )
    print(
        f"  of the lower limit               {100 * float(result['of_the_lower_limit']):10.1f} %   (needs idle cores)"
    )
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if float(result["of_one_core"]) >= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
