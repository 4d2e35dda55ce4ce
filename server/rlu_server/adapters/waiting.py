"""Waiting with a limit.

`asyncio.wait_for` before Python 3.12 loses a cancellation that arrives together with the result, and a loop around it then never ends.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

T = TypeVar("T")


async def within(future: asyncio.Future[T], seconds: float) -> T | None:
    """The future's result, or None if there is none in time. The future is left as it is."""
    done, _ = await asyncio.wait((future,), timeout=seconds)
    return future.result() if done else None
