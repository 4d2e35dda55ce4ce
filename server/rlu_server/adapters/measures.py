"""Plain numbers and states that the data path keeps; `gateway/` turns them into metrics and readiness.

Every label is from a fixed set of ours, so the number of series is bounded and none can hold content.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

FIRST_BYTE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds of the time to the first byte."""


@dataclass(slots=True)
class Measures:
    """Counters since the process started, and gauges of this moment."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By route and HTTP status."""
    refusals: Counter[str] = field(default_factory=Counter)
    """By code."""
    receipts: Counter[str] = field(default_factory=Counter)
    """By status."""
    receipts_lost: int = 0
    """The attestor had closed the session itself, so its log holds its own `failed` receipt instead of ours."""
    sessions_opened: Counter[str] = field(default_factory=Counter)
    sessions_closed: Counter[str] = field(default_factory=Counter)
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    connections: int = 0
    in_flight: int = 0
    first_byte: list[int] = field(default_factory=lambda: [0] * (len(FIRST_BYTE_BUCKETS) + 1))
    """Time from the complete request to the first response byte, one count a bucket; the last is beyond all bounds."""
    first_byte_sum_s: float = 0.0

    def took_to_first_byte(self, seconds: float) -> None:
        self.first_byte[bisect_left(FIRST_BYTE_BUCKETS, seconds)] += 1
        self.first_byte_sum_s += seconds


@dataclass(slots=True)
class Readiness:
    """What must hold for the gateway to serve."""

    attestor: bool = False
    engine: bool = False
    probed: bool = False
    """The engine refused an illegal salt on every route that takes one."""
    draining: bool = False
    absent: frozenset[str] = frozenset()
    """Relayed routes that the engine does not offer for this model; they are refused in their API's own words."""

    def missing(self) -> list[str]:
        """Codes of what stands in the way; empty when ready."""
        found = [] if self.attestor else ["signer_unavailable"]
        if not self.engine:
            found.append("engine_unavailable")
        elif not self.probed:
            found.append("salt_unproven")
        return [*found, "draining"] if self.draining else found
