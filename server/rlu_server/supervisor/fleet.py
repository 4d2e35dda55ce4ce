"""The engines: each started through the lock, held to its known answer, supervised by itself.

Engines that all have accelerators of their own start side by side. Others start one after the other, because an engine measures the memory
that is free while it loads. The statement has one posture for all engines, so an engine whose posture is another than the others' does not
start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlu_attestation.models import ModelSignature
from rlu_server.engine import environment as engine_environment
from rlu_server.engine import model_info, readiness
from rlu_server.engine.canary import KnownAnswer
from rlu_server.engine.launch import EngineStart
from rlu_server.models.errors import ManifestError
from rlu_server.models.manifest import Progress
from rlu_server.models.verifying import Measured, Unchanged
from rlu_server.settings import Settings
from rlu_server.supervisor import plan
from rlu_server.supervisor.child import Child
from rlu_server.supervisor.errors import LockRefused, StartFailed
from rlu_server.supervisor.holding import Holding
from rlu_server.supervisor.plan import Host
from rlu_server.supervisor.runtime import Runtime
from rlu_server.supervisor.service import Service, launch
from rlu_server.supervisor.streams import Event, Output
from rlu_server.waiting import at_most, in_thread

FILTER_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Served:
    """One model, and the engines that serve it."""

    engines: tuple[EngineStart, ...]
    model: Measured
    canary: KnownAnswer | None
    unchanged: Unchanged
    weights: Holding | None = None
    """Of a sealed model: held since the decision to start."""

    @property
    def name(self) -> str:
        """The name clients use."""
        return self.engines[0].name

    @property
    def manifest_sha256(self) -> bytes:
        return self.model.manifest.sha256

    @property
    def signature(self) -> ModelSignature:
        """As it is stated."""
        return ModelSignature(self.model.result, self.model.signer)

    def stated_arguments(self, runtime: Path) -> list[str]:
        """Of its engines, which all have the same."""
        return self.engines[0].stated_arguments(runtime)


def side_by_side(devices: Sequence[str]) -> bool:
    """May the engines start together? Each has accelerators of its own, then."""
    each = [device for one in devices for device in one.split(",")]
    return all(devices) and len(set(each)) == len(each)


class Fleet:
    """All engines.

    Args:
        read: reads a child's output from a descriptor.
        on_event: told what happens; with more than one engine, each event says of which.
        on_posture: given the posture of the engines, whenever one started.
        notes: where vLLM's notes on model classes are kept.
    """

    def __init__(
        self,
        settings: Settings,
        served: Sequence[Served],
        runtime: Runtime,
        host: Host,
        uid: int,
        read: Callable[[Output, int], None],
        on_event: Event,
        on_posture: Callable[[dict[str, Any]], None],
        notes: Path,
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._host = host
        self._uid = uid
        self._read = read
        self._on_event = on_event
        self._on_posture = on_posture
        self._notes = notes
        self._together = side_by_side([start.devices for one in served for start in one.engines])
        self._postures: dict[str, dict[str, Any]] = {}
        self._filters: set[Child] = set()
        self._several = sum(len(one.engines) for one in served) > 1
        self.locked = asyncio.Event()
        """The posture of the engines is known."""
        self._weights = [one.weights for one in served if one.weights is not None]
        for weights in self._weights:
            weights.resume()  # a fleet that was stopped before had them too
        self.services = [self._service(start, one) for one in served for start in one.engines]

    async def start(self) -> None:
        """Until all are ready. Raises ServeError."""
        loop = asyncio.get_running_loop()

        def tell(name: str, values: dict[str, str | int]) -> None:
            loop.call_soon_threadsafe(self._on_event, name, values)

        held: list[Holding] = []
        try:
            for weights in self._weights:
                weights.on_event = tell
                await asyncio.to_thread(weights.begin)
                held.append(weights)
            await self._start_all()
        finally:
            for weights in held:
                await asyncio.to_thread(weights.let_go)

    async def _start_all(self) -> None:
        if not self._together:
            for service in self.services:
                await service.start()
            return
        starting = [asyncio.ensure_future(service.start()) for service in self.services]
        try:
            await asyncio.gather(*starting)
        finally:
            for one in starting:
                one.cancel()
            await asyncio.gather(*starting, return_exceptions=True)

    async def stop(self, timeout_s: float) -> None:
        self._abandon()
        await asyncio.gather(*(service.stop(timeout_s) for service in self.services))
        # A filter ends by itself, once the engine that it listened to is gone.
        await asyncio.gather(*(_ended(child) for child in self._filters))

    def kill(self) -> None:
        self._abandon()
        for service in self.services:
            if service.child is not None:
                service.child.kill()

    def _abandon(self) -> None:
        for weights in self._weights:
            weights.abandon()

    def _service(self, start: EngineStart, served: Served) -> Service:
        def tell(name: str, values: Mapping[str, str | int]) -> None:
            self._on_event(name, {**values, "engine": start.place} if self._several else dict(values))

        async def run(output: Output, note: Callable[[Child], None]) -> None:
            async with contextlib.nullcontext() if served.weights is None else served.weights.held():
                await self._start(start, served, tell, output, note)

        return Service("engine", run, tell, prefix="engine.", title=start.place)

    async def _start(
        self,
        start: EngineStart,
        served: Served,
        tell: Event,
        output: Output,
        note: Callable[[Child], None],
    ) -> None:
        if served.model.result != "verified":
            tell("engine.model_not_verified", {"code": served.model.failure or "model.signature.absent"})
        await _held(start, served.unchanged.before_start)
        for path in (start.socket, start.starting_socket):
            path.unlink(missing_ok=True)
        self._prepare_scratch(start)
        starting, hold = os.pipe()
        try:
            try:
                sink = await self._launch_filter(start, starting, output)
            finally:
                os.close(starting)
            program = plan.engine(self._settings, self._runtime, start, self._host, self._uid)
            try:
                launched = await launch(program, self._runtime.facts, sink)
            finally:
                os.close(sink)
            note(launched.child)
            self._note_posture(start, launched.posture)
            if start.listens:
                await self._until_fit(start, served.canary, tell)
                await _held(start, lambda _: served.unchanged.after_loading())
        finally:
            os.close(hold)  # from here on, text of the engine is withheld
        output.forget()
        if start.listens:
            with contextlib.suppress(
                OSError
            ):  # without them the next start takes longer; no reason not to serve
                model_info.keep(start.scratch, self._notes)
            start.starting_socket.rename(start.socket)

    def _note_posture(self, start: EngineStart, posture: dict[str, Any]) -> None:
        nodes = self._settings.group.nodes
        if nodes > 1:  # of which this one was measured
            posture = {**posture, "nodes": nodes}
        others = {place: found for place, found in self._postures.items() if place != start.place}
        for place, found in others.items():
            if found != posture:
                names = sorted(name for name in {*found, *posture} if found.get(name) != posture.get(name))
                raise LockRefused(
                    f"the lock of {start.place} is not that of {place}, and one statement speaks for all engines: {', '.join(names)} differ"
                )
        self._postures[start.place] = posture
        self._on_posture(posture)
        self.locked.set()

    async def _until_fit(self, start: EngineStart, canary: KnownAnswer | None, tell: Event) -> None:
        timeout_s = self._settings.engine.ready_timeout_s
        try:
            await at_most(timeout_s, readiness.wait_healthy(start.starting_socket))
            if canary is not None:
                tell("engine.known_answer", {})
                await readiness.check_canary(start.starting_socket, start.name, canary)
        except asyncio.TimeoutError:
            raise StartFailed(
                f"{start.place}: not ready after {timeout_s:.0f} s (engine.ready_timeout_s)"
            ) from None
        except readiness.EngineUnfit as error:
            if isinstance(error, readiness.WrongAnswer):
                tell("engine.known_answer_wrong", {})
            raise StartFailed(f"{start.place}: {error}") from error

    async def _launch_filter(self, start: EngineStart, starting: int, output: Output) -> int:
        """Start the filter; returns the descriptor that the engine is to write to."""
        source, sink = os.pipe()
        reading, writing = os.pipe()
        self._read(output, reading)
        program = plan.output_filter(self._settings, start, starting, self._host)
        try:
            launched = await launch(program, self._runtime.facts, writing, stdin=source, keep_fds=(starting,))
        except BaseException:
            os.close(sink)
            raise
        finally:
            os.close(source)
            os.close(writing)
        self._filters.add(launched.child)
        launched.child.exited.add_done_callback(lambda _: self._filters.discard(launched.child))
        return sink

    def _prepare_scratch(self, start: EngineStart) -> None:
        user = plan.users(self._settings, self._host)["engine"]
        for directory in engine_environment.directories(start.scratch):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(mode=0o700)
        made = [
            *engine_environment.directories(start.scratch),
            *model_info.put_back(self._notes, start.scratch),
        ]
        if user is not None:
            for path in made:
                os.chown(path, user.uid, user.gid)


async def _held(start: EngineStart, check: Callable[[Progress], None]) -> None:
    """The engine opens what was measured, or does not serve."""
    try:
        await in_thread(check)
    except ManifestError as error:
        raise StartFailed(f"{start.place}: {error.message} [{error.code}]") from error
    except OSError as error:
        raise StartFailed(f"{start.place}: the model cannot be read: {error}") from error


async def _ended(child: Child) -> None:
    done, _ = await asyncio.wait((child.exited,), timeout=FILTER_TIMEOUT_S)
    if not done:
        child.kill()
        await child.ended()
