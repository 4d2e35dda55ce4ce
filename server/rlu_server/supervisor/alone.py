"""`rlu serve --role`: one of the three processes alone, as in a container of a pod, with its lock and its restarts.

All have a runtime directory at the same path. What one role has to show to another is a directory of its own, which is mounted writable
with that role and read-only with who needs it. So nobody can write where another role reads, and the engine does not see the attestor's
socket at all.

directory                written by   seen by            holds
attestor/                attestor     gateway            the attestor's socket
engine/ ...              engine       gateway            each engine's socket and scratch
engine-facts/            engine       attestor           engines.json: models, manifests, engine, arguments, posture
weights/ *               attestor     engine             opened files of sealed models (`handover.py`)
gateway/                 gateway      attestor, engine   the public certificate; serving.lock, held while the gateway runs
facts/, ROLE-own-facts/  its role     nobody             as `facts/` in server.py
keys/                    gateway      nobody             copies for the gateway
* only with [weights] broker; `engine-facts/` then also says which model the engine is to load

The attestor states deployment and hardware by its own settings, and of the engine what the engine's container says. It waits for that at
its start. The end: attestor and engine let the gateway drain before they go, however the three were told.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from rlu_server.attestor.facts import MAX_FILE, ServedFacts
from rlu_server.attestor.messages import Posture
from rlu_server.settings import Settings
from rlu_server.supervisor import facts, plan
from rlu_server.supervisor.errors import StartFailed, Unavailable
from rlu_server.supervisor.handover import ENGINE_FACTS, Handover
from rlu_server.supervisor.runtime import Runtime
from rlu_server.supervisor.server import STOP_TIMEOUT_S, Deployment, Server
from rlu_server.supervisor.streams import Event
from rlu_server.supervisor.weights import SHARED
from rlu_server.waiting import at_most

Role = Literal["attestor", "engine", "gateway"]
CHECK_S = 0.5


class EngineFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`engines.json`: what the engine's container states."""

    served: list[ServedFacts]
    posture: Posture


def written(role: Role, engines: list[str], *, sealed: bool = False) -> dict[str, int]:
    """The directories that a role writes, with the modes they get where they are not mounted.

    Args:
        sealed: models may be encrypted.
    """
    own = {
        "attestor": {"attestor": 0o755, **({SHARED: 0o755} if sealed else {})},
        "engine": {**dict.fromkeys(engines, 0o755), ENGINE_FACTS: 0o755},
        "gateway": {"gateway": 0o755, "keys": 0o700},
    }
    return {private_facts(role): 0o700, **own[role]}


def private_facts(role: Role) -> str:
    """The name of a role's own `facts/`; the attestor looks for its under that name."""
    return "facts" if role == "attestor" else f"{role}-own-facts"


def seen(role: Role, engines: list[str], *, sealed: bool = False) -> list[str]:
    """The directories of other roles that a role needs to see."""
    others = {
        "attestor": [ENGINE_FACTS, "gateway"],
        "engine": ["gateway", *([SHARED] if sealed else [])],
        "gateway": ["attestor", *engines],
    }
    return others[role]


def open_directories(runtime: Runtime, role: Role, settings: Settings) -> None:
    """Make or take what the role writes, emptied. Before anything is decided: deciding may write there already.

    Raises:
        Unavailable: a directory is not ours to write, or one of another role is not there.
    """
    engines, sealed = [place for place, _ in settings.fleet()], bool(settings.weights.broker)
    for name in seen(role, engines, sealed=sealed):
        if not (runtime.path / name).is_dir():
            raise Unavailable(f"{runtime.path / name} is not there; mount what that role writes, read-only")
    for name, mode in written(role, engines, sealed=sealed).items():
        place = runtime.path / name
        try:
            if not place.is_dir():
                runtime.directory(name, mode)
        except OSError as error:
            raise Unavailable(f"{place} cannot be made ({error.strerror}); mount a tmpfs there") from error
        if not os.access(place, os.W_OK | os.X_OK):
            raise Unavailable(f"{place} is not ours to write; mount it writable, with our group")
        runtime.own.append(place)
    runtime.empty()


class _Alone(Server):
    """What the three have in common. Its directories are open. Started by `start`, which returns when the role does its part."""

    role: Role

    def __init__(self, deployment: Deployment, runtime: Runtime, on_event: Event) -> None:
        super().__init__(deployment, runtime, on_event)
        self._path = runtime.path
        self._served_once = False
        self._killed = False

    def _prepare(self) -> None:
        facts.write_text(self._runtime.facts / plan.CONFIG, facts.toml(self._deployment.settings))

    def kill(self) -> None:
        self._killed = True
        super().kill()

    async def _gateway_gone(self) -> None:
        """Until no gateway runs, or for as long as one may take to drain. Nobody waits for a role that did not start."""
        if not self._served_once:
            return
        lock = self._path / "gateway" / "serving.lock"
        limit = self._deployment.settings.gateway.drain_timeout_s + STOP_TIMEOUT_S

        async def gone() -> None:
            while _is_held(lock) and not self._killed:
                await asyncio.sleep(CHECK_S)

        try:
            await at_most(limit, gone())
        except asyncio.TimeoutError:
            self._event("gateway_stays", {})


