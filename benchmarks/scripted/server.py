"""The scripted engine on a socket: one `asyncio.Protocol` per connection, llhttp for the parsing, writes made in advance.

Fast because there is nothing to do: an unscripted answer is rendered once per distinct request body. It keeps no request unless
`inspect` is set; then the last few are in `Engine.seen`, and `GET /_scripted` answers with them for tests in another process.
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httptools
import orjson

from scripted.application import Application, Reply, whole
from scripted.script import ScriptBook, ScriptError, load_book

BURST = 16
"""Events written per turn of the loop when there is no pause between them; keeps many streams fair to each other."""
INSPECTION = "/_scripted"


@dataclass(slots=True)
class Seen:
    """A request as it arrived. `outcome`: `open`, `complete`, or `aborted` when the client left first."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    outcome: str = "open"

    def as_json(self) -> dict[str, Any]:
        body = base64.b64encode(self.body).decode()
        fields = {"method": self.method, "target": self.target, "headers": self.headers}
        return {**fields, "body": body, "outcome": self.outcome}


class Engine:
    """State that the connections share."""

    def __init__(self, book: ScriptBook | None = None, *, inspect: bool = False, keep: int = 64) -> None:
        self.application = Application(book or ScriptBook())
        self.inspect = inspect
        self.seen: deque[Seen] = deque(maxlen=keep)
        self._replies: dict[tuple[bytes, bytes, bytes], Reply] = {}

    @property
    def book(self) -> ScriptBook:
        return self.application.book

    @book.setter
    def book(self, book: ScriptBook) -> None:
        self.application.book = book
        self._replies.clear()

    def reply(self, method: bytes, target: bytes, body: bytes) -> Reply:
        # The lookup comes first: it is all that an unscripted answer costs after its first time.
        key = (method, target, body)
        reply = self._replies.get(key)
        if reply is None:
            name, path = method.decode("ascii"), target.decode("latin-1").partition("?")[0]
            if self.inspect and path == INSPECTION:
                return self._inspected(name, body)
            reply = self.application.reply(name, path, body)
            if reply.reusable and len(self._replies) < 64:
                self._replies[key] = reply
        return reply

    def _inspected(self, method: str, body: bytes) -> Reply:
        """GET: the requests seen; DELETE: forget them; PUT: another book from now on."""
        if method == "DELETE":
            self.seen.clear()
        elif method == "PUT":
            try:
                self.book = load_book(orjson.loads(body))
            except (ScriptError, ValueError) as problem:
                return whole(400, orjson.dumps({"error": str(problem)}))
        return whole(200, orjson.dumps([seen.as_json() for seen in self.seen]))


class Connection(asyncio.Protocol):
    """Serves the requests of one connection, one after another."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self.parser = httptools.HttpRequestParser(self)
        self.waiting: deque[tuple[Reply, Seen | None]] = deque()
        self.current: Reply | None = None
        self.seen: Seen | None = None
        self.position = 0
        self.timer: asyncio.Handle | None = None
        self.paused = False
        self.closed = False
        self.target = b""
        self.body: list[bytes] = []

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio.Transport.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.transport.close()
        except httptools.HttpParserError:
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
            self.transport.close()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.current is not None and self.timer is None:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.timer is not None:
            self.timer.cancel()
        if self.current is not None:
            self.engine.application.running -= 1
            self.current = None
        for seen in (self.seen, *(seen for _, seen in self.waiting)):
            if seen is not None and seen.outcome == "open":
                seen.outcome = "aborted"

    # --- httptools ----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.target, self.body = b"", []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        body = self.body[0] if len(self.body) == 1 else b"".join(self.body)
        self.waiting.append(
            (self.engine.reply(self.parser.get_method(), self.target, body), self.noted(body))
        )
        if self.current is None:
            self._begin()

    def noted(self, body: bytes) -> Seen | None:
        """What is kept of this request: nothing."""
        return None

    # --- sending ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self.current, self.seen = self.waiting.popleft()
        self.position = 0
        self.engine.application.running += 1
        if self.current.head:
            self.transport.write(self.current.head)
        if self.current.first_s and self.current.writes:
            self.timer = self.loop.call_later(self.current.first_s, self._send)
        else:
            self._send()

    def _send(self) -> None:
        self.timer = None
        reply = self.current
        if reply is None or self.closed:
            return
        if self.paused:
            return
        left = len(reply.writes) - self.position
        count = min(left, 1 if reply.interval_s else BURST)
        # The end of a chunked message goes with the last event.
        if count and left - count == 1 and reply.interval_s and reply.ending == "keep":
            count += 1
        for write in reply.writes[self.position : self.position + count]:
            self.transport.write(write)
        self.position += count
        if self.position < len(reply.writes):
            if reply.interval_s:
                self.timer = self.loop.call_later(reply.interval_s, self._send)
            else:
                self.timer = self.loop.call_soon(self._send)
            return
        self._end(reply)

    def _end(self, reply: Reply) -> None:
        if reply.ending == "stall":
            return
        self.engine.application.running -= 1
        self.current = None
        if self.seen is not None:
            self.seen.outcome = "complete"
        if reply.ending == "close":
            self.transport.close()
        elif self.waiting:
            self._begin()


class InspectedConnection(Connection):
    """A connection that keeps what it was asked; its own class because a callback for headers that nobody reads costs time."""

    def __init__(self, engine: Engine) -> None:
        self.headers: list[tuple[str, str]] = []
        super().__init__(engine)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def noted(self, body: bytes) -> Seen | None:
        target = self.target.decode("latin-1")
        if not self.engine.inspect or target == INSPECTION:
            return None
        seen = Seen(self.parser.get_method().decode(), target, self.headers, body)
        self.engine.seen.append(seen)
        return seen


async def serve(
    engine: Engine, *, uds: Path | str | None = None, host: str = "127.0.0.1", port: int = 0
) -> asyncio.Server:
    """Listen on a Unix socket (a stale one is removed first) or on TCP."""
    loop = asyncio.get_running_loop()
    kind = InspectedConnection if engine.inspect else Connection
    if uds is None:
        return await loop.create_server(lambda: kind(engine), host, port)
    Path(uds).unlink(missing_ok=True)
    return await loop.create_unix_server(lambda: kind(engine), str(uds))
