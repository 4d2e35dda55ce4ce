"""The gate in front of the engines: limits first, then, while the engine of a model is busy, a line.

Who enters has reserved its share of its limits. If the model's window has room it goes on at once; otherwise it waits in a line that is
fair by tenants' weights, bounded in length and in time, and its applicant is told. Whoever entered leaves exactly once, whatever
became of it: that settles the reservation, and lets the next one in. All of this is values and callbacks, so the gate can be in another
process than the exchanges.

What is decided is in `core.limits` and `core.admission`; the engine's load is looked at by `load.Loads`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from rlu_server.adapters.measures import Measures
from rlu_server.core.admission.queue import FairQueue, Waiting
from rlu_server.core.admission.window import Load, Window
from rlu_server.core.apikeys import Principal
from rlu_server.core.errors import GatewayError
from rlu_server.core.limits.accounts import Accounts, LimitReached, Reservation, Standing
from rlu_server.core.limits.rules import LimitsFile, Priority
from rlu_server.settings_admission import Admission

FORGET_S = 60.0
PRIORITY_LINE = b"X-Vllm-Priority: %d\r\n"
"""vLLM's header wins over the body's field, and reaches `/v1/messages` too, whose body has none; so bodies stay as they came."""


class Ask(msgspec.Struct, frozen=True):
    """What somebody wants to enter with.

    Attributes:
        model: as the engine calls it.
        priority: the class asked for; the limits file may know it better.
        tokens: the estimate to reserve.
    """

    model: str
    priority: Priority
    tokens: int


class Applicant(Protocol):
    """Someone who waits in line. Exactly one of the two is called, later, unless it leaves before."""

    def let_in(self) -> None: ...

    def turned_away(self, error: GatewayError) -> None: ...


class Entered(Protocol):
    """What an exchange sees of its place: whether it waits to be told, and how much of its limits was left, if it has any."""

    @property
    def waiting(self) -> bool: ...

    @property
    def standing(self) -> Standing | None: ...


class Turnstile(Protocol):
    """What exchanges need of the gate, be it in this process (`Gate`) or in another."""

    def enter(self, principal: Principal, ask: Ask, applicant: Applicant) -> Entered: ...

    def leave(self, place: Any, tokens: int | None) -> None: ...

    def engine_lines(self, place: Any) -> bytes: ...

    def scratch_bytes(self, principal: Principal) -> int | None: ...

    def tick(self, now: float) -> None: ...


class Place:
    """What somebody holds who entered, until it leaves."""

    __slots__ = ("applicant", "line", "priority", "reservation", "tenant", "ticket", "tokens", "weight")

    def __init__(
        self,
        applicant: Applicant,
        line: Line,
        tenant: str,
        weight: float,
        priority: Priority,
        tokens: int,
        reservation: Reservation | None,
    ) -> None:
        self.applicant = applicant
        self.line = line
        self.tenant = tenant
        self.weight = weight
        self.priority = priority
        self.tokens = tokens
        self.reservation = reservation
        self.ticket: Waiting | None = None

    @property
    def waiting(self) -> bool:
        """It is in line and will be told; otherwise it may go on."""
        return self.ticket is not None

    @property
    def standing(self) -> Standing | None:
        """How much of its limits was left; None: it has none."""
        return self.reservation.standing if self.reservation is not None else None


class Line:
    """What is at the engines of one model, and who waits to get there."""

    __slots__ = ("at_engine", "model", "pumping", "queue", "window")

    def __init__(self, model: str, settings: Admission) -> None:
        self.model = model
        self.queue = FairQueue(settings.queue_size, settings.batch_share)
        self.window = Window(settings.max_in_flight or None, settings.engine_backlog)
        self.at_engine = 0
        self.pumping = False

    @property
    def busy(self) -> bool:
        """Is the engine's load worth a look?"""
        return len(self.queue) > 0 or 2 * self.at_engine >= self.window.size

    def observe(self, load: Load | None) -> None:
        """The engines were asked; None: they do not say."""
        if load is None:
            self.window.unknown()
        else:
            self.window.observe(load, len(self.queue), self.at_engine)


