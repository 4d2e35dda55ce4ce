"""One client connection: requests in their order, answers in the same order.

States are few: the connection waits for a request, receives one (head, then content), or has one being answered (`_job`). A request is
looked at once a read has been parsed as a whole; pipelined ones wait in `arrivals`, and while any wait nothing more is read. A refusal
before the content has arrived is answered at once, then what still comes is thrown away for a moment so that the answer is not lost in
a reset. Every state has a deadline, checked by one sweep over all connections instead of a timer for each.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from rlu_server.adapters import http1
from rlu_server.adapters.arrivals import Arrivals
from rlu_server.adapters.http1 import Incoming
from rlu_server.core import errors
from rlu_server.core.auth.credentials import NOWHERE, Peer, network
from rlu_server.core.coding import ACCEPTED
from rlu_server.core.errors import Dialect, GatewayError
from rlu_server.core.routes import dialect_of
from rlu_server.settings import Gateway

LINGER_S = 2.0
LINGER_BYTES = 4 * 1024 * 1024
HIGH_WATER = 256 * 1024
_REQUEST_ID_HEADER = {
    Dialect.ANTHROPIC: b"request-id: ",
    Dialect.OPENAI: b"x-request-id: ",
    Dialect.RLU: b"x-request-id: ",
}


class Job(Protocol):
    """Who answers a request."""

    def content_arrived(self) -> None:
        """More content is in `incoming.parts`."""

    def complete(self) -> None:
        """The request is complete; answer it."""

    def client_gone(self) -> None:
        """Nobody will read the answer."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Desk(Protocol):
    """Who decides about requests."""

    settings: Gateway
    connections: set[Connection]
    connections_elsewhere: int

    @property
    def draining(self) -> bool: ...

    def next_request_id(self) -> str: ...

    def accept(self, connection: Connection, incoming: Incoming, request_id: str) -> Job:
        """Choose who answers, going by the head alone. Raises GatewayError."""

    def refused(self, incoming: Incoming, error: GatewayError, request_id: str) -> None:
        """A request was answered with an error by this connection."""


