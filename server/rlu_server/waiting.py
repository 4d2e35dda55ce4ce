"""Waiting with a limit, without losing a cancellation.

`asyncio.wait_for` before Python 3.12 gives the result, and forgets that we were cancelled, when both come in one turn of the loop: a signal
to stop is then never acted on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def within(future: asyncio.Future[T], seconds: float) -> T | None:
    """The future's result, or None if there is none in time. The future is left as it is."""
    done, _ = await asyncio.wait((future,), timeout=seconds)
    return future.result() if done else None


async def at_most(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What the work comes to; it is cancelled when it takes longer, and when we are.

    Raises:
        asyncio.TimeoutError: it took longer.
    """
    asked = asyncio.ensure_future(work)
    asked.add_done_callback(lambda done: done.cancelled() or done.exception())  # somebody has looked
    try:
        await asyncio.wait((asked,), timeout=seconds)
        if not asked.done():
            raise asyncio.TimeoutError
        return asked.result()
    finally:
        asked.cancel()


class NobodyWaits(Exception):
    """Raised in a thread whose result is not wanted any more."""


async def in_thread(work: Callable[[Callable[..., None]], T]) -> T:
    """What the work comes to, done in a thread. Cancelled, we leave at once and it ends soon: a process waits for its threads at its end.

    Args:
        work: is given a function to call now and then, with any arguments, which raises `NobodyWaits` once we are gone.
    """
    gone = threading.Event()

    def still_wanted(*_: object) -> None:
        if gone.is_set():
            raise NobodyWaits

    try:
        return await asyncio.to_thread(work, still_wanted)
    except asyncio.CancelledError:
        gone.set()
        raise