class AttestorAlone(_Alone):
    """Starts when the engine's container has said what runs there; follows what it says."""

    role = "attestor"

    def __init__(self, deployment: Deployment, runtime: Runtime, on_event: Event) -> None:
        super().__init__(deployment, runtime, on_event)
        self._stated: EngineFacts | None = None
        self._beside: dict[str, asyncio.Task[None]] = {}
        self._failed = False

    async def start(self) -> None:
        self._prepare()
        settings = self._deployment.settings
        if settings.weights.broker:
            models = [settings.model.path, *(one.path for one in settings.further_engines)]
            handover = Handover(settings, self._runtime, models, self._event)
            self._beside["weights"] = asyncio.create_task(handover.run())
        self._event("waiting_for_engine", {})
        while not self._take():
            self._check()
            await asyncio.sleep(CHECK_S)
        self._beside["facts"] = asyncio.create_task(self._follow())
        await self.attestor.start()
        self._served_once = True

    async def watch(self) -> None:
        """While the attestor runs: until something beside it ends.

        It is not begun again here. Opened weights may not have been wiped, and a new process begins with that; sessions outlive it.

        Raises:
            StartFailed: it ended with an error.
        """
        await asyncio.wait(self._beside.values(), return_when=asyncio.FIRST_COMPLETED)
        self._check()

    def _check(self) -> None:
        for name, task in self._beside.items():
            error = task.exception() if task.done() else None
            if error is not None:
                self._failed = True
                reason = type(error).__name__
                self._event("attestor.beside_failed", {"part": name, "reason": reason})
                raise StartFailed(
                    f"what sees to the engine's {name} ended with an error ({reason}): restart"
                ) from error

    async def stop(self) -> None:
        if not self._failed:  # who is to be started again does not wait for others to end
            await self._gateway_gone()
        beside = self._beside.values()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await super().stop()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            with contextlib.suppress(OSError):  # no room for it: the next look tries again
                self._take()

    def _take(self) -> bool:
        """Whether the facts are there. A container that is being started again takes none back."""
        found = read_engine_facts(self._path / ENGINE_FACTS / "engines.json")
        if found is not None and found != self._stated:
            self._state_posture(dict(found.posture))
            served = [msgspec.to_builtins(one) for one in found.served]
            stated = facts.instance_facts(self._deployment.settings, served=served)
            facts.write_json(self._runtime.facts / "instance.json", stated)
            self._stated = found
        return self._stated is not None


class EngineAlone(_Alone):
    """The engines, and what is to be stated of them."""

    role = "engine"

    async def start(self) -> None:
        self._prepare()
        await self.engines.start()
        self._served_once = True

    async def stop(self) -> None:
        await self._gateway_gone()
        await super().stop()

    def _state_posture(self, posture: dict[str, Any]) -> None:
        stated = {"served": self._served(), "posture": posture}
        facts.write_json(self._path / ENGINE_FACTS / "engines.json", stated)

    @property
    def _notes(self) -> Path:
        # No state here; they serve restarts of the engine.
        return self._runtime.facts / "modelinfos"


class GatewayAlone(_Alone):
    """The gateway; listens before the others are there, and is ready when they are."""

    role = "gateway"

    def __init__(self, deployment: Deployment, runtime: Runtime, on_event: Event) -> None:
        super().__init__(deployment, runtime, on_event)
        self._lock: int | None = None

    async def start(self) -> None:
        self._prepare()
        self._lock = _hold(self._path / "gateway" / "serving.lock")
        self._copies.once()
        self._copying = asyncio.create_task(self._copies.keep())
        await self.gateway.start()
        await self._gateway_ready.wait()

    async def stop(self) -> None:
        await super().stop()
        if self._lock is not None:
            os.close(self._lock)


ROLES: dict[Role, type[_Alone]] = {"attestor": AttestorAlone, "engine": EngineAlone, "gateway": GatewayAlone}


def read_engine_facts(path: Path) -> EngineFacts | None:
    """What the engine's container states; None while there is nothing of the right form."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        found = msgspec.json.decode(data, type=EngineFacts) if len(data) <= MAX_FILE else None
    except (OSError, msgspec.MsgspecError):
        return None
    return found if found is not None and found.served else None


def _hold(path: Path) -> int:
    """Held until the descriptor is closed or this process ends; the processes it starts do not inherit it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    os.fchmod(handle, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise Unavailable(f"{path} is held; is another gateway running there?") from error
    return handle


def _is_held(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
