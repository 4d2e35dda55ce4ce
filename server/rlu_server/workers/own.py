"""Our own routes, answered in the hub for requests that came to a worker: ASGI is the seam.

The worker's `asgi.Application` runs `Asking`, which sends the request and passes the answer on; the hub runs the real application.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from rlu_server.adapters.asgi import App, Message
from rlu_server.adapters.events import Events
from rlu_server.core.auth.credentials import NOWHERE
from rlu_server.workers import frames

Send = Callable[[frames.Message], None]


class HubFailed(Exception):
    """The application failed in the hub, which has said how."""


class Asking:
    """The worker's side: an ASGI application that asks the hub."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._last = 0
        self._answers: dict[int, asyncio.Queue[frames.OwnStart | frames.OwnBody | frames.OwnFailed]] = {}

    def answered(self, message: frames.OwnStart | frames.OwnBody | frames.OwnFailed) -> None:
        """The hub says more about an answer."""
        answers = self._answers.get(message.id)
        if answers is not None:
            answers.put_nowait(message)

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        content = (await receive())["body"]
        self._last += 1
        number, answers = self._last, asyncio.Queue[Any]()
        self._answers[number] = answers
        ended = False
        self._send(_question(number, scope, content))
        try:
            while not ended:
                message = await answers.get()
                if isinstance(message, frames.OwnStart):
                    start = {
                        "type": "http.response.start",
                        "status": message.status,
                        "headers": message.headers,
                    }
                    await send(start)
                elif isinstance(message, frames.OwnBody):
                    ended = not message.more
                    await send(
                        {"type": "http.response.body", "body": message.content, "more_body": message.more}
                    )
                else:
                    ended = True
                    raise HubFailed
        finally:
            del self._answers[number]
            if not ended:
                self._send(frames.OwnGone(number))


class Answering:
    """The hub's side, for one worker."""

    def __init__(self, app: App, scheme: str, send: Send, events: Events) -> None:
        self._app = app
        self._scheme = scheme
        self._send = send
        self._events = events
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def answer(self, question: frames.Own) -> None:
        task = asyncio.get_running_loop().create_task(self._run(question))
        self._tasks[question.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(question.id, None))

    def gone(self, number: int) -> None:
        task = self._tasks.get(number)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()

    async def _run(self, question: frames.Own) -> None:
        number, ended = question.id, False
        asked = False
        gone = asyncio.Event()

        async def receive() -> Message:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": question.content, "more_body": False}
            await gone.wait()  # whoever leaves has this task cancelled
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start":
                self._send(frames.OwnStart(number, message["status"], list(message.get("headers", ()))))
            elif message["type"] == "http.response.body":
                ended = not message.get("more_body", False)
                self._send(frames.OwnBody(number, bytes(message.get("body", b"")), not ended))

        try:
            await self._app(_scope(question, self._scheme), receive, send)
            if not ended:
                raise RuntimeError("the application ended without a complete answer")
        except asyncio.CancelledError:
            pass
        except Exception as error:  # the application answers its own errors; what comes here is a bug
            self._events.internal(error, question.request_id)
            self._send(frames.OwnFailed(number))


def _question(number: int, scope: Message, content: bytes) -> frames.Own:
    state = scope["state"]
    return frames.Own(
        number,
        scope["method"],
        scope["path"],
        scope["raw_path"],
        scope["query_string"],
        scope["http_version"],
        scope["headers"],
        state["request_id"],
        state.get("peer", NOWHERE),
        content,
    )


def _scope(question: frames.Own, scheme: str) -> Message:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": question.version,
        "method": question.method,
        "scheme": scheme,
        "path": question.path,
        "raw_path": question.raw_path,
        "query_string": question.query,
        "root_path": "",
        "headers": question.headers,
        "client": None,
        "server": None,
        "state": {"request_id": question.request_id, "peer": question.peer},
    }
