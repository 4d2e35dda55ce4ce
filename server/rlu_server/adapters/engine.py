"""Connections to the engine over its Unix socket.

One request at a time on each; idle ones are kept a little less long than vLLM keeps them. A request goes out a second time only when it
was sent on a connection that had been idle and that ended before a single byte of an answer: the engine had closed it. Closing a
connection is how a request is aborted; vLLM then frees its place.

Everything of one read is delivered in one call, so that a burst of events costs one pass through the relay.
"""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import Protocol, cast

import httptools

from rlu_server.core.errors import GatewayError

IDLE_S = 4.0
"""vLLM closes idle connections after 5 s unless told otherwise."""
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


class Call:
    """One request to the engine."""

    __slots__ = ("body", "connection", "handler", "head")

    def __init__(self, handler: Handler, head: bytes, body: bytes) -> None:
        self.handler: Handler | None = handler
        self.head = head
        self.body = body
        self.connection: _Connection | None = None

    def cancel(self) -> None:
        """Abort it; the handler is not called again."""
        self.handler = None
        if self.connection is not None:
            self.connection.abort()

    def pause(self) -> None:
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        if self.connection is not None:
            self.connection.resume()


class Engine:
    """The engine behind one Unix socket."""

    def __init__(self, socket: Path) -> None:
        self._socket = str(socket)
        self._loop = asyncio.get_running_loop()
        self._idle: deque[_Connection] = deque()
        self._open: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._heads: dict[str, bytes] = {}

    def post(self, path: str, body: bytes, handler: Handler) -> Call:
        """Send a request; the handler is called later, never from within this call."""
        prefix = self._heads.get(path)
        if prefix is None:
            prefix = f"POST {path} HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\nContent-Length: ".encode(
                "ascii"
            )
            self._heads[path] = prefix
        call = Call(handler, b"%b%d\r\n\r\n" % (prefix, len(body)), body)
        self._send(call, fresh=False)
        return call

    def get(self, path: str, handler: Handler) -> Call:
        """The same for a request without content."""
        call = Call(handler, f"GET {path} HTTP/1.1\r\nHost: engine\r\n\r\n".encode("ascii"), b"")
        self._send(call, fresh=False)
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

    def _send(self, call: Call, fresh: bool) -> None:
        oldest = self._loop.time() - IDLE_S
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.usable() and connection.idle_since >= oldest:
                connection.send(call, reused=True)
                return
            connection.abort()
        task = self._loop.create_task(self._connect(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, call: Call) -> None:
        try:
            _, connection = await self._loop.create_unix_connection(lambda: _Connection(self), self._socket)
        except OSError:
            if call.handler is not None:
                call.handler.engine_failed(GatewayError("engine_unavailable"))
            return
        if call.handler is None:
            connection.abort()
        else:
            connection.send(call, reused=False)

    def opened(self, connection: _Connection) -> None:
        self._open.add(connection)

    def lost(self, connection: _Connection) -> None:
        self._open.discard(connection)

    def released(self, connection: _Connection) -> None:
        connection.idle_since = self._loop.time()
        self._idle.append(connection)

    def again(self, call: Call) -> None:
        self._send(call, fresh=True)


class _Connection(asyncio.Protocol):
    def __init__(self, engine: Engine) -> None:
        self.idle_since = 0.0
        self._engine = engine
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

    def send(self, call: Call, *, reused: bool) -> None:
        self._call, self._reused, self._answered = call, reused, False
        call.connection = self
        assert self._transport is not None
        if call.body:
            self._transport.writelines((call.head, call.body))
        else:
            self._transport.write(call.head)

    def abort(self) -> None:
        self._call = None
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
        self._engine.lost(self)
        call, self._call = self._call, None
        if call is None or call.handler is None:
            return
        call.connection = None
        if self._reused and not self._answered:
            self._engine.again(call)
        else:
            call.handler.engine_failed(GatewayError("engine_lost"))

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
