"""The whole server: runtime directory, facts, attestor, engine and gateway, in order; and their end in reverse.

Start: facts are written; attestor and engines start side by side; the gateway as soon as the attestor answers and the engines' posture is
known, so that it listens while they load. An engine listens on a socket that nobody else knows until its known answer was right.
Stop: gateway first (it drains), then engines, then attestor, so that every session's close is signed.
Another version of the model (`replace`): gateway and engines stop in that order, facts are written, and they start as at first.
The attestor stays: the new gateway's greeting makes a new instance statement, with the new model in it.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlu_server.engine.launch import EngineStart
from rlu_server.settings import Settings
from rlu_server.supervisor import facts, plan
from rlu_server.supervisor.child import Child
from rlu_server.supervisor.copies import Copies, Copy
from rlu_server.supervisor.errors import StartFailed
from rlu_server.supervisor.fleet import Fleet, Served
from rlu_server.supervisor.plan import Host
from rlu_server.supervisor.runtime import Owners, Runtime
from rlu_server.supervisor.service import Launched, Service, launch
from rlu_server.supervisor.streams import Event, Output
from rlu_server.waiting import at_most

ATTESTOR_TIMEOUT_S = 60.0
GATEWAY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """All decisions of this start."""

    settings: Settings
    """As every process reads them: `runtime_dir` set, the copies of files named, the port chosen."""
    copies: tuple[Copy, ...]
    """Files that the gateway has copies of, such as the API keys."""
    served: tuple[Served, ...]
    """The models, that of `[model]` first."""
    engine_version: str
    host: Host

    @property
    def engine(self) -> EngineStart:
        """The first engine."""
        return self.served[0].engines[0]

    @property
    def manifest_sha256(self) -> bytes:
        """Of the first model."""
        return self.served[0].manifest_sha256


class Server:
    """Runs inside an event loop.

    Args:
        on_event: told everything that happens, as names, codes and counts.
    """

    def __init__(self, deployment: Deployment, runtime: Runtime, on_event: Event) -> None:
        self._deployment = deployment
        self._runtime = runtime
        self._on_event = on_event
        self._uid = os.geteuid()
        self._answering = asyncio.Event()
        self._listening = asyncio.Event()
        self._gateway_ready = asyncio.Event()
        self._recent: deque[str] = deque(maxlen=8)
        self._outputs: set[asyncio.Task[None]] = set()
        self._copies = Copies(
            deployment.copies, lambda name: self._on_event("keys.unreadable", {"file": name})
        )
        self._copying: asyncio.Task[None] | None = None
        self.attestor = Service("attestor", self._start_attestor, self._event)
        self.engines = self._fleet()
        self.gateway = Service("gateway", self._start_gateway, self._event)

    async def start(self) -> None:
        """Until ready to serve.

        Raises:
            ServeError: something did not start; everything is stopped again by `stop`.
        """
        self._prepare()
        self._copying = asyncio.create_task(self._copies.keep())
        await self._bring_up(self.attestor)

    async def replace(self, deployment: Deployment) -> None:
        """Drain, and serve another version of the model; also after a start with one failed.

        Args:
            deployment: the one that is served, with other models in the same places.

        Raises:
            ServeError: it does not start; engines and gateway may be up in part.
        """
        await self._stop_serving()
        self._deployment = deployment
        self.engines = self._fleet()
        self.gateway = Service("gateway", self._start_gateway, self._event)
        self._gateway_ready.clear()
        self._state()
        await self._bring_up()

    @property
    def deployment(self) -> Deployment:
        """The one that is served."""
        return self._deployment

    async def _bring_up(self, *first: Service) -> None:
        engine = asyncio.create_task(self.engines.start())
        rest = asyncio.create_task(self._gateway_after(first, engine))
        try:
            await asyncio.gather(engine, rest)
            self._on_event("proving", {})
            await at_most(GATEWAY_TIMEOUT_S, self._gateway_ready.wait())
        except asyncio.TimeoutError:
            raise StartFailed(
                "the gateway does not become ready: attestor and engine run, but it could not verify the one or prove the other; "
                f"what happened last: {', '.join(self._recent)}"
            ) from None
        finally:
            for task in (engine, rest):
                task.cancel()
            await asyncio.gather(engine, rest, return_exceptions=True)

    async def stop(self) -> None:
        """Drain and end everything."""
        if self._copying is not None:
            self._copying.cancel()
        await self._stop_serving()
        await self.attestor.stop(STOP_TIMEOUT_S)
        for task in list(self._outputs):
            task.cancel()
        await asyncio.gather(*self._outputs, return_exceptions=True)

    def kill(self) -> None:
        """End everything at once."""
        self.engines.kill()
        for service in (self.gateway, self.attestor):
            if service.child is not None:
                service.child.kill()

    @property
    def engine(self) -> Service:
        """The first engine."""
        return self.engines.services[0]

    async def _stop_serving(self) -> None:
        await self.gateway.stop(self._deployment.settings.gateway.drain_timeout_s + STOP_TIMEOUT_S)
        await self.engines.stop(STOP_TIMEOUT_S)

    async def _gateway_after(self, first: Sequence[Service], engine: asyncio.Task[None]) -> None:
        for service in first:
            await service.start()
        locked = asyncio.ensure_future(self.engines.locked.wait())
        await asyncio.wait([engine, locked], return_when=asyncio.FIRST_COMPLETED)
        locked.cancel()
        if not self.engines.locked.is_set():
            return  # the engine's own failure is the one to report
        await self.gateway.start()

    @property
    def _notes(self) -> Path:
        return self._deployment.settings.state_dir / "engine" / "modelinfos"

    def _state_posture(self, posture: dict[str, Any]) -> None:
        facts.write_json(self._runtime.facts / "engine.json", posture)

    def _prepare(self) -> None:
        self._make_directories()
        self._state()
        self._copies.once()

    def _state(self) -> None:
        facts.write_text(self._runtime.facts / plan.CONFIG, facts.toml(self._deployment.settings))
        stated = facts.instance_facts(self._deployment.settings, served=self._served())
        facts.write_json(self._runtime.facts / "instance.json", stated)

    def _fleet(self) -> Fleet:
        deployment = self._deployment
        return Fleet(
            deployment.settings,
            deployment.served,
            self._runtime,
            deployment.host,
            self._uid,
            self._read,
            self._event,
            self._state_posture,
            self._notes,
        )

    def _served(self) -> list[dict[str, Any]]:
        deployment, runtime = self._deployment, self._runtime.path
        return [
            facts.model_facts(
                one.name,
                one.manifest_sha256,
                one.signature,
                deployment.engine_version,
                one.stated_arguments(runtime),
            )
            for one in deployment.served
        ]

    def _make_directories(self) -> None:
        deployment, runtime = self._deployment, self._runtime
        who = plan.users(deployment.settings, deployment.host)
        reader = who["gateway"]
        engines = [place for place, _ in deployment.settings.fleet()]
        for place in engines:
            runtime.separate(place, deployment.settings.lock.scratch_bytes)
        for place in ("attestor", *engines, "gateway"):
            user = who["engine" if place in engines else place]
            if place == "gateway":
                # Holds the public certificate only, which clients on this machine read.
                runtime.directory(place, 0o755, Owners() if user is None else Owners(user.uid, user.gid))
            elif user is None or reader is None:
                runtime.directory(place, 0o700)
            else:
                # The gateway connects; the sockets within get its group.
                runtime.directory(place, 0o2710, Owners(user.uid, reader.gid))
        runtime.directory("facts", 0o755)
        runtime.directory("keys", 0o700, Owners() if reader is None else Owners(reader.uid, reader.gid))

    async def _start_attestor(self, output: Output, note: Callable[[Child], None]) -> None:
        program = plan.attestor(self._deployment.settings, self._runtime, self._deployment.host, self._uid)
        self._answering.clear()
        launched = await self._launch(program, output)
        note(launched.child)
        facts.write_json(self._runtime.facts / "attestor.json", launched.posture)
        await _within(ATTESTOR_TIMEOUT_S, self._answering, "attestor: does not answer after a minute")

    async def _start_gateway(self, output: Output, note: Callable[[Child], None]) -> None:
        program = plan.gateway(self._deployment.settings, self._runtime, self._deployment.host, self._uid)
        self._listening.clear()
        launched = await self._launch(program, output)
        note(launched.child)
        await _within(GATEWAY_TIMEOUT_S, self._listening, "gateway: does not listen after a minute")

    async def _launch(self, program: plan.Program, output: Output) -> Launched:
        reading, writing = os.pipe()
        self._read(output, reading)
        try:
            return await launch(program, self._runtime.facts, writing)
        finally:
            os.close(writing)

    def _read(self, output: Output, handle: int) -> None:
        task = asyncio.create_task(output.read(handle))
        self._outputs.add(task)
        task.add_done_callback(self._outputs.discard)

    def _event(self, name: str, values: dict[str, str | int]) -> None:
        """Events of the children and of the services, in one stream."""
        told = {
            "attestor.started": self._answering,
            "gateway_listening": self._listening,
            "gateway_ready": self._gateway_ready,
        }
        if name in told:
            told[name].set()
        self._recent.append(name)
        self._on_event(name, values)


async def _within(timeout_s: float, event: asyncio.Event, otherwise: str) -> None:
    try:
        await at_most(timeout_s, event.wait())
    except asyncio.TimeoutError:
        raise StartFailed(otherwise) from None
