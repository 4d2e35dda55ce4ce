"""Asks the engine two things before and while we serve: are you alive, and do you honour cache salts?

An engine version whose API model lacks `cache_salt` ignores it silently, and tenants would share a cache. So an illegal salt is sent
to every route that takes one, and each must refuse it with 400. A route the model does not offer may say so instead (404, 405, 501);
an answer of 200 means the salt was ignored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson

from rlu_server.adapters.engine import Engine, ResponseHead
from rlu_server.adapters.events import Events
from rlu_server.adapters.measures import Readiness
from rlu_server.adapters.waiting import within
from rlu_server.core.errors import GatewayError
from rlu_server.core.routes import RELAYED, Api, Route

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
    """Keeps `readiness.engine` and `readiness.probed` true to the facts."""

    def __init__(
        self, engine: Engine, model: str, readiness: Readiness, events: Events, period_s: float = PERIOD_S
    ) -> None:
        self._engine = engine
        self._model = model
        self._readiness = readiness
        self._events = events
        self._period_s = period_s

    async def run(self) -> None:
        """Check once a period until cancelled. An engine that was away is proven again: it may be another version."""
        while True:
            alive = await self._status_of(self._engine_get("/health")) == 200
            if alive and not self._readiness.engine:
                self._readiness.probed = await self.honours_salts()
                self._events.emit("engine_ready" if self._readiness.probed else "engine_salt_unproven")
            elif not alive and self._readiness.engine:
                self._readiness.probed = False
                self._events.emit("engine_lost")
            self._readiness.engine = alive
            await asyncio.sleep(self._period_s)

    async def honours_salts(self) -> bool:
        """Does every salted route refuse an illegal salt? Also learns which ones this model does not have."""
        absent = set()
        for route in RELAYED.values():
            if route.salted:
                status = await self._status_of(self._engine_post(route))
                if status in NOT_OFFERED:
                    absent.add(route.path)
                elif status != 400:
                    return False
        self._readiness.absent = frozenset(absent)
        return True

    def _engine_get(self, path: str) -> _Status:
        status = _Status()
        status.call = self._engine.get(path, status)
        return status

    def _engine_post(self, route: Route) -> _Status:
        status = _Status()
        document = {"model": self._model, **_BODIES[route.api], "cache_salt": ILLEGAL_SALT}
        status.call = self._engine.post(route.path, orjson.dumps(document), status)
        return status

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
