"""A small ASGI bridge to the application of our own routes. These are few, short and rare; nothing here is tuned.

Content is bounded to 64 KiB both because none of our routes needs more and because it is buffered here as a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from rlu_server.adapters import http1
from rlu_server.adapters.client import Connection
from rlu_server.adapters.events import Events
from rlu_server.adapters.http1 import Incoming
from rlu_server.core.errors import GatewayError

MAX_CONTENT = 64 * 1024
HOP_BY_HOP = frozenset(
    {b"connection", b"content-length", b"date", b"keep-alive", b"transfer-encoding", b"upgrade"}
)

Message = MutableMapping[str, Any]
App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


class Application:
    """Runs an ASGI application for single requests."""

    def __init__(self, scheme: str, events: Events) -> None:
        self.scheme = scheme
        self.events = events
        self.tasks: set[asyncio.Task[None]] = set()

    def serve(self, app: App, answered: Callable[[bytes, int, str], None]) -> None:
        """Name the application, and who is told path, status and id of every request that was answered."""
        self.app = app
        self.answered = answered

    def close(self) -> None:
        for task in list(self.tasks):
            task.cancel()

    def job(self, connection: Connection, incoming: Incoming, request_id: str) -> Call:
        length = incoming.headers.get(b"content-length", b"0")
        if int(length) > MAX_CONTENT:
            raise GatewayError("body_too_large")
        return Call(self, connection, incoming, request_id)


class Call:
    """One request to the application: a job of its connection."""

    def __init__(
        self, application: Application, connection: Connection, incoming: Incoming, request_id: str
    ) -> None:
        self._application = application
        self._connection = connection
        self._incoming = incoming
        self._request_id = request_id
        self._task: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()
        self._received = False
        self._status = 0
        self._lines: list[bytes] = []
        self._started = False
        self._chunked = False
        self._finished = False

    def content_arrived(self) -> None:
        if self._incoming.size > MAX_CONTENT:
            self._finished = True
            self._connection.refuse(GatewayError("body_too_large"))

    def complete(self) -> None:
        if self._finished:
            return
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._application.tasks.add(self._task)
        self._task.add_done_callback(self._application.tasks.discard)

    def client_gone(self) -> None:
        self._finished = True
        self._gone.set()
        if self._task is not None:
            self._task.cancel()

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    async def _run(self) -> None:
        try:
            await self._application.app(self._scope(), self._receive, self._send)
            if not self._finished:
                raise RuntimeError("the application ended without a complete answer")
        except asyncio.CancelledError:
            pass
        except Exception as error:  # the application answers its own errors; what comes here is a bug
            self._application.events.internal(error, self._request_id)
            if self._finished:
                return
            self._finished = True
            if self._started:
                self._connection.abort()
            else:
                self._connection.refuse(GatewayError("internal"))

    def _scope(self) -> Message:
        incoming = self._incoming
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": incoming.version,
            "method": incoming.method.decode("ascii"),
            "scheme": self._application.scheme,
            "path": unquote(incoming.path.decode("latin-1")),
            "raw_path": incoming.path,
            "query_string": incoming.query,
            "root_path": "",
            "headers": list(incoming.headers.items()),
            "client": None,
            "server": None,
            "state": {"request_id": self._request_id, "peer": self._connection.peer},
        }

    async def _receive(self) -> Message:
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": self._incoming.content(), "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._finished:
            return
        if message["type"] == "http.response.start":
            self._status = message["status"]
            for name, value in message.get("headers", ()):
                if name.lower() not in HOP_BY_HOP:
                    self._lines.append(b"%b: %b\r\n" % (name, value))
        elif message["type"] == "http.response.body":
            self._send_content(message.get("body", b""), ended=not message.get("more_body", False))

    def _send_content(self, content: bytes, *, ended: bool) -> None:
        self._finished = ended
        if self._incoming.method == b"HEAD":
            content = b""
        if self._started:
            framed = http1.chunk(content) if self._chunked and content else content
            self._connection.write(framed + (http1.LAST_CHUNK if self._chunked and ended else b""))
            if ended:
                self._connection.finish()
            return
        self._started = True
        self._application.answered(self._incoming.path, self._status, self._request_id)
        if ended and self._status not in (204, 304):
            self._lines.append(b"Content-Length: %d\r\n" % len(content))
        elif not ended and self._connection.chunks:
            self._chunked = True
            self._lines.append(b"Transfer-Encoding: chunked\r\n")
            content = http1.chunk(content) if content else b""
        self._connection.start(self._status, self._lines, content, ended=ended)
