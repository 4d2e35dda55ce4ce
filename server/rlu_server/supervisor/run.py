"""`rlu serve` from settings to exit: the one place where the pieces, the signals and the clean-up meet. `rlu demo` uses it too."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from rlu_server import terminal
from rlu_server.settings import Settings
from rlu_server.supervisor import group, prepare, rollout, runtime
from rlu_server.supervisor.alone import ROLES, AttestorAlone, Role, open_directories, private_facts
from rlu_server.supervisor.prepare import Opening, Progress
from rlu_server.supervisor.runtime import Runtime
from rlu_server.supervisor.server import Deployment, Server
from rlu_server.supervisor.streams import Event

ENDS = (signal.SIGTERM, signal.SIGINT)
While = Callable[[Deployment, Runtime], Awaitable[None]]
"""What to do while the server is up; the server stops when it returns or a signal comes."""


async def forever(deployment: Deployment, place: Runtime) -> None:
    """Serve until a signal."""
    await asyncio.Event().wait()


async def serve(
    settings: Settings,
    variables: Mapping[str, str],
    on_event: Event,
    *,
    progress: Progress | None = None,
    meanwhile: While = forever,
    role: Role | None = None,
) -> bool:
    """Start, serve, drain, wipe. Returns whether a signal ended it (rather than `meanwhile`).

    Args:
        role: the only one to run here; None: all three.

    The first SIGTERM or SIGINT drains, a second one ends everything at once. While nothing runs yet, the first one does.

    Raises:
        ServeError: it did not start; nothing is left behind.
    """
    terminal.leave()
    given = settings.runtime_dir
    with _signals() as signals, contextlib.ExitStack() as held:
        place = runtime.create(given) if role is None else runtime.share(given, private_facts(role))
        try:
            if role is not None:
                open_directories(place, role, settings)
            chosen = rollout.pinned(settings, held) if role in (None, "engine") else settings
            deployment = prepare.deployment(chosen, place, variables, progress, role)
            server = (Server if role is None else ROLES[role])(deployment, place, on_event)

            async def together() -> None:
                beside = _beside(server, settings, place, on_event, role, held)
                await _together(meanwhile(server.deployment, place), beside)

            stop = signals.from_here_on()
            try:
                return await _serve(server, together, stop)
            finally:
                on_event("draining", {})
                stop.clear()
                await _stop(server, stop)
        finally:
            place.remove()
            on_event("stopped", {})


def _beside(
    server: Server,
    settings: Settings,
    place: Runtime,
    on_event: Event,
    role: Role | None,
    held: contextlib.ExitStack,
) -> list[Coroutine[Any, Any, None]]:
    """What goes on while the server is up: a group is watched, and a model that `rlu update` keeps."""
    beside: list[Coroutine[Any, Any, None]] = []
    if isinstance(server, AttestorAlone):
        beside.append(server.watch())
    store = rollout.store_of(settings.model.path)
    if settings.group.nodes > 1 and role == "engine":
        beside.append(group.until_it_ends(server.engines, server.deployment.served))
    if store is not None and role is None:

        def prepared(
            deployment: Deployment, directory: Path, opening: Opening, progress: Progress
        ) -> Deployment:
            return prepare.with_model(deployment, place, directory, opening, progress)

        beside.append(rollout.Rollout(server, store, prepared, on_event, held).run())
    return beside


async def _together(first: Awaitable[None], others: list[Coroutine[Any, Any, None]]) -> None:
    """Until one of them ends."""
    tasks = [asyncio.ensure_future(one) for one in (first, *others)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _serve(server: Server, meanwhile: Callable[[], Awaitable[None]], stop: asyncio.Event) -> bool:
    stopping = asyncio.create_task(stop.wait())

    async def work() -> None:
        await server.start()
        await meanwhile()

    working = asyncio.create_task(work())
    try:
        await asyncio.wait([stopping, working], return_when=asyncio.FIRST_COMPLETED)
        told = not working.done()
    finally:
        stopping.cancel()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    if not working.cancelled():
        working.result()
    return told


async def _stop(server: Server, again: asyncio.Event) -> None:
    stopping = asyncio.create_task(server.stop())
    impatient = asyncio.create_task(again.wait())
    await asyncio.wait([stopping, impatient], return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        server.kill()
    impatient.cancel()
    await stopping


class _Signals:
    """SIGTERM and SIGINT. At first each ends what we are doing, as an error does, so that nothing of it is left in memory."""

    def __init__(self) -> None:
        for number in ENDS:
            signal.signal(number, self._end)

    def from_here_on(self) -> asyncio.Event:
        """No more; they set this event instead."""
        stop = asyncio.Event()
        for number in ENDS:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        return stop

    @staticmethod
    def _end(number: int, frame: object) -> NoReturn:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)


@contextlib.contextmanager
def _signals() -> Iterator[_Signals]:
    before = {number: signal.getsignal(number) for number in ENDS}
    try:
        yield _Signals()
    finally:
        for number, handler in before.items():
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
