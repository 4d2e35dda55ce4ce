"""Decides who answers a request, and holds what all exchanges of a gateway share."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson

from rlu_server.adapters.client import Connection, Job
from rlu_server.adapters.engine import Engine
from rlu_server.adapters.events import Events
from rlu_server.adapters.exchange import Exchange
from rlu_server.adapters.http1 import Incoming
from rlu_server.adapters.ledger import Admissions
from rlu_server.adapters.measures import Measures, Readiness
from rlu_server.core import routes, salt
from rlu_server.core.apikeys import KeyRing, Principal, presented_key
from rlu_server.core.errors import GatewayError
from rlu_server.settings import Gateway

MAX_BODIES = 16
"""So many bodies of the largest size may be in memory at once; of ordinary ones that is thousands."""
_ALLOWED = {routes.MODELS: b"GET, HEAD", routes.ROOT: b"GET, HEAD"}


class OwnRoutes(Protocol):
    """Makes the job that answers one of our own routes (`asgi.Application`)."""

    def job(self, connection: Connection, incoming: Incoming, request_id: str) -> Job: ...


class Crew(Protocol):
    """Worker processes that hold clients' connections for this one (`workers.hub`)."""

    @property
    def connections(self) -> int: ...

    @property
    def exchanges(self) -> int: ...

    def stop_exchanges(self, session_id: str | None, error: GatewayError) -> None: ...

    def release_idle(self) -> None: ...


