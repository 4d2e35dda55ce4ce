from __future__ import annotations

import asyncio

import pytest

from rlu_server.waiting import at_most
from waiting import PATIENCE_S


async def test_what_it_comes_to() -> None:
    async def seven() -> int:
        return 7

    async def broken() -> None:
        raise ValueError

    assert await at_most(PATIENCE_S, seven()) == 7
    with pytest.raises(ValueError):
        await at_most(PATIENCE_S, broken())


async def test_too_long() -> None:
    ended = asyncio.Event()

    async def for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(asyncio.TimeoutError):
        await at_most(0.01, for_ever())
    await ended.wait()


async def test_a_cancellation_that_comes_with_the_result_is_not_lost() -> None:
    async def work() -> int:
        waiting.cancel()
        return 7

    waiting = asyncio.create_task(at_most(PATIENCE_S, work()))
    with pytest.raises(asyncio.CancelledError):
        await waiting
