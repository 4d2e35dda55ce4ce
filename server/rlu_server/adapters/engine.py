"""Connections to one engine over its Unix socket.

One request at a time on each; idle ones are kept a little less long than vLLM keeps them. What becomes of a request that got no byte of an
answer is for the watch to decide (`engines.Engines`); without one, a request goes out a second time only when it was sent on a connection
that had been idle: the engine had closed it. Closing a connection is how a request is aborted; vLLM then frees its place.

Every start of an engine makes its socket anew, so the socket's file tells one start, a *generation*, from the next. Connections know
theirs, and a request that names a generation reaches no other: an engine that was restarted unnoticed may be another version.

Everything of one read is delivered in one call, so that a burst of events costs one pass through the relay.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from functools import lru_cache
from pathlib import Path
from typing import Protocol, cast

import httptools

from rlu_server.core.errors import GatewayError

IDLE_S = 4.0
"""vLLM closes idle connections after 5 s unless told otherwise."""
FULL_S, FULL_PAUSE_S = 10.0, 0.01
"""How long an engine may take no further connection before it counts as away, and how often it is tried."""
MAX_HEAD = 64 * 1024
_PASSED_ON = frozenset({b"content-type", b"retry-after"})
"""Response headers of the engine that reach clients; the rest is ours to say."""


class ResponseHead:
    """Status and headers of an answer."""

    __slots__ = ("content_type", "length", "retry_after", "status")

    def __init__(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status = status
        self.content_type = headers.get(b"content-type", b"application/octet-stream")
        self.retry_after = headers.get(b"retry-after")
        length = headers.get(b"content-length")
        self.length = int(length) if length is not None else None


class Handler(Protocol):
    """Who asked."""

    def engine_read(self, head: ResponseHead | None, content: bytes, ended: bool) -> None:
        """What one read brought: the head if it was in it, content, and whether the answer is complete."""

    def engine_failed(self, error: GatewayError) -> None:
        """There will be no more: `engine_unavailable`, `engine_lost`, `engine_protocol`."""


Generation = tuple[int, int]
"""One start of an engine: its socket's inode, and when that was made."""


class Watch(Protocol):
    """Who answers for an engine."""

    def engine_suspect(self, engine: Engine) -> None:
        """A connection ended, or could not be made, and it was not our doing: it may be another engine by now."""

    def engine_unanswered(self, engine: Engine, call: Call, error: GatewayError, *, reused: bool) -> None:
        """A call got no byte of an answer.

        Args:
            error: `engine_unavailable`: it was not sent; `engine_lost`: the engine may have seen it.
            reused: it was sent on a connection that had been idle, which the engine may have closed before.
        """


class Call:
    """One request to the engine.

    Attributes:
        generation: it goes to this start of the engine only; None: to any.
        sent: it was given to an engine, which may have seen it.
    """

    __slots__ = ("body", "connection", "generation", "handler", "head", "sent")

    def __init__(
        self, handler: Handler, head: bytes, body: bytes, generation: Generation | None = None
    ) -> None:
        self.handler: Handler | None = handler
        self.head = head
        self.body = body
        self.generation = generation
        self.sent = False
        self.connection: _Connection | None = None

    def cancel(self) -> None:
        """Abort it; the handler is not called again."""
        self.handler = None
        self.body = b""  # who counted its memory counts it no longer
        if self.connection is not None:
            self.connection.abort()

    def pause(self) -> None:
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        if self.connection is not None:
            self.connection.resume()


def post_head(path: str, size: int, lines: bytes = b"") -> bytes:
    """The head of a request with JSON content; `lines` are further header lines."""
    return b"%b%d\r\n%b\r\n" % (_post_prefix(path), size, lines)


