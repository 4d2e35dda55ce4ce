"""When a worker tells how much memory it holds for request content, which is limited for all workers together.

Asking the hub for every piece of a body would cost a turn each. So a worker decides by itself, from what it has and what it was last told
of the others, and tells when it has moved by a step. All together can exceed the limit by a step for each worker, and by what arrives while
a report is on its way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

STEPS = 64
"""A step is so small a part of the limit."""


class Moved:
    """How far a worker is from what it told."""

    def __init__(self, most: int) -> None:
        self._step = max(most // STEPS, 1)
        self._told: Counter[str] = Counter()
        self._total = 0

    def far(self, held: Counter[str], tenant: str) -> bool:
        """Has this tenant's memory, or all of it, moved by a step?"""
        return (
            abs(held[tenant] - self._told[tenant]) >= self._step
            or abs(held.total() - self._total) >= self._step
        )

    def reported(self, held: Mapping[str, int]) -> None:
        """The hub knows this."""
        self._told = Counter(held)
        self._total = self._told.total()
