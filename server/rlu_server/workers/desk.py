"""The hub's end of one worker: does for it what the worker's interfaces ask, and settles what it leaves behind."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, assert_never

from rlu_server.adapters.gate import Gate, Place
from rlu_server.adapters.ledger import Ledger
from rlu_server.adapters.recorder import Admitted, Outcome
from rlu_server.adapters.responses import Begun, Found, ResponseStore
from rlu_server.attestor.messages import Posture
from rlu_server.core.apikeys import Principal
from rlu_server.core.errors import GatewayError
from rlu_server.core.tracing import Span
from rlu_server.workers import frames
from rlu_server.workers.link import Link
from rlu_server.workers.own import Answering

UNTOLD = Outcome(
    route="unknown",
    model="unknown",
    status="failed",
    http_status=0,
    request=None,
    forwarded=None,
    rewritten=(),
    response=None,
    usage=None,
    reason="worker_lost",
)
"""Of an exchange whose worker died: what passed, only the worker could have told."""


RECHECK_S = 0.05
"""A long answer to keep may still be on its way from another worker when its client asks for it."""
M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Parts:
    """What desks work with."""

    ledger: Ledger
    gate: Gate
    responses: ResponseStore
    answering: Callable[[Callable[[frames.Message], None]], Answering]
    counted: Callable[[dict[str, object]], None]
    noticed: Callable[[Principal], None]
    """Told who was let in."""
    traced: Callable[[Sequence[Span]], None] = lambda spans: None


class Desk:
    """One worker, from its connection to its end.

    Args:
        greeted: called with the posture, once; true lets the worker in.
        reported: called when connections or memory have changed.
        left: called once, when it is gone and everything of it is settled.
    """

    def __init__(
        self,
        number: int,
        greeted: Callable[[Desk, Posture], None],
        reported: Callable[[Desk], None],
        left: Callable[[Desk], None],
    ) -> None:
        self.number = number
        self.connections = 0
        self.held: Counter[str] = Counter()
        self.greeted = False
        """Has this very worker measured itself? Another one may have had its number before."""
        self.heard = asyncio.get_running_loop().time()
        """When it last said something; it reports several times a second."""
        self._greeted = greeted
        self._reported = reported
        self._left = left
        self._gone = False
        self._loop = asyncio.get_running_loop()
        self._parts: Parts | None = None
        self._own: Answering | None = None
        self._applicants: dict[int, _Applicant] = {}
        self._places: dict[int, _Held] = {}
        self._tickets: set[int] = set()
        self._link: Link[frames.ToHub] = Link(frames.TO_HUB, self._receive, self._lost)
        self.send = self._link.send

    async def connect(self, end: socket.socket) -> None:
        await self._link.connect(end)

    def begin(self, parts: Parts, state: frames.State) -> None:
        """Let the worker serve."""
        self._parts = parts
        self._own = parts.answering(self.send)
        self.send(state)

    def close(self) -> None:
        """End the worker."""
        self._link.close()

    @property
    def exchanges(self) -> int:
        """Exchanges it has in flight. One has a place at the gate, or is admitted to a session, or both."""
        return max(len(self._places), len(self._applicants))

    # --- what comes ---

    def _receive(self, message: frames.ToHub) -> None:
        self.heard = self._loop.time()
        if isinstance(message, frames.Hello):
            self._greeted(self, message.posture)
        elif isinstance(message, frames.Report):
            self._report(message)
        elif self._parts is None or self._own is None:
            self.close()  # it was not let in
        elif isinstance(message, frames.Own):
            self._own.answer(message)
        elif isinstance(message, frames.OwnGone):
            self._own.gone(message.id)
        elif isinstance(message, (frames.Enter, frames.Leave, frames.Admit, frames.Record)):
            self._exchange(message, self._parts)
        else:
            self._store(message, self._parts.responses)

    def _exchange(
        self, message: frames.Enter | frames.Leave | frames.Admit | frames.Record, parts: Parts
    ) -> None:
        if isinstance(message, frames.Enter):
            self._enter(message, parts.gate)
        elif isinstance(message, frames.Leave):
            held = self._places.pop(message.id, None)
            if held is not None:  # else it was turned away at the same moment
                held.leave(message.tokens)
        elif isinstance(message, frames.Admit):
            self._admit(message, parts)
        else:
            applicant = self._applicants.pop(message.id, None)
            if applicant is None or applicant.entry is None:
                self.close()
            else:
                parts.ledger.record(applicant.entry, message.outcome)

    def _enter(self, message: frames.Enter, gate: Gate) -> None:
        held = self._places[message.id] = _Held(self, message.id, gate)
        try:
            held.place = gate.enter(message.principal, message.ask, held)
        except GatewayError as error:
            held.refuse(error)
        else:
            if not held.place.waiting:
                held.let_in()

    def _admit(self, message: frames.Admit, parts: Parts) -> None:
        ledger = parts.ledger
        parts.noticed(message.principal)
        applicant = self._applicants[message.id] = _Applicant(self, message.id, ledger)
        try:
            ledger.admit(message.principal, message.where.where(), message.opening, applicant)
        except GatewayError as error:
            applicant.refused(error)
        else:
            self.send(frames.Accepted(message.id))

    def _store(
        self,
        message: frames.Begin | frames.Keep | frames.Drop | frames.Find | frames.Delete,
        store: ResponseStore,
    ) -> None:
        match message:
            case frames.Begin():
                self._soon(self._begin, message, store)
            case frames.Keep():
                if message.ticket in self._tickets:
                    self._tickets.discard(message.ticket)
                    store.keep(message.ticket, message.session, message.response)
            case frames.Drop():
                self._tickets.discard(message.ticket)
                store.drop(message.ticket)
            case frames.Find():
                self._soon(self._find, message, store)
            case frames.Delete():
                store.delete(message.principal, message.response)
            case _:
                assert_never(message)

    def _soon(self, look: Callable[[M, ResponseStore, bool], None], message: M, store: ResponseStore) -> None:
        # What another worker said before has come in by then: it lies in its socket.
        self._loop.call_soon(look, message, store, True)

    def _begin(self, message: frames.Begin, store: ResponseStore, again: bool) -> None:
        def begun(begun: Begun | GatewayError) -> None:
            if isinstance(begun, GatewayError):
                if again and begun.code in ("previous_response_not_found", "item_not_found"):
                    self._loop.call_later(RECHECK_S, self._begin, message, store, False)
                    return
                self.send(frames.Begun(message.id, b"", b"", None, frames.Error.of(begun)))
                return
            if begun.ticket is not None:
                self._tickets.add(begun.ticket)
            self.send(frames.Begun(message.id, begun.earlier, begun.own, begun.ticket, None))

        if not self._gone:
            store.begin(message.principal, message.where.where(), message.asked, message.size, begun)

    def _find(self, message: frames.Find, store: ResponseStore, again: bool) -> None:
        def found(found: Found | GatewayError) -> None:
            if isinstance(found, GatewayError):
                if again and found.code == "response_not_found":
                    self._loop.call_later(RECHECK_S, self._find, message, store, False)
                    return
                self.send(frames.Found(message.id, "", "", b"", b"", frames.Error.of(found)))
            else:
                self.send(
                    frames.Found(message.id, found.session, found.model, found.response, found.items, None)
                )

        store.find(message.principal, message.response, message.items, found)

    def _report(self, message: frames.Report) -> None:
        if self._parts is not None:
            self._parts.counted(message.counts)
            if message.spans:
                self._parts.traced(message.spans)
        held = Counter(message.held)
        if (message.connections, held) != (self.connections, self.held):
            self.connections, self.held = message.connections, held
            self._reported(self)

    # --- the end ---

    def _lost(self) -> None:
        self._gone = True
        self.connections = 0
        self.held.clear()
        if self._own is not None:
            self._own.close()
        places, self._places = self._places, {}
        for held in places.values():
            held.leave(None)
        applicants, self._applicants = self._applicants, {}
        for applicant in applicants.values():
            applicant.worker_lost()
        if self._parts is not None:
            for ticket in self._tickets:
                self._parts.responses.drop(ticket)
        self._left(self)

    def forget_applicant(self, number: int) -> None:
        self._applicants.pop(number, None)

    def forget_place(self, number: int) -> None:
        self._places.pop(number, None)


class _Applicant:
    """An exchange of the worker, towards the ledger."""

    __slots__ = ("_desk", "_id", "_ledger", "_lost", "entry")

    def __init__(self, desk: Desk, number: int, ledger: Ledger) -> None:
        self.entry: Admitted | None = None
        self._desk = desk
        self._id = number
        self._ledger = ledger
        self._lost = False

    def accepted(self) -> None:
        pass  # the ledger in this process says so by returning

    def admitted(self, entry: Admitted) -> None:
        self.entry = entry
        if self._lost:
            self._ledger.record(entry, UNTOLD)
        else:
            self._desk.send(frames.Admitted(self._id, entry.session_id, entry.announced))

    def refused(self, error: GatewayError) -> None:
        self._desk.forget_applicant(self._id)
        self._desk.send(frames.Refused(self._id, frames.Error.of(error)))

    def worker_lost(self) -> None:
        """Its worker died. One that is still being numbered is recorded once it is."""
        self._lost = True
        if self.entry is not None:
            self._ledger.record(self.entry, UNTOLD)


class _Held:
    """A place at the gate, for an exchange of the worker."""

    __slots__ = ("_desk", "_gate", "_id", "place")

    def __init__(self, desk: Desk, number: int, gate: Gate) -> None:
        self.place: Place | None = None
        self._desk = desk
        self._id = number
        self._gate = gate

    def let_in(self) -> None:
        assert self.place is not None
        standing = frames.LimitStanding.of(self.place.standing)
        self._desk.send(frames.LetIn(self._id, standing, self._gate.engine_lines(self.place)))

    def turned_away(self, error: GatewayError) -> None:
        self.leave(None)
        self.refuse(error)

    def refuse(self, error: GatewayError) -> None:
        self._desk.forget_place(self._id)
        self._desk.send(frames.TurnedAway(self._id, frames.Error.of(error)))

    def leave(self, tokens: int | None) -> None:
        place, self.place = self.place, None
        if place is not None:
            self._gate.leave(place, tokens)
