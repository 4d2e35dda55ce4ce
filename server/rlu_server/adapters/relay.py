"""Decides who answers a request, and holds what all exchanges of a gateway share."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson

from rlu_server.adapters import model_list
from rlu_server.adapters.auth.authenticator import Authentication, Pending
from rlu_server.adapters.auth.held import Held
from rlu_server.adapters.client import Connection, Job
from rlu_server.adapters.engines import Engines
from rlu_server.adapters.events import Events
from rlu_server.adapters.exchange import Exchange
from rlu_server.adapters.gate import Turnstile
from rlu_server.adapters.http1 import Incoming
from rlu_server.adapters.ledger import Admissions
from rlu_server.adapters.measures import Measures, Readiness
from rlu_server.adapters.responses import NothingKept, Responses
from rlu_server.adapters.stored import Stored
from rlu_server.adapters.watch import Watch
from rlu_server.core import responses, routes, salt
from rlu_server.core.apikeys import KeyRing, Principal
from rlu_server.core.auth.credentials import Credentials
from rlu_server.core.coding import IDENTITY
from rlu_server.core.errors import GatewayError
from rlu_server.core.names import Names
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

    @property
    def held_bytes(self) -> int: ...

    def stop_exchanges(self, session_id: str | None, error: GatewayError) -> None: ...

    def release_idle(self) -> None: ...


class Relay:
    """The gateway's desk: the allow list at work.

    Attributes:
        engine: the engines of all models.
        models: names clients may use.
        auth: says who is asking.
        watch: told of every request that passed; replaced where it is to do more than count.
        responses: set where kept answers can be asked for.
        crew: set where other processes have the connections.
        held_elsewhere: memory that such processes hold for request content, by tenant; `connections_elsewhere` likewise.
    """

    def __init__(
        self,
        settings: Gateway,
        engine: Engines,
        ledger: Admissions,
        gate: Turnstile,
        own: OwnRoutes,
        auth: Authentication,
        models: Names,
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
        self.gate = gate
        self.auth = auth
        self.models = models
        self.measures = measures
        self.readiness = readiness
        self.events = events
        self.clock = clock
        self.connections: set[Connection] = set()
        self.exchanges: set[Exchange | Stored] = set()
        self.responses: Responses = NothingKept()
        self.watch = Watch(measures, events, asyncio.get_running_loop().time, clock)
        self.crew: Crew | None = None
        self.held_elsewhere: Counter[str] = Counter()
        self.connections_elsewhere = 0
        self._held: Counter[str] = Counter()
        self._own = own
        self._salt_secret = salt_secret
        self._salts: dict[str, str] = {}
        self._boot = boot
        self._requests = 0
        loop = asyncio.get_running_loop()
        self.monotonic = loop.time
        self.soon: Callable[[Callable[[], None]], object] = loop.call_soon

    @property
    def draining(self) -> bool:
        return self.readiness.draining

    def next_request_id(self) -> str:
        self._requests += 1
        return f"req_{self._boot}_{self._requests:x}"

    @property
    def keys(self) -> KeyRing:
        """The API keys of now."""
        return self.auth.keys

    def authenticate(self, connection: Connection, incoming: Incoming) -> Principal | Pending:
        """Who is asking. Raises GatewayError."""
        headers = incoming.headers
        return self.auth.authenticate(
            Credentials(headers.get(b"authorization"), headers.get(b"x-api-key"), connection.peer)
        )

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
        principal = self.authenticate(connection, incoming)
        if isinstance(principal, Pending):
            return Held(connection, principal, lambda who: self._relayed(connection, incoming, route, who))
        return self._relayed(connection, incoming, route, principal)

    def _relayed(
        self, connection: Connection, incoming: Incoming, route: routes.Route, principal: Principal
    ) -> Job:
        if self.draining:
            raise GatewayError("draining")
        self.engine.check_any(route.path)
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
        self.watch.answered(_label(incoming.path), error.status, request_id, error.code)

    def answered(self, path: bytes, status: int, request_id: str) -> None:
        """A request was answered, or its answer has begun."""
        self.measures.requests[(_label(path), status)] += 1
        if path not in routes.RELAYED:
            self.watch.answered(_label(path), status, request_id)

    def tick(self, now: float) -> None:
        """The sweep over everything that has a deadline. `now` is the loop's time."""
        for connection in list(self.connections):
            connection.tick(now)
        for exchange in list(self.exchanges):
            exchange.tick(now)
        self.engine.tick(now)
        self.ledger.tick()
        self.gate.tick(now)
        self.responses.tick()

    def hold(self, tenant: str, size: int, own_most: int | None = None) -> None:
        """Reserve memory for request content that has arrived; no tenant gets more than half. Raises GatewayError.

        Args:
            own_most: the tenant's own limit.
        """
        most = MAX_BODIES * self.settings.max_body_bytes
        elsewhere = self.held_elsewhere
        own = self._held[tenant] + size
        everywhere = own + elsewhere.get(tenant, 0) if elsewhere else own
        total = self._held.total() + (elsewhere.total() if elsewhere else 0)
        if total + size > most or everywhere > most // 2:
            raise GatewayError("overloaded")
        if own_most is not None and everywhere > own_most:
            if size > own_most:
                raise GatewayError(
                    "body_too_large", "The request body is larger than your tenant may have in memory."
                )
            raise GatewayError("limit_scratch")
        self._held[tenant] = own

    def let_go(self, tenant: str, size: int) -> None:
        self._held[tenant] -= size
        if not self._held[tenant]:
            del self._held[tenant]

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
    def held_bytes(self) -> int:
        """Memory for request content, here and in the crew."""
        return self._held.total() + (self.crew.held_bytes if self.crew is not None else 0)

    @property
    def exchange_count(self) -> int:
        """Exchanges in flight, here and in the crew."""
        return len(self.exchanges) + (self.crew.exchanges if self.crew is not None else 0)

    def _accept_local(self, connection: Connection, incoming: Incoming, request_id: str) -> Job:
        path, method = incoming.path, incoming.method
        if incoming.coding() != IDENTITY:
            raise GatewayError("content_encoding")
        if path.startswith(responses.PREFIX):
            return self._accept_stored(connection, incoming)
        if routes.is_own(path):
            return self._own.job(connection, incoming, request_id)
        one_model = path.startswith(routes.ONE_MODEL)
        allowed = _ALLOWED.get(routes.MODELS if one_model else path)
        if allowed is None:
            raise GatewayError("route_not_found")
        if method not in (b"GET", b"HEAD"):
            raise GatewayError("method_not_allowed", f"Use {allowed.decode('ascii')} for this route.")
        if path == routes.ROOT:
            return Fixed(self, connection, incoming, {"name": "rlu"})
        principal = self.authenticate(connection, incoming)
        listing = Fixed(self, connection, incoming, model_list.answer(path, incoming.headers, self.models))
        return Held(connection, principal, lambda _: listing) if isinstance(principal, Pending) else listing

    def _accept_stored(self, connection: Connection, incoming: Incoming) -> Job:
        operation, response_id = responses.operation(incoming.method, incoming.path)

        def begin(principal: Principal) -> Job:
            if self.draining:
                raise GatewayError("draining")
            return Stored(self, connection, incoming, principal, operation, response_id)

        principal = self.authenticate(connection, incoming)
        return Held(connection, principal, begin) if isinstance(principal, Pending) else begin(principal)


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
        self._relay.answered(self._incoming.path, 200, self._connection.request_id)
        content = b"" if self._incoming.method == b"HEAD" else self._content
        self._connection.start(200, lines, content, ended=True)

    def client_gone(self) -> None:
        pass

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass


def _label(path: bytes) -> str:
    """A route's name for metrics: one of ours, never what a client made up."""
    if path in routes.RELAYED or path in _ALLOWED:
        return path.decode("ascii")
    if path.startswith(responses.PREFIX):
        return responses.LABEL
    if path.startswith(routes.ONE_MODEL):
        return "/v1/models/{id}"
    return "own" if routes.is_own(path) else "other"
