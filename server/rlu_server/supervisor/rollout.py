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
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from rlu_attestation.errors import RluError
from rlu_server.supervisor.errors import ServeError
from rlu_server.supervisor.holding import Holding
from rlu_server.supervisor.prepare import Opening
from rlu_server.supervisor.server import Deployment, Server
from rlu_server.supervisor.streams import Event
from rlu_server.updates.store import CURRENT, Attempt, Store, serving

CHECK_S = 1.0
Prepare = Callable[[Deployment, Path, Opening], Deployment]
"""Given the deployment that serves, the directory of another version, and whom to tell of an encrypted model before it is opened. Blocks.
Raises ServeError."""


def store_of(model_path: str) -> Store | None:
    """The store that a model's path points into, if it does."""
    path = Path(model_path).expanduser()
    return Store(path.parent) if path.name == CURRENT and path.is_symlink() else None


def served_by(server: Server) -> Path:
    """The directory of the first model, without links."""
    return Path(server.deployment.settings.model.path)


async def hold(server: Server) -> None:
    """For an engine in a container of its own, which is replaced from outside: its version is not removed. Until cancelled."""
    with serving(served_by(server)):
        await asyncio.Event().wait()


class Rollout:
    """Runs beside a server that has started.

    Args:
        on_event: told what happens: versions and codes.
    """

    def __init__(self, server: Server, store: Store, prepare: Prepare, on_event: Event) -> None:
        self._server = server
        self._store = store
        self._prepare = prepare
        self._on_event = on_event
        self._refused: Path | None = None
        self._attempt = self._last_attempt()

    async def run(self) -> None:
        """Until cancelled. Raises ServeError: nothing serves any more."""
        while True:
            with serving(self._served):
                await self._switch(*await self._another())

    @property
    def _served(self) -> Path:
        return served_by(self._server)

    async def _another(self) -> tuple[Path, Deployment]:
        """Until there is one to switch to."""
        while True:
            await asyncio.sleep(CHECK_S)
            self._tell()
            target = self._target()
            if target is None:
                continue
            try:
                return target, await self._prepared(target)
            except ServeError as error:
                self._refused = target
                self._on_event("model.refused", {"version": target.name, "code": error.code})

    async def _prepared(self, target: Path) -> Deployment:
        """Cancelled, it ends the opening of an encrypted model at once: nobody waits for it any more."""
        opening: list[Holding] = []
        gone = threading.Event()

        def told(weights: Holding) -> None:
            opening.append(weights)
            if gone.is_set():
                weights.abandon()

        try:
            return await asyncio.to_thread(self._prepare, self._server.deployment, target, told)
        except asyncio.CancelledError:
            gone.set()
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

    async def _switch(self, target: Path, deployment: Deployment) -> None:
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
            return
        await asyncio.to_thread(_forget, before)
        self._on_event("model.switched", {"version": target.name})

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
