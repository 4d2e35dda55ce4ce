"""Plain numbers and states that the data path keeps; `gateway/` turns them into metrics and readiness.

Every label is from a fixed set of ours, or one of a bounded number of pseudonyms, so the number of series is bounded and none can hold
content.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from rlu_server.core.admission.window import Load

BOUNDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
"""Upper bounds in seconds of all times that are measured here."""
OTHER = "other"
"""All tenants that have no series of their own."""


@dataclass(slots=True)
class Spread:
    """Times, as a histogram: one count for each of `BOUNDS`, one beyond them all, and the sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum_s += seconds


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
    engine_retries: int = 0
    """Requests that were handed to an engine once more."""
    first_byte: Spread = field(default_factory=Spread)
    """From the complete request to the first response byte."""
    queue_wait: Spread = field(default_factory=Spread)
    """In line, of those that had to wait."""
    durations: defaultdict[str, Spread] = field(default_factory=lambda: defaultdict(Spread))
    """From the complete request to the end of its answer, by route."""
    between_tokens: Spread = field(default_factory=Spread)
    """Mean time between two output tokens of a streamed answer."""
    session_wait: Spread = field(default_factory=Spread)
    """From asking for admission to a session until the exchange has its number."""
    receipt_wait: Spread = field(default_factory=Spread)
    """From the end of an exchange until its receipt is under a signed head."""
    tenants: int = 0
    """So many tenants are counted apart."""
    tenant_exchanges: Counter[str] = field(default_factory=Counter)
    """By pseudonym, or `OTHER`."""
    tenant_tokens: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By pseudonym and `input` or `output`."""
    tenant_refusals: Counter[str] = field(default_factory=Counter)
    """Turned away by a limit or the line."""
    spans_sent: int = 0
    spans_dropped: int = 0

    def streamed(self, seconds: float, tokens: int) -> None:
        """So many tokens came in this time, from the first one on."""
        if tokens > 1:
            self.between_tokens.add(seconds / (tokens - 1))

    def tenant(self, pseudonym: str) -> str:
        """The label of a tenant: the first ones that come have their own."""
        known = self.tenant_exchanges
        if pseudonym in known:
            return pseudonym
        if len(known) - (OTHER in known) < self.tenants:
            known[pseudonym] = 0
            return pseudonym
        return OTHER

    def of_tenant(self, pseudonym: str, input_tokens: int, output_tokens: int) -> None:
        """An exchange of a tenant was recorded."""
        label = self.tenant(pseudonym)
        self.tenant_exchanges[label] += 1
        self.tenant_tokens[(label, "input")] += input_tokens
        self.tenant_tokens[(label, "output")] += output_tokens


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
    load: Load | None = None
    """What it said of its load last, in the process that asks for the metrics; None: it does not say."""
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
