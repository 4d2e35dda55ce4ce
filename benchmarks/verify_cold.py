"""How long `rlu verify FILE` takes from a cold start: a new process each time, from `exec` to exit.

    python benchmarks/verify_cold.py [--rounds 15]

A bundle with one exchange, and bare evidence of each kind with an item of its own, made by fake vendors; nothing is fetched. Wall-clock
time says what a person waits, CPU time what it costs whatever else the machine does. Prints a table and writes `results/verify-cold.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "verify-cold.json"
TARGET_S = 0.4
sys.path.insert(0, str(HERE.parent / "tests"))


def files(directory: Path) -> dict[str, tuple[str, ...]]:
    """Name to what is verified, with its time."""
    from fakes import amd, aws, intel, nvidia
    from fakes.deployment import AT, Deployment

    data = bytes(range(64))
    contents = {
        "bundle": Deployment().bundle(1).encode(),
        "sev-snp": amd.parts(amd.Chip(), data).item(),
        "tdx": intel.parts(intel.Platform(), data).item(),
        "nitro": aws.parts(aws.Module("nitro"), data).item(),
        "nvidia, 2 GPUs": nvidia.hgx(gpus=2).parts(data[:32]).item(),
    }
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    verified = {name: ("verify", str(directory / name), "--as-of", str(AT)) for name in contents}
    return {**verified, "nothing (rlu version)": ("version",)}


def run(arguments: tuple[str, ...]) -> tuple[float, float]:
    """Seconds of wall-clock and CPU time of one command."""
    command = (str(Path(sys.executable).parent / "rlu"), *arguments)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False, env={**os.environ, "PYTHONHASHSEED": "0"})
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as directory:
        cases = files(Path(directory))
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
        for _ in range(rounds):  # in turns, so that a disturbance hits all alike
            for name, arguments in cases.items():
                measured[name].append(run(arguments))
    rows = {
        name: {
            "wall_s": statistics.median(wall for wall, _ in found),
            "least_wall_s": min(wall for wall, _ in found),
            "cpu_s": statistics.median(cpu for _, cpu in found),
        }
        for name, found in measured.items()
    }
    load = os.getloadavg()[0]
    RESULTS.write_text(json.dumps({"rounds": rounds, "load": load, "cases": rows}, indent=1) + "\n")
    print(f"{'':<24}{'median':>9}{'least':>9}{'CPU':>9}   (load {load:.1f})")
    for name, row in rows.items():
        print(f"{name:<24}{row['wall_s']:>8.3f}s{row['least_wall_s']:>8.3f}s{row['cpu_s']:>8.3f}s")
    slow = [name for name, row in rows.items() if row["least_wall_s"] > TARGET_S]
    print(f"target: {TARGET_S} s, {'missed by ' + ', '.join(slow) if slow else 'met'}")
    return bool(slow)


if __name__ == "__main__":
    sys.exit(main())
