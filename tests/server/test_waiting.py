from __future__ import annotations

import asyncio
import threading

import pytest

from rlu_server.waiting import NobodyWaits, at_most, in_thread
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


async def test_a_thread_ends_when_nobody_waits_for_it() -> None:
    began, ended = threading.Event(), threading.Event()

    def work(still_wanted: object) -> None:
        assert callable(still_wanted)
        still_wanted(1, 2)
        began.set()
        try:
            while True:
                still_wanted()
        except NobodyWaits:
            ended.set()
            raise

    waiting = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(began.wait, PATIENCE_S)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.to_thread(ended.wait, PATIENCE_S)
    assert await in_thread(lambda _: 7) == 7
