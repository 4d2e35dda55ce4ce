"""Plain numbers and states that the data path keeps; `gateway/` turns them into metrics and readiness.

Every label is from a fixed set of ours, so the number of series is bounded and none can hold content.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
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
    engine_retries: int = 0
    """Requests that were handed to an engine once more."""
    first_byte: list[int] = field(default_factory=lambda: [0] * (len(FIRST_BYTE_BUCKETS) + 1))
    """Time from the complete request to the first response byte, one count a bucket; the last is beyond all bounds."""
    first_byte_sum_s: float = 0.0
    queue_wait: list[int] = field(default_factory=lambda: [0] * (len(FIRST_BYTE_BUCKETS) + 1))
    """Time in line, of those that had to wait, with the same buckets."""
    queue_wait_sum_s: float = 0.0

    def took_to_first_byte(self, seconds: float) -> None:
        self.first_byte[bisect_left(FIRST_BYTE_BUCKETS, seconds)] += 1
        self.first_byte_sum_s += seconds

    def waited_in_line(self, seconds: float) -> None:
        self.queue_wait[bisect_left(FIRST_BYTE_BUCKETS, seconds)] += 1
        self.queue_wait_sum_s += seconds


@dataclass(slots=True, eq=False)
class Standing:
    """What is known of one engine."""

    name: str
    """Ours for it, the same at every start: `engine`, `engine2` ..."""
    model: str
    alive: bool = False
    probed: bool = False
    """This start of it refused an illegal salt on every route that takes one: only then does a request go there."""
    proving: bool = False
    """It is being looked at; requests wait for what comes out."""
    absent: frozenset[str] = frozenset()
    """Relayed routes that the engine does not offer for this model; they are refused in their API's own words."""


@dataclass(slots=True)
class Readiness:
    """What must hold for the gateway to serve: at first an engine for every model, afterwards an engine for any."""

    attestor: bool = False
    draining: bool = False
    engines: list[Standing] = field(default_factory=list)
    complete: bool = False
    """Every model had a proven engine once."""

    @property
    def engine(self) -> bool:
        """Is any engine alive?"""
        return any(one.alive for one in self.engines)

    @property
    def probed(self) -> bool:
        """Is any engine proven?"""
        return any(one.probed for one in self.engines)

    def note(self) -> None:
        """An engine was proven."""
        proven = {one.model for one in self.engines if one.probed}
        self.complete = self.complete or proven == {one.model for one in self.engines}

    def missing(self) -> list[str]:
        """Codes of what stands in the way; empty when ready."""
        found = [] if self.attestor else ["signer_unavailable"]
        if not (self.complete and any(one.probed or one.proving for one in self.engines)):
            found.append(self.lacking(self.engines))
        return [*found, "draining"] if self.draining else found

    @staticmethod
    def lacking(engines: Iterable[Standing]) -> str:
        """The code of what keeps these from serving."""
        waiting = [one for one in engines if not one.probed]
        return "salt_unproven" if waiting and all(one.alive for one in waiting) else "engine_unavailable"
