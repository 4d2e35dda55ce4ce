"""Processes that tests start and stop: their output in a file, their end seen to."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

STOP_S = 60.0
NOWHERE = "http://127.0.0.1:9"
NO_WAY_OUT = {
    **dict.fromkeys(
        ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "NPM_CONFIG_REGISTRY"), NOWHERE
    ),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1"),
}
"""Variables with which clients reach this machine, and nothing beyond it."""


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without our variables, which are for the tests and would be taken for settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RLU_")}
    return {**kept, **(more or {})}


class Process:
    """A child with a log. `stop` asks, and ends what does not listen."""

    def __init__(self, command: Sequence[str | Path], log: Path) -> None:
        self.log = log
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment({"PYTHONUNBUFFERED": "1"}),
                # A Ctrl-C is for pytest, which then stops the children in order.
                process_group=0,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def terminate(self) -> None:
        self._child.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float = STOP_S) -> int:
        return self._child.wait(timeout_s)

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()

    def stop(self) -> None:
        if not self.running:
            return
        self.terminate()
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.kill()


def until(what: Callable[[], bool], timeout_s: float, why: Callable[[], str], pause_s: float = 0.1) -> None:
    """Wait for something; fails with `why` when it does not happen."""
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, why()
        time.sleep(pause_s)


def descendants(pid: int) -> Iterator[int]:
    """All processes below one."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield int(child)
            yield from descendants(int(child))


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""