class Connection(asyncio.Protocol):
    """A client's connection; also what jobs write their answers to."""

    def __init__(self, desk: Desk) -> None:
        self.request_id = ""
        self.paused_since: float | None = None
        self._desk = desk
        self._settings = desk.settings
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._arrivals = Arrivals(desk.settings)
        self._current: Incoming | None = None
        self._job: Job | None = None
        self._completed = False
        self._deadline = self._loop.time() + desk.settings.header_timeout_s
        self._lingering = False
        self._held = False
        self._peer: Peer | None = None
        self._discarded = 0
        self._keep_alive = True

    # --- the transport's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(HIGH_WATER)
        self._desk.connections.add(self)
        if len(self._desk.connections) + self._desk.connections_elsewhere > self._settings.max_connections:
            self._refuse(Incoming(), GatewayError("overloaded"))

    def connection_lost(self, error: Exception | None) -> None:
        self._desk.connections.discard(self)
        self._lingering = True
        job, self._job = self._job, None
        if job is not None:
            job.client_gone()
        self._arrivals.let_go()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            self._discard(len(data))
            return
        began = self._arrivals.head_bytes
        self._arrivals.feed(data)
        if not began and self._arrivals.head_bytes and self._job is None:
            self._deadline = self._loop.time() + self._settings.header_timeout_s
        if self._arrivals.poison is not None and self._transport is not None:
            self._transport.pause_reading()
        self._advance()

    def eof_received(self) -> bool:
        # A client that has shut down its sending side is not waited for: agents that want an answer keep theirs open.
        return False

    def pause_writing(self) -> None:
        self.paused_since = self._loop.time()
        if self._job is not None:
            self._job.pause()

    def resume_writing(self) -> None:
        self.paused_since = None
        if self._job is not None:
            self._job.resume()

    def tick(self, now: float) -> None:
        """The sweep: end what takes too long. `now` is the loop's time."""
        if self.paused_since is not None and now > self.paused_since + self._settings.idle_timeout_s:
            self._drop()
        elif now > self._deadline and (self._job is None or not self._completed):
            if self._lingering or self._arrivals.empty:
                self._drop()
            else:
                self._fail(GatewayError("request_timeout"))

    def stop_if_idle(self) -> None:
        """Drain: a connection that waits for its next request has nothing to wait for. What is still being sent goes out."""
        if self._job is None and self._arrivals.empty and not self._lingering:
            self._close()

    @property
    def peer(self) -> Peer:
        """The other end, as the transport knows it."""
        found = self._peer
        if found is None:
            found = self._peer = NOWHERE if self._transport is None else _peer(self._transport)
        return found

    def forget_certificate(self) -> None:
        """A CA is no longer trusted: whoever came with a certificate shows it again, on a new connection."""
        self._peer = Peer(self.peer.address)

    # --- the job's side ---

    def hold_reading(self, most: int) -> None:
        """Read no more than so much content until the request is handed over."""
        if self._current is not None and self._current.size > most:
            self._held = True

    def hand_over(self, job: Job) -> None:
        """Another job answers the current request, from its beginning."""
        self._job = job
        self._held = self._completed = False
        self._advance()

    def start(self, status: int, lines: list[bytes], content: bytes, *, ended: bool) -> None:
        """Begin the answer: head and, in the same write, the first content in its final framing."""
        assert self._current is not None
        assert self._transport is not None
        dialect = dialect_of(self._current.path, self._current.headers)
        lines.append(b"%b%b\r\n" % (_REQUEST_ID_HEADER[dialect], self.request_id.encode("ascii")))
        if not self._keep_alive or self._desk.draining:
            self._keep_alive = False
            lines.append(b"Connection: close\r\n")
        head = http1.head(status, lines)
        self._transport.write(head + content if content else head)
        if ended:
            self.finish()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def finish(self) -> None:
        """The answer is complete."""
        self._job = None
        self._held = False
        self.request_id = ""
        current, self._current = self._current, None
        if current is not None:
            current.parts = []
        if current is not None and not current.complete:
            self._linger()
        elif not self._keep_alive:
            if self._arrivals.poison is not None or not self._arrivals.empty:
                self._linger()
            else:
                self._close()
        else:
            self._deadline = self._loop.time() + self._settings.idle_timeout_s
            self._advance()

    def refuse(self, error: GatewayError, lines: list[bytes] | None = None) -> bytes:
        """Answer the current request with an error; returns the content that was sent."""
        assert self._current is not None
        if not self._current.complete:
            self._keep_alive = False
        return self._refuse(self._current, error, lines)

    def abort(self) -> None:
        """End the connection so that the client cannot take what it got for a complete answer; the job hears no more."""
        self._job = None
        if self._transport is not None:
            self._transport.abort()

    @property
    def chunks(self) -> bool:
        """May the answer be chunked? HTTP/1.0 ends it by closing."""
        if self._current is not None and self._current.version == "1.0":
            self._keep_alive = False
            return False
        return True

    # --- inside ---

    def _advance(self) -> None:
        while self._job is None and not self._lingering:
            incoming = self._arrivals.take()
            if incoming is None:
                if self._arrivals.poison is not None:
                    self._fail(self._arrivals.poison)
                else:
                    self._read_on()
                return
            self._current, self._completed = incoming, False
            self._accept(incoming)
        job = self._job
        if job is not None and not self._completed:
            job.content_arrived()
            if self._job is job and self._current is not None:
                if self._current.complete:
                    self._completed = True
                    job.complete()
                elif self._arrivals.poison is not None:
                    self._fail(self._arrivals.poison)
        self._read_on()

    def _accept(self, incoming: Incoming) -> None:
        self.request_id = self._desk.next_request_id()
        self._keep_alive = incoming.keep_alive
        try:
            incoming.check_head(self._settings.max_body_bytes)
        except GatewayError as error:
            # Whoever sends this may count its bytes differently than we do: nothing after it is believed.
            self._keep_alive = False
            self.refuse(error)
            return
        try:
            self._job = self._desk.accept(self, incoming, self.request_id)
        except GatewayError as error:
            self.refuse(error)
            return
        if not incoming.complete:
            self._deadline = self._loop.time() + self._settings.body_timeout_s
            if b"expect" in incoming.headers and not incoming.size and incoming.version == "1.1":
                self.write(http1.CONTINUE)

    def _read_on(self) -> None:
        """Read only while nothing waits in line; what is in flight is watched for the client's leaving."""
        if self._transport is None or self._transport.is_closing() or self._arrivals.poison is not None:
            return
        wanted = not (self._arrivals.queue or self._held or self._is_ahead())
        if wanted != self._transport.is_reading():
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _is_ahead(self) -> bool:
        """Has much of the next request arrived while one is being answered? Nobody has looked at whose it is, or counts its memory."""
        arriving = self._arrivals.arriving
        return (
            arriving is not None
            and arriving is not self._current
            and self._job is not None
            and arriving.size > HIGH_WATER
        )

    def _fail(self, error: GatewayError) -> None:
        """The request that is arriving cannot be understood or waited for."""
        job, self._job = self._job, None
        if job is not None:
            job.client_gone()
        incoming = self._current or self._arrivals.arriving or Incoming()
        self._keep_alive = False
        self._refuse(incoming, error)

    def _refuse(self, incoming: Incoming, error: GatewayError, lines: list[bytes] | None = None) -> bytes:
        self._job = None
        self._current = incoming
        # A head that was refused early has no path yet, and the answer's headers need one too.
        incoming.path = incoming.path or incoming.target.partition(b"?")[0]
        dialect = dialect_of(incoming.path, incoming.headers)
        request_id = self.request_id = self.request_id or self._desk.next_request_id()
        content = errors.body(error, dialect, request_id)
        head = [
            b"Content-Type: %b\r\nContent-Length: %d\r\n"
            % (errors.content_type(dialect).encode("ascii"), len(content)),
            *(lines or ()),
        ]
        if error.retry_after_s is not None:
            head.append(b"Retry-After: %d\r\n" % error.retry_after_s)
        if error.status == 507:
            # SDKs retry after any 5xx; this one does not pass by itself.
            head.append(b"x-should-retry: false\r\n")
        elif error.code == "content_encoding":
            head.append(b"Accept-Encoding: %b\r\n" % b", ".join(ACCEPTED))
        if error.status == 401:
            head.append(b'WWW-Authenticate: Bearer realm="rlu"\r\n')
        if not incoming.complete:
            self._keep_alive = False
        self._desk.refused(incoming, error, request_id)
        self.start(error.status_in(dialect), head, b"" if incoming.method == b"HEAD" else content, ended=True)
        return content

    def _linger(self) -> None:
        """Throw away what still comes, for a moment."""
        self._lingering = True
        self._deadline = self._loop.time() + LINGER_S
        if self._transport is not None and not self._transport.is_closing():
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._transport.resume_reading()

    def _drop(self) -> None:
        """End the connection from our side; a job is told as if the client had left."""
        if self._transport is not None:
            self._transport.abort()

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > LINGER_BYTES:
            self.abort()

    def _close(self) -> None:
        self._lingering = True
        # What is still buffered may go to a slow reader.
        self._deadline = self._loop.time() + self._settings.idle_timeout_s
        if self._transport is not None:
            self._transport.close()


def _peer(transport: asyncio.Transport) -> Peer:
    address = transport.get_extra_info("peername")
    tls = transport.get_extra_info("ssl_object")
    return Peer(
        network(address[0]) if isinstance(address, (tuple, list)) and address else "",
        None if tls is None else tls.getpeercert(True),
    )
