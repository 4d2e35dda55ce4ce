"""Asks each engine two things before and while we serve: are you alive, and do you honour cache salts?

An engine version whose API model lacks `cache_salt` ignores it silently, and tenants would share a cache. So an illegal salt is sent
to every route that takes one, and each must refuse it with 400. A route the model does not offer may say so instead (404, 405, 501);
an answer of 200 means the salt was ignored.

It looks once a period, and at once when it is woken: because a connection ended, or because a request is there and so is another start of
the engine. Everything that one look asks goes to one start of the engine, and what comes out is about that one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson

from rlu_server.adapters.engine import Generation, ResponseHead
from rlu_server.adapters.engines import Engines, Replica
from rlu_server.adapters.events import Events
from rlu_server.core.errors import GatewayError
from rlu_server.core.routes import RELAYED, Api, Route
from rlu_server.waiting import within

ILLEGAL_SALT = "a/b"
NOT_OFFERED = frozenset({404, 405, 501})
PERIOD_S = 1.0
TIMEOUT_S = 30.0
_WORD = "x"
_BODIES: dict[Api, Mapping[str, Any]] = {
    Api.CHAT: {"messages": [{"role": "user", "content": _WORD}], "max_tokens": 1},
    Api.COMPLETIONS: {"prompt": _WORD, "max_tokens": 1},
    Api.RESPONSES: {"input": _WORD, "max_output_tokens": 1, "store": False},
    Api.EMBEDDINGS: {"input": _WORD},
    Api.MESSAGES: {"messages": [{"role": "user", "content": _WORD}], "max_tokens": 1},
}


class Prober:
    """Keeps the standing of one engine true to the facts."""

    def __init__(
        self, engines: Engines, replica: Replica, events: Events, period_s: float = PERIOD_S
    ) -> None:
        self._engines = engines
        self._replica = replica
        self._events = events
        self._period_s = period_s
        self._woken = asyncio.Event()
        self._unfit: Generation | None = None
        replica.wake = self._woken.set

    async def run(self) -> None:
        """Look until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._woken.clear()
            await self.look()
            timer = loop.call_later(self._period_s, self._woken.set)
            try:
                await self._woken.wait()
            finally:
                timer.cancel()

    async def look(self) -> None:
        """One look at the engine that is there now."""
        replica, standing = self._replica, self._replica.standing
        generation = replica.engine.generation()
        alive = generation is not None and await self._get("/health", generation) == 200
        replica.seen = generation
        if generation is None or not alive:
            if standing.alive:
                self._events.emit("engine_lost", engine=standing.name)
            self._engines.unproven(replica, alive=False)
        elif not standing.probed or replica.proven != generation:
            await self._prove(generation)

    async def _prove(self, generation: Generation) -> None:
        replica, name = self._replica, self._replica.standing.name
        replica.standing.proving = True  # whoever comes from here on can wait for what comes out
        absent = await self.honours_salts(generation)
        if replica.engine.generation() != generation:
            self._engines.unproven(replica, alive=False)
            self._woken.set()
        elif absent is None:
            if self._unfit != generation:
                self._events.emit("engine_salt_unproven", engine=name)
            self._unfit = generation
            self._engines.unproven(replica, alive=True)
        else:
            self._engines.proven(replica, generation, absent)
            self._events.emit("engine_ready", engine=name)

    async def honours_salts(self, generation: Generation) -> frozenset[str] | None:
        """The routes that this model does not have, if every other one that takes salts refuses an illegal one; else None."""
        absent = set()
        for route in RELAYED.values():
            if route.salted:
                status = await self._post(route, generation)
                if status in NOT_OFFERED:
                    absent.add(route.path)
                elif status != 400:
                    return None
        return frozenset(absent)

    async def _get(self, path: str, generation: Generation) -> int:
        status = _Status()
        status.call = self._replica.engine.get(path, status, generation)
        return await self._status_of(status)

    async def _post(self, route: Route, generation: Generation) -> int:
        status = _Status()
        document = {
            "model": self._replica.standing.model,
            **_BODIES[route.api],
            "cache_salt": ILLEGAL_SALT,
        }
        status.call = self._replica.engine.post(route.path, orjson.dumps(document), status, generation)
        return await self._status_of(status)

    async def _status_of(self, asked: _Status) -> int:
        status = await within(asked.future, TIMEOUT_S)
        if status is None and asked.call is not None:
            asked.call.cancel()
        return status or 0


class _Status:
    """A handler that keeps only the status; 0 when there was no answer."""

    def __init__(self) -> None:
        self.future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.call: Any = None
        self._status = 0

    def engine_read(self, head: ResponseHead | None, content: bytes, ended: bool) -> None:
        if head is not None:
            self._status = head.status
        if ended and not self.future.done():
            self.future.set_result(self._status)

    def engine_failed(self, error: GatewayError) -> None:
        if not self.future.done():
            self.future.set_result(0)
