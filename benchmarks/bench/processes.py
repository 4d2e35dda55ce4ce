"""Starting and stopping what a benchmark needs, each process pinned to its core and ended by its own id."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]


class BenchError(Exception):
    """Something could not be started; the message says what, and where its output is."""


@dataclass(slots=True)
class Process:
    """A running process, pinned to its cores."""

    name: str
    popen: subprocess.Popen[bytes]
    output: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def pids(self) -> tuple[int, ...]:
        """This process and all that came from it."""
        found, at = [self.pid], 0
        while at < len(found):
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{found[at]}/task").iterdir():
                    found += map(int, (task / "children").read_text().split())
            at += 1
        return tuple(found)

    def stop(self) -> None:
        self.popen.terminate()
        try:
            self.popen.wait(10)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


def start(
    name: str, command: Sequence[str | Path], cores: Collection[int], scratch: Path, **environment: str
) -> Process:
    """Start a command on some cores; its output goes to a file in `scratch`."""
    output = scratch / f"{name}.out"

    def pin() -> None:
        os.sched_setaffinity(0, cores)

    with output.open("wb") as out:
        popen = subprocess.Popen(
            [str(part) for part in command],
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
            preexec_fn=pin,
        )
    return Process(name, popen, output)


def wait_until(process: Process, ready: Callable[[], bool], seconds: float = 30.0) -> Process:
    """Wait for a process to be of use.

    Raises:
        BenchError: it ended, or time did.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.popen.poll() is not None:
            break
        if ready():
            return process
        time.sleep(0.05)
    process.stop()
    said = process.output.read_text(errors="replace").strip()[-2000:]
    raise BenchError(f"{process.name} did not start:\n{said}")


def accepts(port: int) -> Callable[[], bool]:
    """Does something listen on this loopback port?"""

    def connect() -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return connect


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Engine:
    """The scripted engine, on both transports."""

    process: Process
    uds: Path
    port: int


def start_engine(scratch: Path, script: Path, cores: Collection[int]) -> Engine:
    uds, port = scratch / "engine.sock", free_port()
    command: list[str | Path] = [
        sys.executable,
        BENCHMARKS / "scripted_engine.py",
        "--uds",
        uds,
        "--port",
        str(port),
        "--script",
        script,
    ]
    process = start("engine", command, cores, scratch)
    wait_until(process, lambda: b"{" in process.output.read_bytes())
    listening = json.loads(process.output.read_text())
    return Engine(process, Path(listening["uds"]), listening["tcp"][1])
