"""The engine's answer on its way to one client: held back until it may begin, then passed on as it comes.

What is sent is written first; hashing it and showing it to the usage reader follow, for many events at once. What is to be kept of it is
handed to the store as soon as it is complete. When it may begin, and what becomes of it, is for the exchange to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlu_server.adapters import http1
from rlu_server.adapters.client import Connection
from rlu_server.adapters.engine import ResponseHead
from rlu_server.adapters.keeping import Keeping
from rlu_server.adapters.observation import Observation
from rlu_server.core import errors, reexpression
from rlu_server.core.errors import Dialect, GatewayError
from rlu_server.core.routes import Api, Route

if TYPE_CHECKING:
    from rlu_server.adapters.relay import Relay


class Answer:
    """One answer.

    Attributes:
        observation: what was sent: length, digest, usage, how it ended.
        started: its head was sent.
        ended: the engine has sent all of it.
        held_bytes: content that came before it could begin.
    """

    __slots__ = (
        "_chunked",
        "_connection",
        "_head",
        "_held",
        "_keeping",
        "_relay",
        "_route",
        "_session",
        "ended",
        "held_bytes",
        "observation",
        "started",
    )

    def __init__(self, relay: Relay, connection: Connection, route: Route) -> None:
        self._relay = relay
        self._connection = connection
        self._route = route
        self._head: ResponseHead | None = None
        self._held: list[bytes] = []
        self._keeping: Keeping | None = None
        self._session = ""
        self._chunked = False
        self.held_bytes = 0
        self.observation = Observation()
        self.started = False
        self.ended = False

    @property
    def status(self) -> int:
        """The engine's HTTP status; 0 before it is known."""
        return 0 if self._head is None else self._head.status

    @property
    def streamed(self) -> bool:
        """Is it a stream of events?"""
        return self._head is not None and self._head.content_type.startswith(b"text/event-stream")

    @property
    def presentable(self) -> bool:
        """May it begin? An error that is to be re-expressed is waited for."""
        head = self._head
        if head is None:
            return False
        if head.status < 400 or self._route.dialect is not Dialect.ANTHROPIC:
            return True
        return self.ended or self.held_bytes > reexpression.MAX_ERROR

    def hold(self, head: ResponseHead | None, content: bytes) -> None:
        """It has come, and waits until it may begin."""
        if head is not None:
            self._head = head
        if content:
            self._held.append(content)
            self.held_bytes += len(content)

    def start(self, session: str, lines: list[bytes]) -> None:
        """Send its head, with our own lines, and what was held. Only when it is presentable.

        Args:
            session: its id.
        """
        head = self._head
        assert head is not None
        self._session = session
        content = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held.clear()
        content = self._reexpressed(head, content)
        self.started = True
        self.observation.expect(
            self._route.api, head.content_type.decode("latin-1"), wanted=self._keeping is not None
        )
        lines.append(b"Content-Type: %b\r\n" % head.content_type)
        if head.retry_after is not None:
            lines.append(b"Retry-After: %b\r\n" % head.retry_after)
        if self.ended or head.length is not None:
            lines.append(b"Content-Length: %d\r\n" % (len(content) if head.length is None else head.length))
        elif self._connection.chunks:
            self._chunked = True
            lines.append(b"Transfer-Encoding: chunked\r\n")
        framed = http1.chunk(content) if self._chunked and content else content
        self._connection.start(head.status, lines, framed, ended=self.ended)
        self._sent(content)

    def pass_on(self, content: bytes) -> None:
        """Send more of it; if it has ended, its end."""
        if self._chunked:
            framed = http1.chunk(content) if content else b""
            self._connection.write(framed + http1.LAST_CHUNK if self.ended else framed)
        elif content:
            self._connection.write(content)
        if self.ended:
            self._connection.finish()
        self._sent(content)

    def refuse(self, error: GatewayError, lines: list[bytes]) -> None:
        """Send an error in its place: it had not begun."""
        self.observation.add_own(self._connection.refuse(error, lines))

    def break_off(self, error: GatewayError) -> None:
        """It had begun and will not be complete: say so as clearly as the wire still allows."""
        connection = self._connection
        if not (self._chunked and self.observation.at_boundary()):
            connection.abort()
            return
        route = self._route
        event = errors.stream_event(
            error, route.dialect, connection.request_id, responses=route.api is Api.RESPONSES
        )
        self.observation.add_own(event)
        connection.write(http1.chunk(event) + http1.LAST_CHUNK)
        connection.finish()

    def keep(self, ticket: int) -> None:
        """It is to be kept; room is reserved under a ticket."""
        self._keeping = Keeping(ticket)

    def let_ticket_go(self) -> None:
        """What was not kept by now will not be."""
        if self._keeping is not None:
            self._relay.responses.drop(self._keeping.ticket)
            self._keeping = None

    def _sent(self, content: bytes) -> None:
        """Content is on its way: the rest can take its time."""
        self.observation.add(content)
        if self._keeping is not None:
            self._keep(self._keeping, content)

    def _keep(self, keeping: Keeping, content: bytes) -> None:
        if self.status != 200:
            self.let_ticket_go()
            return
        answer = keeping.sent(content, self.ended, self.observation)
        if answer is not None:
            self._keeping = None
            self._relay.responses.keep(keeping.ticket, self._session, answer)

    def _reexpressed(self, head: ResponseHead, content: bytes) -> bytes:
        """The engine's error in the caller's shape, with a head to match; or what it was."""
        shaped = None
        if self.ended and self._route.dialect is Dialect.ANTHROPIC:
            shaped = reexpression.as_anthropic(head.status, content, self._connection.request_id)
        if shaped is None:
            return content
        head.content_type, head.length = b"application/json", len(shaped)
        return shaped
