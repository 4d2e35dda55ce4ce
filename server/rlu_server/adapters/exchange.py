"""One relayed request: inspect, admit, relay, record.

The request goes to the engine at the same moment as the question for its session goes to the attestor. Whatever the engine sends before
the session is verified and the exchange numbered is held back (P1), and the engine is paused when that grows. From then on content
passes as it comes: it is written first; hashing it and showing it to the usage reader follow, for many events at once. Every admitted
exchange ends in exactly one record, by one of `_finish`, `_fail`, `client_gone`.

| what happened | status | reason |
|---|---|---|
| ordinary end, relayed to the last byte | complete | |
| the engine answered with an error status | failed | engine_status |
| an error event inside a stream | failed | engine_error |
| the engine's stream ended without its terminal event | partial | no_terminal_event |
| the engine went away, stalled or spoke no HTTP, before the answer had begun | failed | the error's code |
| the same, in the middle of an answer | partial | the error's code |
| we stopped it (drain) | failed, partial | draining |
| the client left once it had a stream's terminal event, as agents do | complete | |
| the client left before, or stopped reading | aborted | client_disconnected |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rlu_server.adapters.answer import Answer
from rlu_server.adapters.client import Connection
from rlu_server.adapters.engine import Call, ResponseHead
from rlu_server.adapters.gate import Ask, Entered
from rlu_server.adapters.http1 import Incoming
from rlu_server.adapters.intake import Intake, Taken
from rlu_server.adapters.ledger import Entry, Opening
from rlu_server.adapters.recorder import Content, Outcome
from rlu_server.adapters.responses import Begun
from rlu_server.attestor.messages import Status
from rlu_server.core.apikeys import Principal
from rlu_server.core.errors import GatewayError
from rlu_server.core.limits import headers as limit_headers
from rlu_server.core.limits import spending
from rlu_server.core.limits.accounts import LimitReached, Standing
from rlu_server.core.passage import Passage
from rlu_server.core.routes import Route
from rlu_server.core.usage import End, Usage

if TYPE_CHECKING:
    from rlu_server.adapters.relay import Relay

MAX_HELD = 256 * 1024
"""Content held back before admission, beyond which the engine is paused."""


class Exchange:
    """A job of a client connection, an applicant of the ledger, and a handler of an engine call."""

    __slots__ = (
        "_answer",
        "_call",
        "_connection",
        "_entry",
        "_error",
        "_incoming",
        "_intake",
        "_left",
        "_over",
        "_passage",
        "_place",
        "_posted",
        "_principal",
        "_relay",
        "_route",
        "_seen",
        "_taken",
        "_touched",
    )

    def __init__(
        self, relay: Relay, connection: Connection, incoming: Incoming, route: Route, principal: Principal
    ) -> None:
        self._relay = relay
        self._connection = connection
        self._incoming = incoming
        self._route = route
        self._principal = principal
        self._intake = Intake(relay, incoming, route, principal)
        self._passage = Passage(
            connection.request_id, route.path, principal.tenant_pseudonym, relay.monotonic()
        )
        if relay.watch.continue_clients:
            self._passage.parent = incoming.headers.get(b"traceparent", b"")
        self._taken: Taken | None = None
        self._call: Call | None = None
        self._entry: Entry | None = None
        self._error: GatewayError | None = None
        self._left = False
        self._over = False
        self._place: Entered | None = None
        self._posted: Call | None = None
        self._answer = Answer(relay, connection, route)
        self._seen = 0.0
        self._touched = False

    @property
    def session_id(self) -> str | None:
        """The session it was admitted to."""
        return self._entry.session_id if self._entry is not None else None

    # --- the client's side ---

    def content_arrived(self) -> None:
        try:
            self._intake.arrived()
        except GatewayError as error:
            self._refuse(error)

    def complete(self) -> None:
        """The request is here: judge it, ask for admission, send it on."""
        self._passage.completed = self._seen = self._relay.monotonic()
        self._judge()

    def _judge(self) -> None:
        if self._over:
            return
        try:
            if not self._intake.undo():
                self._relay.soon(self._judge)  # others get their turn between two slices
                return
            taken = self._intake.finish()
        except GatewayError as error:
            self._refuse(error)
            return
        if taken.asked is None:
            self._apply(taken)
            return

        def begun(begun: Begun | GatewayError) -> None:
            self._continue(taken, begun)

        size = taken.forwarded.size  # what was received may be compressed
        self._relay.responses.begin(self._principal, taken.where, taken.asked, size, begun)

    def _continue(self, taken: Taken, begun: Begun | GatewayError) -> None:
        """What it continues was found, and room for its answer reserved."""
        if isinstance(begun, Begun) and begun.ticket is not None:
            self._answer.keep(begun.ticket)
        if self._over:
            self._answer.let_ticket_go()
            return
        try:
            if isinstance(begun, GatewayError):
                raise begun
            if taken.asked is not None and taken.asked.continues:
                taken = self._intake.resume(taken, begun.earlier, begun.own)
        except GatewayError as error:
            self._refuse(error)
        else:
            # From here on the store has what is to be kept of the request.
            self._apply(msgspec.structs.replace(taken, asked=None))

    def _apply(self, taken: Taken) -> None:
        """Through the gate: limits, and the line while the engine is busy."""
        relay = self._relay
        self._taken = taken
        self._passage.model, self._passage.request_bytes = taken.model, taken.received.size
        tokens = self._reserved(taken)
        try:
            relay.engine.check(taken.model, self._route.path)
            ask = Ask(taken.model, taken.priority, tokens)
            self._place = relay.gate.enter(self._principal, ask, self)
        except GatewayError as error:
            self.turned_away(error)
            return
        relay.exchanges.add(self)
        if not self._place.waiting:
            self.let_in()

    def client_gone(self) -> None:
        if self._over:
            return
        self._left = True
        self._cancel()
        if self._entry is not None:
            if self._connection.paused_since is None and self._answer.observation.concluded():
                self._record("complete", None)
            else:
                self._record("aborted", "client_disconnected")
        elif self._place is None or self._place.waiting:
            self._passage.code = "client_disconnected"
            self._end()  # it never came so far as to ask for admission

    def pause(self) -> None:
        if self._call is not None:
            self._call.pause()

    def resume(self) -> None:
        if self._call is not None:
            self._call.resume()

    # --- the gate's side ---

    def let_in(self) -> None:
        """Ask for admission to a session."""
        assert self._taken is not None
        relay, taken = self._relay, self._taken
        self._passage.asked = relay.monotonic()
        opening = Opening(taken.received.size, taken.received.digest)
        try:
            at_once = relay.ledger.admit(self._principal, taken.where, opening, self)
        except GatewayError as error:
            self.turned_away(error)
            return
        relay.measures.request_bytes += taken.received.size
        if at_once:
            self.accepted()

    def turned_away(self, error: GatewayError) -> None:
        """Refused before anything began: there will be no receipt."""
        if not self._over:
            standing = error.standing if isinstance(error, LimitReached) else None
            self._refuse(error, self._limit_lines(standing))

    # --- the ledger's side ---

    def accepted(self) -> None:
        if self._left or self._error is not None:
            return
        assert self._taken is not None
        taken = self._taken
        assert self._place is not None
        relay, lines = self._relay, self._relay.gate.engine_lines(self._place)
        self._call = relay.engine.post(taken.model, taken.key, self._route.path, taken.content, self, lines)
        # The call holds the content for as long as it may have to be sent again.
        self._taken = msgspec.structs.replace(self._taken, content=b"")
        self._posted = self._call
        self._passage.posted = relay.monotonic()

    def admitted(self, entry: Entry) -> None:
        self._entry = entry
        passage = self._passage
        passage.numbered = self._relay.monotonic()
        passage.session, passage.seq = entry.session_id, entry.announced
        if self._left:
            self._record("aborted", "client_disconnected")
        elif self._error is not None:
            self._fail(self._error)
        elif self._answer.presentable:
            self._begin(entry)

    def refused(self, error: GatewayError) -> None:
        self._cancel()
        if self._left:
            self._passage.code = "client_disconnected"
            self._end()
        else:
            self._refuse(error)

    # --- the engine's side ---

    def engine_read(self, head: ResponseHead | None, content: bytes, ended: bool) -> None:
        if not self._touched:
            self._touched = True
            self._intake.let_go()
        answer = self._answer
        if ended:
            answer.ended, self._call = True, None
        if answer.started:
            answer.pass_on(content)
            if ended:
                self._finish()
            return
        answer.hold(head, content)
        if self._entry is not None and answer.presentable:
            self._begin(self._entry)
        elif answer.held_bytes > MAX_HELD and self._call is not None:
            self._call.pause()

    def engine_failed(self, error: GatewayError) -> None:
        self._call = None
        self._error = error
        if self._entry is not None:
            self._fail(error)

    # --- time ---

    def tick(self, now: float) -> None:
        """End an exchange whose engine is silent. A client that does not read is its connection's concern."""
        if self._touched or self._connection.paused_since is not None:
            self._touched = False
            self._seen = now
        elif (
            not self._answer.ended
            and self._error is None
            and now > self._seen + self._relay.settings.response_timeout_s
        ):
            self.stop(GatewayError("engine_timeout"))

    def stop(self, error: GatewayError) -> None:
        """End it from our side."""
        if self._place is not None and self._place.waiting:
            self.turned_away(error)
        elif not self._over and self._error is None:
            self._cancel()
            self.engine_failed(error)

    # --- inside ---

    def _begin(self, entry: Entry) -> None:
        """The first byte: everything that has to be true before it is true now."""
        relay, passage, answer = self._relay, self._passage, self._answer
        passage.first = relay.monotonic()
        relay.measures.first_byte.add(passage.first - passage.completed)
        relay.answered(self._incoming.path, answer.status, passage.request_id)
        answer.start(entry.session_id, self._lines(entry))
        passage.streamed = answer.streamed
        if self._call is not None and self._connection.paused_since is None:
            self._call.resume()
        if answer.ended:
            self._finish()

    def _finish(self) -> None:
        end = self._answer.observation.end()
        if self._answer.status != 200:
            self._record("failed", "engine_status")
        elif end is End.ERROR:
            self._record("failed", "engine_error")
        elif end is End.NONE:
            self._record("partial", "no_terminal_event")
        else:
            self._record("complete", None)

    def _fail(self, error: GatewayError) -> None:
        """An admitted exchange cannot go on: say so as clearly as the wire still allows."""
        assert self._entry is not None
        if not self._answer.started:
            self._passage.refused = True
            self._answer.refuse(error, self._lines(self._entry))
            self._record("failed", error.code, error.status)
            return
        self._answer.break_off(error)
        self._relay.events.emit(
            "exchange_failed",
            error.code,
            request_id=self._passage.request_id,
            session=self._entry.session_id,
        )
        self._record("partial", error.code)

    def _record(self, status: Status, reason: str | None, http_status: int | None = None) -> None:
        assert self._entry is not None
        assert self._taken is not None
        relay = self._relay
        observation = self._answer.observation
        usage = observation.usage()
        if http_status is None:
            http_status = self._answer.status if self._answer.started else 0
        passage = self._passage
        passage.outcome, passage.code, passage.status = status, reason or "", http_status
        passage.usage, passage.response_bytes = usage, observation.size
        self._end(self._spent(status, usage))
        if usage is not None:
            relay.measures.input_tokens += usage.input_tokens
            relay.measures.output_tokens += usage.output_tokens
            relay.measures.cached_input_tokens += usage.cached_input_tokens
        relay.measures.response_bytes += observation.size
        outcome = Outcome(
            route=self._route.path,
            model=self._taken.model,
            status=status,
            http_status=http_status,
            request=self._taken.received,
            forwarded=self._taken.forwarded if self._forwarded else None,
            rewritten=self._taken.rewritten,
            response=Content(observation.size, observation.digest()),
            usage=usage,
            reason=reason,
        )
        relay.ledger.record(self._entry, outcome)

    @property
    def _forwarded(self) -> bool:
        """Was an engine given it? Asking for one is not enough: it may have waited for one in vain."""
        return self._posted is not None and self._posted.sent

    def _spent(self, status: Status, usage: Usage | None) -> int | None:
        """Tokens it used; None: no engine was given it."""
        if not self._forwarded:
            return None
        if usage is None and status == "failed":
            return 0
        assert self._taken is not None
        if not (self._answer.started or self._taken.stream):
            # It was being made as a whole, and nobody saw how far it had come.
            return self._reserved(self._taken)
        return spending.used(
            self._route.api, self._taken.forwarded.size, usage, self._answer.observation.size
        )

    def _refuse(self, error: GatewayError, lines: list[bytes] | None = None) -> None:
        """Nothing began: there will be no receipt."""
        self._passage.code, self._passage.status, self._passage.refused = error.code, error.status, True
        self._end()
        self._connection.refuse(error, lines)

    def _reserved(self, taken: Taken) -> int:
        """Tokens it is taken for, before anybody knows."""
        return spending.reserved(self._route.api, taken.forwarded.size, taken.output_limit, taken.answers)

    def _end(self, spent: int | None = None) -> None:
        if not self._over:
            self._relay.watch.passed(self._passage)
        self._over = True
        place, self._place = self._place, None
        if place is not None:
            self._relay.gate.leave(place, spent)
        self._relay.exchanges.discard(self)
        self._answer.let_ticket_go()
        self._intake.let_go()

    def _cancel(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _lines(self, entry: Entry) -> list[bytes]:
        """Our own headers of an answer in a session."""
        place = self._place
        return [*_session_lines(entry), *self._limit_lines(None if place is None else place.standing)]

    def _limit_lines(self, standing: Standing | None) -> list[bytes]:
        if standing is None:
            return []
        return limit_headers.lines(standing, self._route.dialect, self._relay.clock())


def _session_lines(entry: Entry) -> list[bytes]:
    session = entry.session_id.encode("ascii")
    return [
        b"RLU-Session: %b\r\nRLU-Receipt: /v1/rlu/receipts/%b/%d\r\n" % (session, session, entry.announced)
    ]
