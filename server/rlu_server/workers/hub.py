"""The hub's workers together: who is let in, what is told to all, what all have."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import Counter

from rlu_server.adapters.events import Events
from rlu_server.attestor.messages import Posture
from rlu_server.core.errors import GatewayError
from rlu_server.workers import frames, master
from rlu_server.workers.desk import Desk, Parts
from rlu_server.workers.postures import worst

SILENT_S = 30.0
"""A worker that says nothing for so long will not say anything any more, but has its share of the new connections."""
PAUSE_S = 5.0
"""Between two sweeps, which are a quarter of a second apart: then what workers said meanwhile lies unread."""


class Crew:
    """Implements `relay.Crew`. Needs a running loop.

    Args:
        control: where the master sends the ends of new workers.
        size: how many workers there are.
        posture: of this process.
    """

    def __init__(self, control: socket.socket, size: int, posture: Posture, events: Events) -> None:
        self._control = control
        self._size = size
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._desks: set[Desk] = set()
        self._postures: dict[int, Posture] = {}
        self._own_posture = posture
        self._stated: Posture | None = None
        self._parts: Parts | None = None
        self._state = frames.State(attestor=False, draining=False)
        self._ticked = self._loop.time()
        self._complete: asyncio.Future[None] = self._loop.create_future()
        self._connecting: set[asyncio.Task[None]] = set()
        control.setblocking(False)
        self._loop.add_reader(control, self._arrived)

    async def posture(self) -> Posture:
        """What is to be stated of all these processes, once every worker has measured itself."""
        await self._complete
        self._stated = worst([self._own_posture, *self._postures.values()])
        return self._stated

    def begin(self, parts: Parts) -> None:
        """Let the workers serve."""
        self._parts = parts
        for desk in list(self._desks):
            if desk.greeted:
                self._let_in(desk, parts)

    def tell(self, *, attestor: bool, draining: bool) -> None:
        """Whether the attestor is there, and whether we drain."""
        state = frames.State(attestor, draining)
        if state != self._state:
            self._state = state
            self._tell_all(state)

    def tick(self, now: float) -> None:
        """The sweep: have workers ended that are stuck. `now` is the loop's time."""
        if now > self._ticked + PAUSE_S:
            # It was us who did not listen: this process, or the machine, stood still.
            for desk in self._desks:
                desk.heard = now
        self._ticked = now
        for desk in list(self._desks):
            if now > desk.heard + SILENT_S:
                self._events.emit("worker_refused", "silent", worker=desk.number)
                desk.close()
                with contextlib.suppress(OSError):
                    self._control.send(bytes([desk.number]))

    async def close(self) -> None:
        """End all workers."""
        self._loop.remove_reader(self._control)
        self._control.close()
        for task in list(self._connecting):
            task.cancel()
        for desk in list(self._desks):
            desk.close()
        await asyncio.gather(*self._connecting, return_exceptions=True)

    # --- for the relay ---

    @property
    def connections(self) -> int:
        return sum(desk.connections for desk in self._desks)

    @property
    def held_bytes(self) -> int:
        return sum(desk.held.total() for desk in self._desks)

    @property
    def exchanges(self) -> int:
        return sum(desk.exchanges for desk in self._desks)

    def stop_exchanges(self, session_id: str | None, error: GatewayError) -> None:
        self._tell_all(frames.Stop(session_id, frames.Error.of(error)))

    def release_idle(self) -> None:
        self._tell_all(frames.ReleaseIdle())

    # --- workers come and go ---

    def _arrived(self) -> None:
        """The master has forked a worker."""
        while True:
            try:
                found = master.receive(self._control)
            except BlockingIOError:
                return
            if found is None:
                os._exit(1)  # nothing is left to serve for; the kernel is about to end us for the same reason
            number, end = found
            desk = Desk(number, self._greeted, self._share, self._left)
            self._desks.add(desk)
            task = self._loop.create_task(desk.connect(end))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def _greeted(self, desk: Desk, posture: Posture) -> None:
        if self._stated is not None:
            together = worst([self._stated, posture])
            worse = [name for name, value in sorted(together.items()) if value != self._stated.get(name)]
            if worse:
                # It would have to be stated, and what was signed would not be true any more.
                self._events.emit("worker_refused", "posture", worker=desk.number, value=worse[0])
                desk.close()
                return
        self._postures[desk.number], desk.greeted = posture, True
        if len(self._postures) == self._size and not self._complete.done():
            self._complete.set_result(None)
        if self._parts is not None:
            self._let_in(desk, self._parts)

    def _let_in(self, desk: Desk, parts: Parts) -> None:
        desk.begin(parts, self._state)
        self._events.emit("worker_ready", worker=desk.number)
        self._tell_elsewhere(desk)

    def _left(self, desk: Desk) -> None:
        self._desks.discard(desk)
        self._share(desk)

    # --- what is shared ---

    def _share(self, changed: Desk) -> None:
        """A worker has more or less than it had: tell the others."""
        for desk in self._desks:
            if desk is not changed:
                self._tell_elsewhere(desk)

    def _tell_elsewhere(self, desk: Desk) -> None:
        others = [other for other in self._desks if other is not desk]
        held: Counter[str] = Counter()
        for other in others:
            held.update(other.held)
        desk.send(frames.Elsewhere(sum(other.connections for other in others), dict(held)))

    def _tell_all(self, message: frames.Message) -> None:
        for desk in self._desks:
            desk.send(message)
