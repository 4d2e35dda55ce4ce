"""Who is let in, and who is given up: the crew with workers played by the test over real socket pairs."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rlu_server.adapters.events import Events
from rlu_server.attestor.messages import Posture
from rlu_server.workers import frames, hub
from rlu_server.workers.desk import Parts
from rlu_server.workers.hub import Crew
from waiting import until

GOOD: Posture = {"read_outside": False, "call_filter": True}


class Played:
    """The master's end, and the workers that it sent."""

    def __init__(self) -> None:
        self.control, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.written: list[dict[str, Any]] = []
        self.crew = Crew(end, 2, GOOD, Events(lambda line: self.written.append(json.loads(line))))
        self.ends: list[socket.socket] = []

    def worker(self, number: int, posture: Posture | None) -> socket.socket:
        """One that measured itself; None: not yet."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self.control, [bytes([number])], [theirs.fileno()])
        ours.settimeout(60)
        if posture is not None:
            ours.sendall(frames.encode([frames.Hello(posture)]))
        self.ends.append(ours)
        return ours

    async def heard(self, end: socket.socket) -> list[frames.ToWorker]:
        """What the hub says to this worker; empty: it ended the connection."""
        data = await asyncio.to_thread(end.recv, 65536)
        return frames.Reader(frames.TO_WORKER).feed(data)


@pytest.fixture
async def played() -> AsyncIterator[Played]:
    played = Played()
    yield played
    await played.crew.close()
    for end in (played.control, *played.ends):
        end.close()
    await asyncio.sleep(0.02)


class NoRoutes:
    def close(self) -> None:
        pass


def parts() -> Parts:
    nothing: Any = None
    routes: Any = NoRoutes()
    return Parts(nothing, nothing, nothing, lambda send: routes, lambda counts: None, lambda who: None)


async def test_the_worst_of_all_is_stated_and_nobody_serves_before(played: Played):
    played.worker(0, GOOD)
    stated = asyncio.ensure_future(played.crew.posture())
    second = played.worker(1, {**GOOD, "read_outside": True})
    assert await stated == {"read_outside": True, "call_filter": True}
    played.crew.tell(attestor=True, draining=False)
    played.crew.begin(parts())
    assert (await played.heard(second))[-2:] == [frames.State(True, False), frames.Elsewhere(0, {})]


async def test_a_later_worker_that_is_worse_than_what_was_stated_is_not_let_in(played: Played):
    played.worker(0, GOOD)
    played.worker(1, GOOD)
    await played.crew.posture()
    played.crew.begin(parts())
    worse = played.worker(1, {**GOOD, "call_filter": False})
    assert await played.heard(worse) == []
    refused = next(event for event in played.written if event["event"] == "worker_refused")
    assert (refused["code"], refused["worker"], refused["value"]) == ("posture", 1, "call_filter")
    better = played.worker(1, GOOD)
    assert isinstance((await played.heard(better))[0], frames.State)


async def test_a_worker_that_was_replaced_is_not_let_in_by_its_predecessors_word(played: Played):
    played.worker(0, GOOD)
    first = played.worker(1, GOOD)
    await played.crew.posture()
    first.close()
    await until(lambda: len(played.crew._desks) == 1)
    second = played.worker(1, None)
    await until(lambda: len(played.crew._desks) == 2)
    played.crew.begin(parts())
    assert [event["worker"] for event in played.written if event["event"] == "worker_ready"] == [0]
    second.sendall(frames.encode([frames.Hello(GOOD)]))
    assert isinstance((await played.heard(second))[0], frames.State)
    assert [event["worker"] for event in played.written if event["event"] == "worker_ready"] == [0, 1]


async def test_who_asks_before_it_was_let_in_is_not_heard(played: Played):
    end = played.worker(0, GOOD)
    end.sendall(frames.encode([frames.Leave(1, None)]))
    assert await played.heard(end) == []


async def test_a_silent_worker_is_named_to_the_master(played: Played):
    end = played.worker(1, GOOD)
    loop = asyncio.get_running_loop()
    while not any(desk.number == 1 for desk in played.crew._desks):
        await asyncio.sleep(0.005)
    now = loop.time()
    # The hub itself stood still: it has not heard anybody.
    played.crew.tick(now + 2 * hub.SILENT_S)
    assert len(played.crew._desks) == 1
    for second in range(int(hub.SILENT_S) + 2):
        played.crew.tick(now + 2 * hub.SILENT_S + second)
    assert await played.heard(end) == []
    played.control.settimeout(60)
    assert await asyncio.to_thread(played.control.recv, 8) == b"\x01"
