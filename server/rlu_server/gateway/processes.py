"""A gateway of several processes: the master in this one, the hub and the workers forked from it (`workers`)."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Sequence

import uvloop

from rlu_server.adapters.events import Events
from rlu_server.attestor.messages import Posture
from rlu_server.gateway.parts import Places, Secrets
from rlu_server.gateway.process import Gateway, until_told
from rlu_server.gateway.worker import Worker
from rlu_server.settings import Settings
from rlu_server.workers.hub import Crew
from rlu_server.workers.master import Master, listen
from rlu_server.workers.postures import worst

Guard = Callable[[Callable[[], None]], int]
"""Runs something, tells its error, and gives the exit code."""


def run(settings: Settings, measure: Callable[[], Posture], events: Events, guard: Guard) -> int:
    """Until the gateway was told to end, or its hub failed; returns the exit code.

    Args:
        measure: the posture of the process that calls it.

    Raises:
        OSError: the address cannot be listened on.
    """
    places, workers = Places.of(settings), settings.gateway.workers
    own = measure()
    born = Secrets.make(settings)
    listeners = listen(settings.gateway.host, settings.gateway.port, workers)
    events.emit("gateway_listening", port=listeners[0][0].getsockname()[1], workers=workers)

    def hub(control: socket.socket) -> int:
        postures = worst([own, measure()])
        return guard(lambda: uvloop.run(_hub(settings, places, postures, born, control, events)))

    def worker(number: int, sockets: Sequence[socket.socket], end: socket.socket) -> int:
        for ignored in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ignored, signal.SIG_IGN)  # the hub is told, and drains us
        posture, told = measure(), Events(worker=number)
        return guard(lambda: uvloop.run(_worker(settings, places, posture, born, sockets, end, told)))

    return Master(listeners, hub, worker, events).run()


async def _hub(
    settings: Settings,
    places: Places,
    posture: Posture,
    born: Secrets,
    control: socket.socket,
    events: Events,
) -> None:
    crew = Crew(control, settings.gateway.workers, posture, events)
    stated = await crew.posture()
    await until_told(lambda: Gateway(settings, places, stated, events, born, crew))


async def _worker(
    settings: Settings,
    places: Places,
    posture: Posture,
    born: Secrets,
    sockets: Sequence[socket.socket],
    end: socket.socket,
    events: Events,
) -> None:
    await Worker(settings, places, born, events).run(end, sockets, posture)
