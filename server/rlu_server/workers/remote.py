"""A worker's ledger, gate and store of responses: the same interfaces as in one process, with the hub at the other end.

Ids are given here. What the hub says about an id that is no longer known here is for somebody who has left.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from rlu_server.adapters import gate, ledger
from rlu_server.adapters.gate import Ask
from rlu_server.adapters.opener import Opening
from rlu_server.adapters.recorder import Outcome
from rlu_server.adapters.responses import Begun, Found
from rlu_server.core.apikeys import Principal
from rlu_server.core.conversation import Conversation, Explicit
from rlu_server.core.errors import GatewayError
from rlu_server.core.limits.accounts import Accounts, Standing
from rlu_server.core.limits.rules import LimitsFile
from rlu_server.core.responses import Asked
from rlu_server.workers import frames

Send = Callable[[frames.Message], None]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An exchange that the hub's ledger admitted."""

    id: int
    session_id: str
    announced: int


class RemoteLedger:
    """Implements `ledger.Admissions`."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._last = 0
        self._applicants: dict[int, ledger.Applicant] = {}

    def admit(
        self,
        principal: Principal,
        where: Explicit | Conversation,
        opening: Opening,
        applicant: ledger.Applicant,
    ) -> bool:
        self._last += 1
        self._applicants[self._last] = applicant
        self._send(frames.Admit(self._last, principal, frames.Where.of(where), opening))
        return False

    def record(self, entry: Entry, outcome: Outcome) -> None:
        self._send(frames.Record(entry.id, outcome))

    def tick(self) -> None:
        pass

    def told(self, message: frames.Accepted | frames.Admitted | frames.Refused) -> None:
        """The hub has decided."""
        if isinstance(message, frames.Accepted):
            self._applicants[message.id].accepted()
        elif isinstance(message, frames.Admitted):
            applicant = self._applicants.pop(message.id)
            applicant.admitted(Entry(message.id, message.session, message.announced))
        else:
            self._applicants.pop(message.id).refused(message.error.error())


class RemotePlace:
    """A place at the hub's gate."""

    __slots__ = ("applicant", "engine_lines", "id", "standing", "waiting")

    def __init__(self, number: int, applicant: gate.Applicant) -> None:
        self.id = number
        self.applicant = applicant
        self.waiting = True
        self.standing: Standing | None = None
        self.engine_lines = b""


class RemoteGate:
    """Implements `gate.Turnstile`."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._last = 0
        self._waiting: dict[int, RemotePlace] = {}
        self._rules = Accounts(LimitsFile())

    def replace_limits(self, file: LimitsFile) -> None:
        """Another limits file holds from now on. Counting is the hub's; here only the rule for a tenant's memory is looked up."""
        self._rules = Accounts(file)

    def enter(self, principal: Principal, ask: Ask, applicant: gate.Applicant) -> RemotePlace:
        self._last += 1
        place = self._waiting[self._last] = RemotePlace(self._last, applicant)
        self._send(frames.Enter(self._last, principal, ask))
        return place

    def leave(self, place: RemotePlace, tokens: int | None) -> None:
        # Whoever was turned away has no place at the hub; whoever leaves the line gives its place up.
        if not place.waiting or self._waiting.pop(place.id, None) is not None:
            self._send(frames.Leave(place.id, tokens))

    def engine_lines(self, place: RemotePlace) -> bytes:
        return place.engine_lines

    def scratch_bytes(self, principal: Principal) -> int | None:
        return self._rules.rule(principal.tenant, principal.name).scratch_bytes

    def tick(self, now: float) -> None:
        pass

    def told(self, message: frames.LetIn | frames.TurnedAway) -> None:
        """The hub has decided."""
        place = self._waiting.pop(message.id, None)
        if place is None:
            return  # it has left the line, and the hub was told
        if isinstance(message, frames.TurnedAway):
            place.applicant.turned_away(message.error.error())
            return
        place.waiting = False
        place.standing = None if message.standing is None else message.standing.standing()
        place.engine_lines = message.engine_lines
        place.applicant.let_in()


class RemoteResponses:
    """Implements `responses.Responses`.

    Args:
        send_now: for what the client's next request, which may come by another worker, builds on.
    """

    def __init__(self, send: Send, send_now: Send) -> None:
        self._send = send
        self._send_now = send_now
        self._last = 0
        self._begun: dict[int, Callable[[Begun | GatewayError], None]] = {}
        self._found: dict[int, Callable[[Found | GatewayError], None]] = {}

    def begin(
        self,
        principal: Principal,
        where: Explicit | Conversation,
        asked: Asked,
        size: int,
        done: Callable[[Begun | GatewayError], None],
    ) -> None:
        self._last += 1
        self._begun[self._last] = done
        self._send(frames.Begin(self._last, principal, frames.Where.of(where), asked, size))

    def keep(self, ticket: int, session: str, response: bytes) -> None:
        self._send_now(frames.Keep(ticket, session, response))

    def drop(self, ticket: int) -> None:
        self._send(frames.Drop(ticket))

    def find(
        self,
        principal: Principal,
        response_id: str,
        items: bool,
        done: Callable[[Found | GatewayError], None],
    ) -> None:
        self._last += 1
        self._found[self._last] = done
        self._send(frames.Find(self._last, principal, response_id, items))

    def delete(self, principal: Principal, response_id: str) -> None:
        self._send_now(frames.Delete(principal, response_id))

    def tick(self) -> None:
        pass

    def told(self, message: frames.Begun | frames.Found) -> None:
        """The hub has looked."""
        error = None if message.error is None else message.error.error()
        if isinstance(message, frames.Begun):
            self._begun.pop(message.id)(error or Begun(message.earlier, message.own, message.ticket))
        else:
            found = Found(message.session, message.model, message.response, message.items)
            self._found.pop(message.id)(error or found)
