"""When attestor and gateway lost together what only they knew, by the events of the supervisors. Pure.

A receipt exists in memory before it is in the log: in the attestor's until the batch is signed, and in the gateway's while the attestor is
away. What both lost together, nobody can sign. What settles takes a moment: `SETTLED_S`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SETTLED_S = 1.0
"""An exchange that ended so long ago is in the log, unless the signer or the disk is in trouble."""
TROUBLE = ("signer.failed", "log.write_failed")
EXITED = ("attestor.exited", "gateway.exited")
Span = tuple[float, float]


def lost_together(events: Sequence[Mapping[str, Any]]) -> list[Span]:
    """Spans in which both were lost, the one before the other had what it knew."""
    losses = _Losses()
    for event in events:
        losses.told(str(event["event"]), float(event["time"]))
    return losses.spans


@dataclass(slots=True)
class _Losses:
    """What is known at one event.

    Attributes:
        gone: when each of the two was lost, as long as the other may know what it did not.
        trouble: since when the signer fails; `over`: when what was refused meanwhile has been asked again.
        settled: when what a gateway had open is in the log as failed.
        back: when the gateway has told the new attestor what the one before did not log.
        last: the event before, of the same supervisor; 0.0: there is none.
    """

    spans: list[Span] = field(default_factory=list)
    gone: dict[str, float] = field(default_factory=dict)
    trouble: float | None = None
    over: float = math.inf
    settled: float = math.inf
    back: float = math.inf
    last: float = 0.0

    def told(self, name: str, at: float) -> None:
        # A supervisor that was killed was so at some time after it said something.
        self._settle(self.last if name == "measuring" else at)
        self.last, before = at, self.last
        if name in TROUBLE:
            self.trouble, self.over = at if self.trouble is None else self.trouble, math.inf
        elif name == "signer.recovered":
            self.over = at + SETTLED_S
        elif name in EXITED:
            self._exited(name.partition(".")[0], at)
        elif name == "gateway.lost" and self.trouble is None:
            self.settled = at + SETTLED_S
        elif name == "attestor_connected":
            self.back = at + SETTLED_S
        elif name == "receipt_lost" and self.gone:  # the attestor was not back in time
            self._lost(at)
        elif name == "stopped":
            self._ended(at, killed=False)
        elif name == "measuring" and before:
            self._ended(at, killed=True, last=before)

    def _settle(self, moment: float) -> None:
        if moment > self.over:
            self.trouble, self.over = None, math.inf
        if moment >= self.back:
            if self.trouble is not None and self.trouble < self.back - SETTLED_S:
                self.trouble = None
            self.gone.clear()
            self.settled = self.back = math.inf

    def _exited(self, role: str, at: float) -> None:
        self.back = math.inf
        self.gone.setdefault(role, at)
        if len(self.gone) == 2 and at < self.settled:
            self._lost(at)

    def _ended(self, at: float, *, killed: bool, last: float = math.inf) -> None:
        """The supervisor: killed, which both do not outlive, or asked to stop, before which both have their say if they are there."""
        if killed or self.gone:
            self._lost(at, last)
        self.gone.clear()
        self.trouble, self.last = None, at if killed else 0.0
        self.over = self.settled = self.back = math.inf

    def _lost(self, at: float, last: float = math.inf) -> None:
        since = min((last, *self.gone.values()))
        self.spans.append((min(since, since if self.trouble is None else self.trouble) - SETTLED_S, at))
