"""Does a process keep what it should let go? Pure arithmetic over samples of its resident memory."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

SLACK = 4 * 2**20
"""Growth that an allocator's fragments explain."""
SHARE = 0.02
"""The same, as a share of what there was."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Resident bytes at a time in seconds, and how many requests had been served."""

    at: float
    resident: int
    requests: int


@dataclass(frozen=True, slots=True)
class Growth:
    """Resident memory early and late in a run, each the median of a quarter of it, and requests in between."""

    early: int
    late: int
    requests: int

    @property
    def grown(self) -> int:
        return self.late - self.early

    @property
    def per_request(self) -> float:
        """Bytes."""
        return self.grown / self.requests if self.requests else 0.0

    def beyond(self, allowed: int = 0) -> bool:
        """Is it more than chance and what is `allowed`?"""
        return self.grown > max(SLACK, SHARE * self.early) + allowed


def growth(samples: Sequence[Sample]) -> Growth:
    """The second quarter of a run against the last: the first one warms up.

    Raises:
        ValueError: fewer than eight samples say nothing.
    """
    if len(samples) < 8:
        raise ValueError("eight samples are needed")
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    return Growth(
        int(statistics.median(sample.resident for sample in early)),
        int(statistics.median(sample.resident for sample in late)),
        late[quarter // 2].requests - early[quarter // 2].requests,
    )
