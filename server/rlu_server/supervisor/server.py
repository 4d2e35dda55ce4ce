"""The whole server: runtime directory, facts, attestor, engine and gateway, in order; and their end in reverse.

Start: facts are written; attestor and engine start side by side; the gateway as soon as the attestor answers and the engine's posture is
known, so that it listens while the engine loads. The engine listens on a socket that nobody else knows until its known answer was right.
Stop: gateway first (it drains), then engine, then attestor, so that every session's close is signed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rlu_server.engine import environment as engine_environment
from rlu_server.engine import model_info, readiness
from rlu_server.engine.launch import EngineStart
from rlu_server.settings import Settings
from rlu_server.supervisor import facts, plan
from rlu_server.supervisor.child import Child
from rlu_server.supervisor.errors import StartFailed
from rlu_server.supervisor.plan import Host
from rlu_server.supervisor.runtime import Owners, Runtime
from rlu_server.supervisor.service import Launched, Service, launch
from rlu_server.supervisor.streams import Event, Output

ATTESTOR_TIMEOUT_S = 60.0
GATEWAY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
KEYS_CHECK_S = 0.5


@dataclass(frozen=True, slots=True)
class Deployment:
    """All decisions of this start."""

    settings: Settings
    """As every process reads them: `runtime_dir` set, the API keys' copy named, the port chosen."""
    keys: Path
    """The API keys' own file."""
    engine: EngineStart
    manifest_sha256: bytes
    engine_version: str
    canary: readiness.Canary | None
    host: Host


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
        self._engine_locked = asyncio.Event()
        self._answering = asyncio.Event()
        self._listening = asyncio.Event()
        self._gateway_ready = asyncio.Event()
        self._recent: deque[str] = deque(maxlen=8)
        self._outputs: set[asyncio.Task[None]] = set()
        self._keys_task: asyncio.Task[None] | None = None
        self.attestor = Service("attestor", self._start_attestor, self._event)
        self.engine = Service("engine", self._start_engine, self._event, prefix="engine.")
        self.gateway = Service("gateway", self._start_gateway, self._event)

    async def start(self) -> None:
        """Until ready to serve.

        Raises:
            ServeError: something did not start; everything is stopped again by `stop`.
        """
        self._prepare()
        self._keys_task = asyncio.create_task(self._copy_keys())
        engine = asyncio.create_task(self.engine.start())
        rest = asyncio.create_task(self._attestor_then_gateway(engine))
        try:
            await asyncio.gather(engine, rest)
            self._on_event("proving", {})
            await asyncio.wait_for(self._gateway_ready.wait(), GATEWAY_TIMEOUT_S)
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
        if self._keys_task is not None:
            self._keys_task.cancel()
        await self.gateway.stop(self._deployment.settings.gateway.drain_timeout_s + STOP_TIMEOUT_S)
        await self.engine.stop(STOP_TIMEOUT_S)
        await self.attestor.stop(STOP_TIMEOUT_S)
        for task in list(self._outputs):
            task.cancel()
        await asyncio.gather(*self._outputs, return_exceptions=True)

    def kill(self) -> None:
        """End everything at once."""
        for service in (self.gateway, self.engine, self.attestor):
            if service.child is not None:
                service.child.kill()

    async def _attestor_then_gateway(self, engine: asyncio.Task[None]) -> None:
        await self.attestor.start()
        locked = asyncio.ensure_future(self._engine_locked.wait())
        await asyncio.wait([engine, locked], return_when=asyncio.FIRST_COMPLETED)
        locked.cancel()
        if not self._engine_locked.is_set():
            return  # the engine's own failure is the one to report
        await self.gateway.start()

    def _prepare(self) -> None:
        deployment, runtime = self._deployment, self._runtime
        who = plan.users(deployment.settings, deployment.host)
        reader = who["gateway"]
        runtime.separate("engine", deployment.settings.lock.scratch_bytes)
        for role in plan.ROLES:
            user = who[role]
            if role == "gateway":
                # Holds the public certificate only, which clients on this machine read.
                runtime.directory(role, 0o755, Owners() if user is None else Owners(user.uid, user.gid))
            elif user is None or reader is None:
                runtime.directory(role, 0o700)
            else:
                # The gateway connects; the sockets within get its group.
                runtime.directory(role, 0o2710, Owners(user.uid, reader.gid))
        runtime.directory("facts", 0o755)
        runtime.directory("keys", 0o700, Owners() if reader is None else Owners(reader.uid, reader.gid))
        facts.write_text(runtime.facts / plan.CONFIG, facts.toml(deployment.settings))
        facts.write_json(
            runtime.facts / "instance.json",
            facts.instance_facts(
                deployment.settings,
                model_name=deployment.engine.name,
                manifest_sha256=deployment.manifest_sha256,
                engine_version=deployment.engine_version,
                engine_arguments=deployment.engine.stated_arguments(runtime.path),
            ),
        )
        self._copy_keys_once(None)

    async def _start_attestor(self, output: Output, note: Callable[[Child], None]) -> None:
        program = plan.attestor(self._deployment.settings, self._runtime, self._deployment.host, self._uid)
        self._answering.clear()
        launched = await self._launch(program, output)
        facts.write_json(self._runtime.facts / "attestor.json", launched.posture)
        note(launched.child)
        await _within(ATTESTOR_TIMEOUT_S, self._answering, "attestor: does not answer after a minute")

    async def _start_gateway(self, output: Output, note: Callable[[Child], None]) -> None:
        program = plan.gateway(self._deployment.settings, self._runtime, self._deployment.host, self._uid)
        self._listening.clear()
        launched = await self._launch(program, output)
        note(launched.child)
        await _within(GATEWAY_TIMEOUT_S, self._listening, "gateway: does not listen after a minute")

    async def _start_engine(self, output: Output, note: Callable[[Child], None]) -> None:
        start, settings = self._deployment.engine, self._deployment.settings
        for path in (start.socket, start.starting_socket):
            path.unlink(missing_ok=True)
        self._prepare_scratch(start)
        starting, hold = os.pipe()
        try:
            sink = await self._launch_filter(starting, output)
            os.close(starting)
            program = plan.engine(settings, self._runtime, start, self._deployment.host, self._uid)
            try:
                launched = await launch(program, self._runtime.facts, sink)
            finally:
                os.close(sink)
            facts.write_json(self._runtime.facts / "engine.json", launched.posture)
            note(launched.child)
            self._engine_locked.set()
            await self._until_fit(start, settings.engine.ready_timeout_s)
        finally:
            os.close(hold)  # from here on, text of the engine is withheld
        output.forget()
        model_info.keep(start.scratch, self._notes)
        start.starting_socket.rename(start.socket)

    def _prepare_scratch(self, start: EngineStart) -> None:
        user = plan.users(self._deployment.settings, self._deployment.host)["engine"]
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

    @property
    def _notes(self) -> Path:
        return self._deployment.settings.state_dir / "engine" / "modelinfos"

    async def _until_fit(self, start: EngineStart, timeout_s: float) -> None:
        canary = self._deployment.canary
        try:
            await asyncio.wait_for(readiness.wait_healthy(start.starting_socket), timeout_s)
            if canary is not None:
                self._on_event("engine.known_answer", {})
                await readiness.check_canary(start.starting_socket, start.name, canary)
        except asyncio.TimeoutError:
            raise StartFailed(f"engine: not ready after {timeout_s:.0f} s (engine.ready_timeout_s)") from None
        except readiness.EngineUnfit as error:
            raise StartFailed(f"engine: {error}") from error

    async def _launch(self, program: plan.Program, output: Output) -> Launched:
        reading, writing = os.pipe()
        self._read(output, reading)
        try:
            return await launch(program, self._runtime.facts, writing)
        finally:
            os.close(writing)

    async def _launch_filter(self, starting: int, output: Output) -> int:
        """Start the filter; returns the descriptor that the engine is to write to."""
        source, sink = os.pipe()
        reading, writing = os.pipe()
        self._read(output, reading)
        program = plan.output_filter(
            self._deployment.settings, self._deployment.engine, starting, self._deployment.host
        )
        try:
            await launch(program, self._runtime.facts, writing, stdin=source, keep_fds=(starting,))
        except BaseException:
            os.close(sink)
            raise
        finally:
            os.close(source)
            os.close(writing)
        return sink

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

    async def _copy_keys(self) -> None:
        """Keep the gateway's copy of the API keys current: the gateway may not read the state directory, where the attestor's secret is."""
        seen: tuple[int, int] | None = None
        while True:
            seen = self._copy_keys_once(seen)
            await asyncio.sleep(KEYS_CHECK_S)

    def _copy_keys_once(self, seen: tuple[int, int] | None) -> tuple[int, int] | None:
        target = self._deployment.settings.api_keys_file
        try:
            found = self._deployment.keys.stat()
            now = (found.st_mtime_ns, found.st_ino)
            if now != seen:
                facts.write_text(target, self._deployment.keys.read_text("utf-8"))
            return now
        except FileNotFoundError:
            target.unlink(missing_ok=True)
            return None
        except (OSError, UnicodeDecodeError):
            self._on_event("keys.unreadable", {})
            return seen


async def _within(timeout_s: float, event: asyncio.Event, otherwise: str) -> None:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except asyncio.TimeoutError:
        raise StartFailed(otherwise) from None
