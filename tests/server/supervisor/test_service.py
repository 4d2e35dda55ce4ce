"""A process that is kept running, in moments that are seldom met. Whole servers are in test_server.py."""

from __future__ import annotations

import asyncio
import errno
import sys
from collections.abc import Callable

import pytest

from rlu_server.supervisor import service
from rlu_server.supervisor.child import Child
from rlu_server.supervisor.service import Service
from rlu_server.supervisor.streams import Output
from waiting import PATIENCE_S, until


def process(code: str = "import signal; signal.alarm(300); signal.pause()") -> Child:
    return Child([sys.executable, "-I", "-c", code], {"PATH": "/usr/bin:/bin"})


class Starts:
    """A service whose starts are scripted, one after the other."""

    def __init__(self, *starts: Callable[[Callable[[Child], None]], object]) -> None:
        self.events: list[str] = []
        self._starts = list(starts)
        self.service = Service("engine", self._start, lambda name, values: self.events.append(name))

    async def _start(self, output: Output, note: Callable[[Child], None]) -> None:
        found = self._starts.pop(0)(note)
        if asyncio.iscoroutine(found):
            await found


async def test_it_is_started_again_after_an_error_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that was full for a moment must not leave it ended for good."""
    monkeypatch.setattr(service, "FIRST_PAUSE_S", 0.01)

    def full(note: Callable[[Child], None]) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    it = Starts(lambda note: note(process("pass")), full, lambda note: note(process()))
    await it.service.start()
    await until(lambda: it.events.count("engine.ready") == 2, lambda: it.events)
    assert "engine.start_failed" in it.events
    await it.service.stop(PATIENCE_S)


async def test_who_is_told_to_end_while_it_ends_the_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """`rlu serve` is told to stop while it replaces a model: what it is doing must not go on for ever."""
    monkeypatch.setattr(service, "FIRST_PAUSE_S", 0.01)
    ending, end = asyncio.Event(), asyncio.Event()

    async def slow_to_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await end.wait()

    it = Starts(lambda note: note(process("pass")), lambda note: slow_to_end())
    await it.service.start()
    await until(lambda: it.events.count("engine.starting") == 2)
    stopping = asyncio.create_task(it.service.stop(PATIENCE_S))
    await ending.wait()
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    end.set()
    await it.service.stop(PATIENCE_S)


async def test_a_cancellation_that_comes_with_the_end_of_the_process_is_not_lost() -> None:
    child = process()
    child.exited.add_done_callback(lambda _: stopping.cancel())
    stopping = asyncio.create_task(child.stop(PATIENCE_S))
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert await child.ended() < 0


async def test_who_is_cancelled_waiting_for_the_end_takes_it_from_nobody() -> None:
    child = process()
    waiting = asyncio.create_task(child.ended())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not child.exited.done()
    assert await child.stop(PATIENCE_S) < 0
