"""A version of the model that was switched to while this server runs: verified beside the one that serves, then put in its place.

`[model] path` may be the `current` of a store (`rlu_server.updates.store`), a link that `rlu update` moves. What is decided here:

    it leads to another version   it is measured and verified as at a start, while the old one serves. Not good: told, and the old one stays
    it is good                    drain, engines and gateway anew (`Server.replace`)
    it does not start             the old one is started again, and the link is put back, if we may write there; if not even that one
                                  starts, this server ends

A version that was refused is not tried again before the link moved. What became of updates is told with the events of this server, so that
whoever watches them hears of one that failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from rlu_attestation.errors import RluError
from rlu_server.settings import Settings
from rlu_server.supervisor.errors import ServeError, Unavailable
from rlu_server.supervisor.holding import Holding
from rlu_server.supervisor.prepare import Opening, Progress
from rlu_server.supervisor.server import Deployment, Server
from rlu_server.supervisor.streams import Event
from rlu_server.updates.store import CURRENT, Attempt, Store, serving
from rlu_server.waiting import in_thread

CHECK_S = 1.0
Prepare = Callable[[Deployment, Path, Opening, Progress], Deployment]
"""Given the deployment that serves, the directory of another version, whom to tell of an encrypted model before it is opened, and what to
call while files are read, whose errors end that. Blocks. Raises ServeError."""


def store_of(model_path: str) -> Store | None:
    """The store that a model's path points into, if it does."""
    path = Path(model_path).expanduser()
    return Store(path.parent) if path.name == CURRENT and path.is_symlink() else None


def served_by(server: Server) -> Path:
    """The directory of the first model, without links."""
    return Path(server.deployment.settings.model.path)


def pinned(settings: Settings, held: contextlib.ExitStack) -> Settings:
    """The settings with the version that a store's link leads to now in the link's place. It is not removed while it is held, so neither
    while it is hashed nor while engines load it.

    Raises:
        Unavailable: it cannot be held.
    """
    store = store_of(settings.model.path)
    if store is None:
        return settings
    link, seen = store.root / CURRENT, None
    while (directory := Path(os.path.realpath(link))) != seen:
        seen = directory
        with contextlib.suppress(FileNotFoundError):  # removed just now: then the link leads elsewhere
            _hold(directory, held)
            model = settings.model.model_copy(update={"path": str(directory)})
            return settings.model_copy(update={"model": model})
    return settings


def _hold(directory: Path, held: contextlib.ExitStack) -> None:
    """Raises FileNotFoundError, Unavailable."""
    try:
        held.enter_context(serving(directory))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unavailable(f"{directory} cannot be kept from being removed: {error.strerror}") from error


class Rollout:
    """Runs beside a server that has started.

    Args:
        on_event: told what happens: versions and codes.
        held: keeps the version that is served from being removed (`pinned`); from a switch on, that one.
    """

    def __init__(
        self,
        server: Server,
        store: Store,
        prepare: Prepare,
        on_event: Event,
        held: contextlib.ExitStack,
    ) -> None:
        self._server = server
        self._store = store
        self._prepare = prepare
        self._on_event = on_event
        self._held = held
        self._refused: Path | None = None
        self._attempt = self._last_attempt()

    async def run(self) -> None:
        """Until cancelled. Raises ServeError: nothing serves any more."""
        while True:
            target = await self._another()
            with contextlib.ExitStack() as held:
                deployment = await self._taken(target, held)
                if deployment is not None and await self._switch(target, deployment):
                    self._held.close()
                    self._held.enter_context(held.pop_all())

    @property
    def _served(self) -> Path:
        return served_by(self._server)

    async def _another(self) -> Path:
        """Until there is one to switch to."""
        while True:
            await asyncio.sleep(CHECK_S)
            self._tell()
            target = self._target()
            if target is not None:
                return target

    async def _taken(self, target: Path, held: contextlib.ExitStack) -> Deployment | None:
        """Held, measured and verified; None: not this one."""
        try:
            _hold(target, held)
            return await self._prepared(target)
        except FileNotFoundError:
            return None  # removed just now: the link leads elsewhere
        except ServeError as error:
            self._refused = target
            self._on_event("model.refused", {"version": target.name, "code": error.code})
            return None

    async def _prepared(self, target: Path) -> Deployment:
        """Cancelled, it ends hashing, and the opening of an encrypted model, at once: nobody waits for it any more."""
        opening: list[Holding] = []

        def prepare(still_wanted: Callable[..., None]) -> Deployment:
            def told(weights: Holding) -> None:
                opening.append(weights)
                still_wanted()

            return self._prepare(self._server.deployment, target, told, still_wanted)

        try:
            return await in_thread(prepare)
        except asyncio.CancelledError:
            for weights in opening:
                weights.abandon()
            raise

    def _target(self) -> Path | None:
        """The version to switch to."""
        try:
            target = (self._store.root / CURRENT).resolve(strict=True)
        except OSError:
            return None
        if target == self._served:
            self._refused = None
        return None if target in (self._served, self._refused) else target

    async def _switch(self, target: Path, deployment: Deployment) -> bool:
        """Whether it is served now, rather than the one before again. Raises ServeError."""
        before, served = self._server.deployment, self._served
        self._on_event("model.switching", {"version": target.name})
        try:
            await self._server.replace(deployment)
        except ServeError as error:
            self._refused = target
            self._on_event("model.switch_failed", {"version": target.name, "code": error.code})
            self._put_back(target, served, error)
            await asyncio.to_thread(_forget, deployment)
            await self._server.replace(before)
            return False
        await asyncio.to_thread(_forget, before)
        self._on_event("model.switched", {"version": target.name})
        return True

    def _put_back(self, target: Path, served: Path, error: ServeError) -> None:
        """So that the next start serves what served before."""
        try:
            with self._store.locked():
                if (self._store.root / CURRENT).resolve() == target:
                    self._store.switch(served.name)
                failed = Attempt(int(time.time()), "failed", target.name, error.code)
                self._store.write_state(msgspec.structs.replace(self._store.state(), attempt=failed))
            self._attempt = failed
        except (RluError, OSError) as problem:
            code = problem.code if isinstance(problem, RluError) else type(problem).__name__
            self._on_event("model.link_stays", {"version": target.name, "code": code})

    def _tell(self) -> None:
        found = self._last_attempt()
        if found is not None and found != self._attempt:
            self._attempt = found
            if found.result == "failed":
                self._on_event("model.update_failed", {"code": found.code})

    def _last_attempt(self) -> Attempt | None:
        try:
            return self._store.state().attempt
        except (RluError, OSError):
            return None


def _forget(deployment: Deployment) -> None:
    """What an encrypted first model that is not served any more has in memory."""
    weights = deployment.served[0].weights
    if weights is not None:
        weights.close()