class Relay:
    """The gateway's desk: the allow list at work.

    Attributes:
        crew: set where other processes have the connections.
        held_elsewhere: memory that such processes hold for request content, by tenant; `connections_elsewhere` likewise.
        models: names clients may use, each with the engine's name for it.
        keys: replaced when the key file changes.
    """

    def __init__(
        self,
        settings: Gateway,
        engine: Engine,
        ledger: Admissions,
        own: OwnRoutes,
        keys: KeyRing,
        models: Mapping[str, str],
        salt_secret: bytes,
        measures: Measures,
        readiness: Readiness,
        events: Events,
        clock: Callable[[], float] = time.time,
        boot: str = "0",
    ) -> None:
        self.settings = settings
        self.engine = engine
        self.ledger = ledger
        self.keys = keys
        self.models = models
        self.measures = measures
        self.readiness = readiness
        self.events = events
        self.clock = clock
        self.connections: set[Connection] = set()
        self.exchanges: set[Exchange] = set()
        self.crew: Crew | None = None
        self.held_elsewhere: Counter[str] = Counter()
        self.connections_elsewhere = 0
        self._held: Counter[str] = Counter()
        self._own = own
        self._salt_secret = salt_secret
        self._salts: dict[str, str] = {}
        self._boot = boot
        self._requests = 0
        self.monotonic = asyncio.get_running_loop().time

    @property
    def draining(self) -> bool:
        return self.readiness.draining

    def next_request_id(self) -> str:
        self._requests += 1
        return f"req_{self._boot}_{self._requests:x}"

    def authenticate(self, authorization: bytes | str | None, x_api_key: bytes | str | None) -> Principal:
        """Who is asking. Raises GatewayError."""
        return self.keys.authenticate(presented_key(authorization, x_api_key), self.clock())

    def salt_for(self, principal: Principal, client_salt: str | None) -> str:
        tenant = principal.tenant_pseudonym
        if client_salt is not None:
            return salt.derive(self._salt_secret, tenant, client_salt)
        # Nearly every request asks for its tenant's plain salt, and tenants are few.
        known = self._salts.get(tenant)
        if known is None:
            known = self._salts[tenant] = salt.derive(self._salt_secret, tenant, None)
        return known

    def accept(self, connection: Connection, incoming: Incoming, request_id: str) -> Job:
        """Choose who answers, going by the head alone. Raises GatewayError."""
        path = incoming.path
        route = routes.RELAYED.get(path)
        if route is None:
            return self._accept_local(connection, incoming, request_id)
        if incoming.method != b"POST":
            raise GatewayError("method_not_allowed", "Use POST for this route.")
        principal = self.authenticate(
            incoming.headers.get(b"authorization"), incoming.headers.get(b"x-api-key")
        )
        if self.draining:
            raise GatewayError("draining")
        if not self.readiness.probed:
            raise GatewayError(self.readiness.missing()[0])
        if route.path in self.readiness.absent:
            raise GatewayError("route_not_found", "The model that is served here does not offer this route.")
        if not incoming.has_body():
            raise GatewayError("length_required")
        media_type = incoming.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if media_type != b"application/json":
            raise GatewayError("content_type")
        return Exchange(self, connection, incoming, route, principal)

    def refused(self, incoming: Incoming, error: GatewayError, request_id: str) -> None:
        self.measures.refusals[error.code] += 1
        self.measures.requests[(_label(incoming.path), error.status)] += 1
        self.events.emit("request_refused", error.code, request_id=request_id)

    def answered(self, path: bytes, status: int) -> None:
        self.measures.requests[(_label(path), status)] += 1

    def tick(self, now: float) -> None:
        """The sweep over everything that has a deadline. `now` is the loop's time."""
        for connection in list(self.connections):
            connection.tick(now)
        for exchange in list(self.exchanges):
            exchange.tick(now)
        self.engine.tick(now)
        self.ledger.tick()

    def hold(self, tenant: str, size: int) -> None:
        """Reserve memory for request content that has arrived; no tenant gets more than half. Raises GatewayError."""
        most = MAX_BODIES * self.settings.max_body_bytes
        elsewhere = self.held_elsewhere
        own = self._held[tenant] + size
        if self._held.total() + elsewhere.total() + size > most or own + elsewhere[tenant] > most // 2:
            raise GatewayError("overloaded")
        self._held[tenant] = own

    def let_go(self, tenant: str, size: int) -> None:
        self._held[tenant] -= size

    def stop_exchanges(self, session_id: str | None, error: GatewayError) -> None:
        """End the exchanges of a session, or all, from our side."""
        for exchange in list(self.exchanges):
            if session_id is None or exchange.session_id == session_id:
                exchange.stop(error)
        if self.crew is not None:
            self.crew.stop_exchanges(session_id, error)

    def release_idle(self) -> None:
        """End connections that wait for their next request."""
        for connection in list(self.connections):
            connection.stop_if_idle()
        if self.crew is not None:
            self.crew.release_idle()

    @property
    def connection_count(self) -> int:
        """Clients' connections, here and in the crew."""
        return len(self.connections) + (self.crew.connections if self.crew is not None else 0)

    @property
    def exchange_count(self) -> int:
        """Exchanges in flight, here and in the crew."""
        return len(self.exchanges) + (self.crew.exchanges if self.crew is not None else 0)

    def _accept_local(self, connection: Connection, incoming: Incoming, request_id: str) -> Job:
        path, method = incoming.path, incoming.method
        if routes.is_own(path):
            return self._own.job(connection, incoming, request_id)
        allowed = _ALLOWED.get(path)
        if allowed is None:
            raise GatewayError("route_not_found")
        if method not in (b"GET", b"HEAD"):
            raise GatewayError("method_not_allowed", f"Use {allowed.decode('ascii')} for this route.")
        if path == routes.ROOT:
            return Fixed(self, connection, incoming, {"name": "rlu"})
        self.authenticate(incoming.headers.get(b"authorization"), incoming.headers.get(b"x-api-key"))
        return Fixed(self, connection, incoming, _model_list(self.models))


class Fixed:
    """Answers with a small JSON document."""

    def __init__(
        self, relay: Relay, connection: Connection, incoming: Incoming, document: Mapping[str, Any]
    ) -> None:
        self._relay = relay
        self._connection = connection
        self._incoming = incoming
        self._content = orjson.dumps(document)

    def content_arrived(self) -> None:
        pass

    def complete(self) -> None:
        lines = [b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(self._content)]
        self._relay.answered(self._incoming.path, 200)
        content = b"" if self._incoming.method == b"HEAD" else self._content
        self._connection.start(200, lines, content, ended=True)

    def client_gone(self) -> None:
        pass

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass


def _model_list(models: Mapping[str, str]) -> dict[str, Any]:
    entries = [
        {"id": name, "object": "model", "created": 0, "owned_by": "rlu", "type": "model"} for name in models
    ]
    return {"object": "list", "data": entries, "has_more": False}


def _label(path: bytes) -> str:
    """A route's name for metrics: one of ours, never what a client made up."""
    if path in routes.RELAYED or path in _ALLOWED:
        return path.decode("ascii")
    return "own" if routes.is_own(path) else "other"
