"""The instances of one attestor: the current one, and, after its key stepped down, the one before for as long as it has sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rlu_server.attestor.attesting import Attesting
from rlu_server.attestor.committer import Committer
from rlu_server.attestor.cosignatures import Cosignatures
from rlu_server.attestor.events import Event, EventLog
from rlu_server.attestor.exporting import Exporting
from rlu_server.attestor.licensing import Licensing
from rlu_server.attestor.past import Past
from rlu_server.attestor.sessions import PendingTally


@dataclass(frozen=True, slots=True)
class Attestor:
    """One instance: its key, its log, and what all connections share of it."""

    committer: Committer
    attesting: Attesting
    clock: Callable[[], int]
    events: EventLog
    renew_s: int
    exporting: Exporting
    past: Past
    head_interval_s: int = 3600

    @property
    def issuer(self) -> str:
        return self.committer.ledger.issuer

    def step_down(self, successor: str) -> None:
        """Another instance opens sessions from now on; this one's log goes on in the segment that it has."""
        self.committer.keep_segment()
        self.committer.ledger.counting.successor = successor

    def count(self, *, last: bool = False) -> None:
        """Have a tally logged when it is time, or a last one before the log ends or the process does."""
        ledger = self.committer.ledger
        size = ledger.signed_size
        counting = ledger.counting
        if counting.last_is_due(size) if last else counting.due(self.clock(), self.head_interval_s, size):
            counting.pending = True
            self.committer.submit([PendingTally(None)])
        if counting.damaged is not None:
            code, counting.damaged = counting.damaged, None  # once
            self.events.emit(Event.TALLY_FAILED, code)

    def drain(self) -> None:
        """Sign what waits, and then count all of it."""
        self.committer.drain(lambda: self.count(last=True))


@dataclass(slots=True)
class Roster:
    """Who signs.

    Attributes:
        current: opens sessions.
        cosignatures: what witnesses brought for the log of any of them.
        leaving: goes on with those it opened, and opens none.
        drift: stable code of what the policy finds wrong with the current instance; None: nothing, or there is no policy.
        licensing: decides whether sessions may be opened; None: no licence is needed.
    """

    current: Attestor
    cosignatures: Cosignatures
    leaving: Attestor | None = None
    drift: str | None = None
    licensing: Licensing | None = None

    def __iter__(self) -> Iterator[Attestor]:
        yield self.current
        if self.leaving is not None:
            yield self.leaving

    def holding(self, session: str) -> Attestor:
        """The instance whose session this is; the current one if it is nobody's."""
        if self.leaving is not None and session in self.leaving.committer.ledger:
            return self.leaving
        return self.current

    def named(self, issuer: str | None) -> Attestor | None:
        """The live instance of this name; the current one for no name."""
        return next((one for one in self if issuer in (None, one.issuer)), None)
