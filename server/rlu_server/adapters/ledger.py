"""The ledger: carries the decisions of the session table out with the attestor.

- A request is *admitted* once its session's statement was verified and the attestor has numbered the exchange; until then not one byte
  of its response may leave. Admission overlaps with the engine's work.
- Every admitted exchange is *recorded*, whatever became of it. A record waits here until the attestor has logged it: through a signer
  that fails for a while, and through an attestor that restarts.
- Without an attestor nothing new is admitted (`signer_unavailable`), neither sessions nor exchanges, because a response must name its
  receipt. What was admitted before goes on, since its session is signed; its records wait, at most one for each connection there was.

After a restart the attestor knows what it had logged and nothing else. So in a new epoch, records that were sent and not answered are
sent again under their old number; those that were logged are answered at once, others are `unknown_exchange`. Then every exchange that
is still open, ended or running, gets a new number, and only then may new ones begin: so no number is announced twice in a session. The
receipt stays under the number announced to the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from rlu_server.adapters.attestor_client import AttestorClient, refusal
from rlu_server.adapters.events import Events
from rlu_server.adapters.measures import Measures
from rlu_server.adapters.opener import Opener, Opening, Terms
from rlu_server.adapters.recorder import GONE, Admitted, Outcome, Recorder
from rlu_server.attestor import messages
from rlu_server.attestor.messages import Answer, Failure
from rlu_server.core.apikeys import Principal
from rlu_server.core.conversation import Conversation, Explicit
from rlu_server.core.errors import GatewayError
from rlu_server.core.sessions import Logged, Session, SessionTable, State

OPENING_LOOK_S = 0.02
"""How often it is looked, at the end, whether sessions were opened meanwhile."""


class Entry(Protocol):
    """An exchange that was admitted: its session, and the number its client is told."""

    @property
    def session_id(self) -> str: ...

    @property
    def announced(self) -> int: ...


class Applicant(Protocol):
    """Someone who waits to be admitted. Exactly one of `admitted` and `refused` is called, later."""

    def accepted(self) -> None:
        """It may go to the engine; its number follows. Called, before the others, only if `admit` said so."""

    def admitted(self, entry: Any) -> None:
        """Its number: an `Entry`, to be handed back with the record."""

    def refused(self, error: GatewayError) -> None: ...


class Admissions(Protocol):
    """What an exchange needs of the ledger, be it in this process (`Ledger`) or in another (`workers.remote`)."""

    def admit(
        self, principal: Principal, where: Explicit | Conversation, opening: Opening, applicant: Applicant
    ) -> bool:
        """Find or open the session of a request and number the exchange.

        Returns:
            Whether the request may go to the engine at once; otherwise `applicant.accepted` says when.

        Raises:
            GatewayError: when it is already certain.
        """

    def record(self, entry: Any, outcome: Outcome) -> None:
        """An admitted exchange has ended."""

    def tick(self) -> None:
        """The sweep."""


class Ledger:
    """All sessions and records of this gateway process."""

    def __init__(
        self,
        attestor: AttestorClient,
        table: SessionTable,
        measures: Measures,
        events: Events,
        clock: Callable[[], float],
        session_ttl_s: int,
        session_idle_s: int,
    ) -> None:
        self.table = table
        self.draining = False
        self.wipe: Callable[[str], bool] = lambda _: True
        """Wipes what is kept for a session, and says whether nothing of it is left. As it is here, nothing is kept."""
        self._attestor = attestor
        self._measures = measures
        self._events = events
        self._clock = clock
        self._ttl_s = session_ttl_s
        self._opener = Opener(attestor, table, measures, clock, session_idle_s)
        self._openings: dict[bytes, list[Applicant]] = {}
        self._instance: tuple[str, bytes] | None = None
        self._closing: dict[str, list[asyncio.Future[Logged]]] = {}
        self.recorder = Recorder(attestor, table, measures, events, self._settled, self._ended_by_attestor)

    # --- exchanges ---

    def admit(
        self, principal: Principal, where: Explicit | Conversation, opening: Opening, applicant: Applicant
    ) -> bool:
        """Find or open the session of a request and number the exchange; the request may go to the engine meanwhile.

        Raises:
            GatewayError: at once, when it is already certain: `draining`, `signer_unavailable`, `session_…`, `sessions_full`.
        """
        if self.draining:
            raise GatewayError("draining")
        if not self._attestor.ready or self.recorder.blocked:
            raise GatewayError("signer_unavailable")
        now = self._clock()
        if isinstance(where, Explicit):
            self._number(self.table.usable(where.session, principal, now), applicant, None)
            return True
        terms = Terms(principal, None, None, self._ttl_s, (), opening, where.key)
        session = self.table.continued(where.key, now)
        if session is not None:
            self._number(session, applicant, terms)
        else:
            self._open_for(terms, applicant)
        return True

    def record(self, entry: Admitted, outcome: Outcome) -> None:
        """An admitted exchange has ended."""
        self.recorder.record(entry, outcome)

    def _open_for(self, terms: Terms, applicant: Applicant) -> None:
        """Open a conversation's session; whoever else comes meanwhile joins it."""
        key = terms.conversation or b""
        waiting = self._openings.get(key)
        if waiting is not None:
            waiting.append(applicant)
            return
        self._make_room(terms.principal)
        self._openings[key] = [applicant]

        def opened(result: Session | GatewayError) -> None:
            for waiting in self._openings.pop(key):
                if isinstance(result, Session):
                    self._number(result, waiting, None)
                else:
                    waiting.refused(result)

        self._opener.open(terms, opened)

    def _make_room(self, principal: Principal) -> None:
        crowded_out = self.table.admit(self._opener.under_way, principal.tenant_pseudonym)
        if crowded_out is not None:
            self.begin_close(crowded_out, "crowded_out")

    def _number(self, session: Session, applicant: Applicant, again: Terms | None) -> None:
        """Ask for the exchange's number.

        Args:
            again: terms to open another session with, should the attestor have ended this one.
        """
        if self.recorder.is_settling(session):
            self.recorder.defer(session, lambda: self._number(session, applicant, again), applicant.refused)
            return
        session.in_flight += 1

        def begun(answer: Answer | None) -> None:
            if isinstance(answer, messages.ExchangeBegun):
                self.table.begin(session, answer.seq, self._clock())
                entry = Admitted(session, answer.seq, answer.seq, self._attestor.epoch)
                self.recorder.admitted(entry)
                applicant.admitted(entry)
                return
            session.in_flight -= 1
            if isinstance(answer, Failure) and answer.code in GONE:
                self._ended_by_attestor(session)
                if again is not None:
                    self._open_again(again, applicant)
                    return
            applicant.refused(refusal(answer))

        self._attestor.send(messages.BeginExchange(id=self._attestor.next_id(), session=session.id), begun)

    def _open_again(self, terms: Terms, applicant: Applicant) -> None:
        try:
            self._open_for(terms, applicant)
        except GatewayError as error:
            applicant.refused(error)

    def running(self, principal: Principal, where: Explicit | Conversation) -> str | None:
        """The session a request would go on in, if there is one."""
        now = self._clock()
        if isinstance(where, Conversation):
            session = self.table.continued(where.key, now)
            return None if session is None else session.id
        try:
            return self.table.usable(where.session, principal, now).id
        except GatewayError:
            return None

    def accepts(self, session: str) -> bool:
        """May something be kept for this session?"""
        return self.table.is_open(session)

    # --- sessions ---

    async def open_explicit(
        self,
        principal: Principal,
        nonce: bytes | None,
        client_key: bytes | None,
        ttl_s: int | None,
        policies: Iterable[str] = (),
    ) -> Session:
        """A session asked for by its client.

        Raises:
            GatewayError: `draining`, `signer_unavailable`, `sessions_full`.
        """
        if self.draining:
            raise GatewayError("draining")
        self._make_room(principal)
        future: asyncio.Future[Session | GatewayError] = asyncio.get_running_loop().create_future()
        ttl = min(ttl_s or self._ttl_s, self._ttl_s)
        terms = Terms(principal, nonce, client_key, ttl, tuple(policies), None, None)
        self._opener.open(terms, lambda result: None if future.done() else future.set_result(result))
        result = await future
        if isinstance(result, GatewayError):
            raise result
        return result

    async def close(self, session: Session, reason: str) -> Logged:
        """End a session and wait for the signed close.

        Raises:
            GatewayError: `session_closed`, when the attestor ended it without us.
        """
        if session.state is not State.CLOSED:
            future: asyncio.Future[Logged] = asyncio.get_running_loop().create_future()
            self._closing.setdefault(session.id, []).append(future)
            self.begin_close(session, reason)
            return await future
        if session.closed is None:
            raise GatewayError("session_closed")
        return session.closed

    def begin_close(self, session: Session, reason: str) -> None:
        """Let nothing more begin in it, wipe what is kept for it, and have the close signed once its exchanges are logged."""
        self.table.closing(session, reason)
        self.wipe(session.id)
        self._close_if_quiet(session)

    def _close_if_quiet(self, session: Session) -> None:
        if (
            session.state is not State.CLOSING
            or session.in_flight
            or session.close_sent
            or not self._attestor.ready
        ):
            return
        session.close_sent = True
        wiped = self.wipe(session.id)

        def closed(answer: Answer | None) -> None:
            session.close_sent = False
            if isinstance(answer, messages.SessionClosed):
                logged = Logged(answer.logged.statement, answer.logged.leaf_index)
                self._closed(session, logged)
            elif isinstance(answer, Failure) and answer.code in GONE:
                self._ended_by_attestor(session)
            elif self._attestor.ready:
                asyncio.get_running_loop().call_later(0.5, self._close_if_quiet, session)

        request = messages.CloseSession(
            id=self._attestor.next_id(),
            session=session.id,
            reason=session.close_reason,
            scratch="wiped" if wiped else "unknown",
        )
        self._attestor.send(request, closed)

    def _closed(self, session: Session, logged: Logged | None) -> None:
        self.table.close(session, logged, self._clock())
        self._measures.sessions_closed[session.close_reason] += 1
        for future in self._closing.pop(session.id, []):
            if not future.done():
                if logged is None:
                    future.set_exception(GatewayError("session_closed"))
                else:
                    future.set_result(logged)

    def _ended_by_attestor(self, session: Session) -> None:
        if session.state is not State.CLOSED:
            self.table.closing(session, "ended_by_attestor")
            self._events.emit("session_closed", "ended_by_attestor")
            self.wipe(session.id)
            self._closed(session, None)

    def _settled(self, session: Session) -> None:
        session.last_used = self._clock()
        self._close_if_quiet(session)

    # --- time and connection ---

    def tick(self) -> None:
        """Close what has expired or was idle too long. Called about once a second."""
        for session, reason in self.table.due(self._clock()):
            self.begin_close(session, reason)

    def welcomed(self) -> None:
        """A new epoch: settle the past, then go on."""
        welcome = self._attestor.welcome
        if welcome is None:
            return
        instance = (welcome.issuer, welcome.profile_digest)
        if self._instance not in (None, instance):
            # Their statements name another instance; that one's attestor is gone, or has changed what it stands for.
            for session in self.table:
                self._ended_by_attestor(session)
        self._instance = instance
        self.recorder.welcomed()
        for session in self.table:
            self._close_if_quiet(session)

    def rotated(self) -> None:
        """The attestor's key was rotated: new sessions are of another instance, those that are open go on as they are."""
        welcome = self._attestor.welcome
        if welcome is not None:
            self._instance = (welcome.issuer, welcome.profile_digest)

    def lost(self) -> None:
        """The epoch has ended."""
        self.recorder.lost()

    async def drain(self, reason: str = "drain") -> None:
        """Close every session, also those that are just being opened; returns when all closes are signed."""
        self.draining = True
        while True:
            pending = [
                self.close(session, reason) for session in self.table if session.state is not State.CLOSED
            ]
            await asyncio.gather(*pending, return_exceptions=True)
            if not self._opener.under_way and all(one.state is State.CLOSED for one in self.table):
                return
            await asyncio.sleep(OPENING_LOOK_S)


__all__ = ["Admitted", "Applicant", "Ledger", "Opening"]
