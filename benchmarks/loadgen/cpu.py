"""CPU time that processes used, in nanoseconds, from the scheduler's own account.

`/proc/<pid>/stat` counts in ticks of 10 ms, which is too coarse for a run of seconds; `schedstat` of each thread is exact. Threads that
ended during the interval are missed; none of the servers measured here ends threads under load.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


def cpu_ns(pid: int) -> int:
    """CPU time of all living threads of a process; 0 when it is gone."""
    total = 0
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        pass
    return total


@dataclass(slots=True)
class Usage:
    """CPU used by some processes since this was made."""

    pids: tuple[int, ...]
    before: int = 0

    def __post_init__(self) -> None:
        self.before = self._now()

    def _now(self) -> int:
        return sum(cpu_ns(pid) for pid in self.pids)

    def seconds(self) -> float:
        return (self._now() - self.before) / 1e9
