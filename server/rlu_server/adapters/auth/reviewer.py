"""Asks the relay for TokenReviews: one short request each (`relay_client`), bounded in time, size and number."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from rlu_server.adapters import relay_client
from rlu_server.adapters.events import Events
from rlu_server.core.auth import reviews

MAX_AT_ONCE = 32


class Reviewer:
    """Implements `authenticator.Cluster`.

    Args:
        relay: `unix:/path`, `http://address:port` or `https://address:port`.
        trust: makes the TLS context, anew for each question, so that a changed CA file counts.
    """

    def __init__(
        self, relay: str, timeout_s: float, events: Events, trust: Callable[[], ssl.SSLContext] | None = None
    ) -> None:
        self._relay = relay
        self._timeout_s = timeout_s
        self._events = events
        self._trust = trust
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)

    def ask(self, question: bytes, answered: Callable[[bytes | None], None]) -> None:
        task = asyncio.get_running_loop().create_task(self._run(question, answered))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._events.internal(error)

    async def _run(self, question: bytes, answered: Callable[[bytes | None], None]) -> None:
        exchange = asyncio.ensure_future(self._exchange(question))
        answer: bytes | None = None
        try:
            # The exchange is a task of its own: `asyncio.wait_for` before Python 3.12 can lose a cancellation.
            done, _ = await asyncio.wait((exchange,), timeout=self._timeout_s)
            answer = exchange.result() if done else None
        except relay_client.FAILURES as error:
            self._events.emit("relay_failed", type(error).__name__)
        finally:
            exchange.cancel()
            answered(answer)  # also after a bug of ours: everybody with this token waits for it

    async def _exchange(self, question: bytes) -> bytes:
        async with self._turns:
            return await relay_client.post(
                self._relay, reviews.PATH, question, reviews.MAX_ANSWER, self._trust
            )