@lru_cache(maxsize=64)
def _post_prefix(path: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\nContent-Length: "
    return head.encode("ascii")


class Engine:
    """The engine behind one Unix socket."""

    def __init__(self, socket: Path, watch: Watch | None = None) -> None:
        self._socket = str(socket)
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._idle: deque[_Connection] = deque()
        self._open: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """Requests in flight."""
        return len(self._open) - len(self._idle) + len(self._tasks)

    def generation(self) -> Generation | None:
        """The start of the engine whose socket is there now."""
        try:
            found = os.stat(self._socket)
        except OSError:
            return None
        return found.st_ino, found.st_ctime_ns

    def post(self, path: str, body: bytes, handler: Handler, generation: Generation | None = None) -> Call:
        """Send a request; the handler is called later, never from within this call."""
        call = Call(handler, post_head(path, len(body)), body, generation)
        self.send(call)
        return call

    def get(self, path: str, handler: Handler, generation: Generation | None = None) -> Call:
        """`post` for a request without content."""
        head = f"GET {path} HTTP/1.1\r\nHost: engine\r\n\r\n".encode("ascii")
        call = Call(handler, head, b"", generation)
        self.send(call)
        return call

    def close(self) -> None:
        """End every connection, and with it every request."""
        for connection in list(self._open):
            connection.abort()
        self._idle.clear()
        for task in self._tasks:
            task.cancel()

    def tick(self, now: float) -> None:
        """Close what has been idle too long. `now` is the loop's time."""
        while self._idle and self._idle[0].idle_since < now - IDLE_S:
            self._idle.popleft().abort()

    def send(self, call: Call, *, fresh: bool = False) -> None:
        """Send a request, on a kept connection unless that must not be."""
        oldest = self._loop.time() - IDLE_S
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.usable() and connection.idle_since >= oldest and connection.serves(call):
                connection.send(call, reused=True)
                return
            connection.abort()
        task = self._loop.create_task(self._connect(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, call: Call) -> None:
        try:
            connection = await self._connected()
        except OSError:
            self._suspect()
            self.unanswered(call, GatewayError("engine_unavailable"))
            return
        # Looked at after connecting: what the file says now was not yet so, or was so already, when the connection was made. So a file
        # that is the expected one says that the connection is to the expected engine.
        connection.generation = self.generation()
        if call.handler is None:
            connection.abort()
        elif not connection.serves(call):
            connection.abort()
            self._suspect()
            self.unanswered(call, GatewayError("engine_unavailable"))
        else:
            connection.send(call, reused=False)

    async def _connected(self) -> _Connection:
        """A new connection. Raises OSError."""
        until = self._loop.time() + FULL_S
        while True:
            try:
                return (await self._loop.create_unix_connection(lambda: _Connection(self), self._socket))[1]
            except BlockingIOError:
                # Its line of connections that wait to be accepted is full: it is there, and busy.
                if self._loop.time() >= until:
                    raise
            await asyncio.sleep(FULL_PAUSE_S)

    def opened(self, connection: _Connection) -> None:
        self._open.add(connection)

    def lost(self, connection: _Connection, *, by_us: bool) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not by_us:
            self._suspect()

    def unanswered(self, call: Call, error: GatewayError, *, reused: bool = False) -> None:
        """A call got no byte of an answer."""
        if call.handler is None:
            return
        if self._watch is not None:
            self._watch.engine_unanswered(self, call, error, reused=reused)
        elif reused:
            self.send(call, fresh=True)
        else:
            call.handler.engine_failed(error)

    def _suspect(self) -> None:
        if self._watch is not None:
            self._watch.engine_suspect(self)

    def released(self, connection: _Connection) -> None:
        connection.idle_since = self._loop.time()
        self._idle.append(connection)


class _Connection(asyncio.Protocol):
    def __init__(self, engine: Engine) -> None:
        self.idle_since = 0.0
        self.generation: Generation | None = None
        self._engine = engine
        self._by_us = False
        self._transport: asyncio.Transport | None = None
        self._call: Call | None = None
        self._reused = False
        self._answered = False
        self._headers: dict[bytes, bytes] = {}
        self._head: ResponseHead | None = None
        self._head_bytes = 0
        self._in_head = True
        self._ended = False
        self._keep_alive = False
        self._pieces: list[bytes] = []
        # Called by the parser for every piece of content: as a C method it costs no frame.
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)

    # --- towards the engine ---

    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def serves(self, call: Call) -> bool:
        """Does it lead to the start of the engine that the call is for?"""
        return call.generation is None or call.generation == self.generation

    def send(self, call: Call, *, reused: bool) -> None:
        self._call, self._reused, self._answered = call, reused, False
        call.connection, call.sent = self, True
        assert self._transport is not None
        if call.body:
            self._transport.writelines((call.head, call.body))
        else:
            self._transport.write(call.head)

    def abort(self) -> None:
        self._call = None
        self._by_us = True
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        if (
            self._transport is not None
            and not self._transport.is_closing()
            and not self._transport.is_reading()
        ):
            self._transport.resume_reading()

    # --- from the engine ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._engine.opened(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._engine.lost(self, by_us=self._by_us)
        # It holds us as we hold it, and the garbage collector comes by so seldom that such pairs took megabytes.
        del self._parser
        call, self._call = self._call, None
        if call is None or call.handler is None:
            return
        call.connection = None
        if self._answered:
            call.handler.engine_failed(GatewayError("engine_lost"))
        else:
            self._engine.unanswered(call, GatewayError("engine_lost"), reused=self._reused)

    def data_received(self, data: bytes) -> None:
        if not self._answered:
            self._answered = True
            if self._call is not None:
                self._call.body = b""  # no more needed for a second try
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail()
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._fail()
                return
        pieces = self._pieces
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        head, self._head = self._head, None
        call, ended = self._call, self._ended
        if call is None or call.handler is None:
            # Nobody asked: an answer to nothing, or more bytes than the answer had.
            self.abort()
            return
        if ended:
            self._finish(call)
        if head is not None or content or ended:
            call.handler.engine_read(head, content, ended)

    def _finish(self, call: Call) -> None:
        call.connection = None
        self._call = None
        self._ended = False
        self._in_head, self._head_bytes = True, 0
        if self._keep_alive:
            self.resume()
            self._engine.released(self)
        else:
            self.abort()

    def _fail(self) -> None:
        call, self._call = self._call, None
        self.abort()
        if call is not None and call.handler is not None:
            call.connection = None
            call.handler.engine_failed(GatewayError("engine_protocol"))

    # --- the parser's callbacks ---

    def on_message_begin(self) -> None:
        if self._ended or self._call is None:
            raise ValueError("an answer to nothing")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer, which would be taken for a header of the next answer
        name = name.lower()
        if name in _PASSED_ON or name == b"content-length":
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, {}
        if status >= 200:
            self._head = ResponseHead(status, headers)
            self._in_head = False

    def on_message_complete(self) -> None:
        if not self._in_head:
            self._ended = True
            # Only now: once the message is behind it, llhttp has forgotten its framing and always says no.
            self._keep_alive = self._parser.should_keep_alive()