class Gate:
    """One for all exchanges; needs a running loop.

    Args:
        models: as the engines call them.
        engine_priorities: the engines schedule by priority, so they may be told.
        look: have the load of a model's engines looked at; `observe` is called later.
    """

    def __init__(
        self,
        settings: Admission,
        models: Iterable[str],
        measures: Measures,
        *,
        engine_priorities: bool = False,
        look: Callable[[str], None] = lambda model: None,
    ) -> None:
        self._settings = settings
        self._measures = measures
        self._engine_priorities = engine_priorities
        self._look = look
        self._loop = asyncio.get_running_loop()
        self._accounts = Accounts(LimitsFile())
        self.monotonic = self._loop.time
        self._forgot = self.monotonic()
        self.lines = {model: Line(model, settings) for model in models}

    def replace_limits(self, file: LimitsFile) -> None:
        """Another limits file holds from now on."""
        self._accounts.replace(file, self.monotonic())

    def scratch_bytes(self, principal: Principal) -> int | None:
        """How much content a tenant may have in memory; None: no limit of its own."""
        return self._accounts.rule(principal.tenant, principal.name).scratch_bytes

    def waiting(self, priority: Priority) -> int:
        """How many wait, for any model."""
        return sum(line.queue.waiting(priority) for line in self.lines.values())

    @property
    def at_engine(self) -> int:
        return sum(line.at_engine for line in self.lines.values())

    def enter(self, principal: Principal, ask: Ask, applicant: Applicant) -> Place:
        """Reserve, and go on or get in line.

        Raises:
            LimitReached: `limit_requests`, `limit_tokens`, `limit_concurrent`.
            GatewayError: `queue_full`. Nothing is reserved then.
        """
        now = self.monotonic()
        tenant = principal.tenant
        rule = self._accounts.rule(tenant, principal.name)
        reservation = self._reserve(principal, ask.tokens, now)
        line = self.lines[ask.model]
        priority = max(ask.priority, rule.priority)
        place = Place(applicant, line, tenant, rule.weight, priority, ask.tokens, reservation)
        if line.at_engine < line.window.size and not len(line.queue):
            line.at_engine += 1
            return place
        try:
            place.ticket, evicted = line.queue.put(tenant, rule.weight, priority, ask.tokens, now, place)
        except GatewayError:
            if reservation is not None:
                reservation.void(now)
            raise
        if evicted is not None:
            self._loop.call_soon(self._turn_away, evicted, "queue_full")
        self._look(line.model)
        self._pump_soon(line)
        return place

    def count(self, principal: Principal) -> None:
        """A request that no engine is asked for. Raises LimitReached."""
        now = self.monotonic()
        reservation = self._reserve(principal, 0, now)
        if reservation is not None:
            reservation.settle(0, now)

    def leave(self, place: Place, tokens: int | None) -> None:
        """It is over. Called exactly once for each place.

        Args:
            tokens: what it used; None: no engine was given it.
        """
        now = self.monotonic()
        line = place.line
        if place.ticket is not None:
            line.queue.remove(place.ticket)
        else:
            line.at_engine -= 1
            if len(line.queue):
                self._pump_soon(line)
                used = 0 if tokens is None else tokens
                line.queue.charge(place.tenant, place.weight, place.priority, used - place.tokens)
        if place.reservation is not None:
            if tokens is None:
                place.reservation.void(now)
            else:
                place.reservation.settle(tokens, now)

    def engine_lines(self, place: Place) -> bytes:
        """Header lines for the engine."""
        if place.priority is Priority.INTERACTIVE or not self._engine_priorities:
            return b""
        return PRIORITY_LINE % place.priority

    def observe(self, model: str, load: Load | None) -> None:
        """The engines of a model were asked for their load; None: they do not say."""
        line = self.lines[model]
        line.observe(load)
        self._pump_soon(line)

    def tick(self, now: float) -> None:
        """The sweep: who waited too long, and engines that are to be looked at. `now` is the loop's time."""
        for line in self.lines.values():
            for ticket in line.queue.expired(now - self._settings.queue_wait_s):
                line.queue.remove(ticket)
                self._turn_away(ticket, "queue_timeout")
            if line.busy:
                self._look(line.model)
        if now > self._forgot + FORGET_S:
            self._forgot = now
            self._accounts.forget_idle(now)

    def _reserve(self, principal: Principal, tokens: int, now: float) -> Reservation | None:
        try:
            return self._accounts.reserve(principal.tenant, principal.name, tokens, now)
        except LimitReached:
            self._measures.tenant_refusals[self._measures.tenant(principal.tenant_pseudonym)] += 1
            raise

    def _pump_soon(self, line: Line) -> None:
        if not line.pumping:
            line.pumping = True
            self._loop.call_soon(self._pump, line)

    def _pump(self, line: Line) -> None:
        line.pumping = False
        now = self.monotonic()
        while line.at_engine < line.window.size and (ticket := line.queue.pop()) is not None:
            place = ticket.item
            assert isinstance(place, Place)
            place.ticket = None
            line.at_engine += 1
            self._measures.queue_wait.add(now - ticket.since)
            place.applicant.let_in()

    def _turn_away(self, ticket: Waiting, code: str) -> None:
        place = ticket.item
        assert isinstance(place, Place)
        self._measures.queue_wait.add(self.monotonic() - ticket.since)
        place.applicant.turned_away(GatewayError(code))
