"""The gateway process: put together from the settings, run until a signal, drained.

Start order: TLS key, listening socket, then whatever is there of attestor and engine. It listens before it is ready, so that health
checks and refusals have someone to answer them; nothing is relayed before the attestor was verified and the engine proven.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import ssl
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from rlu_attestation.channel import Channel
from rlu_attestation.errors import Malformed
from rlu_server.adapters.asgi import Application
from rlu_server.adapters.attestor_client import AttestorClient
from rlu_server.adapters.auth.entrance import Entrance
from rlu_server.adapters.client import Connection
from rlu_server.adapters.engines import Engines
from rlu_server.adapters.events import Events
from rlu_server.adapters.gate import Gate
from rlu_server.adapters.ledger import Ledger
from rlu_server.adapters.limits_file import WatchedLimits
from rlu_server.adapters.load import Loads
from rlu_server.adapters.measures import Measures, Readiness
from rlu_server.adapters.prober import Prober
from rlu_server.adapters.relay import Relay
from rlu_server.adapters.responses import ResponseStore
from rlu_server.adapters.sampler import Sampler
from rlu_server.adapters.span_export import SpanExport
from rlu_server.attestor.messages import Posture, TlsOrigin
from rlu_server.core.errors import GatewayError
from rlu_server.core.sessions import SessionTable
from rlu_server.endpoints.app import create_app
from rlu_server.endpoints.context import Measurement
from rlu_server.endpoints.metrics import CONTENT_TYPE, exposition
from rlu_server.gateway.context import GatewayContext
from rlu_server.gateway.listening import MetricsServer
from rlu_server.gateway.measurements import (
    attestor_measurements,
    certificate_measurements,
    engine_measurements,
    gate_measurements,
    gateway_measurements,
    key_measurements,
)
from rlu_server.gateway.parts import Places, Secrets, names, unhandled, watch
from rlu_server.settings import Settings
from rlu_server.settings_observability import OFF
from rlu_server.workers.counts import add as add_counts
from rlu_server.workers.desk import Parts
from rlu_server.workers.hub import Crew
from rlu_server.workers.own import Answering

SWEEP_S = 0.25
FILES_CHECK_S = 1.0
FLUSH_S = 1.0
CLOSING_S = 15.0
"""At least so long closes may take at a drain: an attestor that has just died is back by then. Less than the supervisor's patience."""
BACKLOG = 2048


class Gateway:
    """Everything of one gateway process; needs a running loop.

    Args:
        posture: what the lock measured in this process, and in the crew's.
        born: made here when not given.
        crew: the workers that have the clients' connections, when this process is their hub.
    """

    def __init__(
        self,
        settings: Settings,
        places: Places,
        posture: Posture,
        events: Events,
        born: Secrets | None = None,
        crew: Crew | None = None,
    ) -> None:
        born = born or Secrets.make(settings)
        self.settings = settings
        self.places = places
        self.events = events
        self.readiness = Readiness()
        self.tls = born.tls
        self.crew = crew
        spki = None if self.tls is None else self.tls.spki_sha256
        origin: TlsOrigin = "plaintext" if self.tls is None else self.tls.origin
        measures, clock, version = Measures(), time.time, metadata.version("rlu")
        self.attestor = AttestorClient(
            places.attestor_socket,
            version,
            Channel(origin, spki),
            posture,
            events,
            self._welcomed,
            self._attestor_lost,
            self._attestor_rotated,
        )
        table = SessionTable(settings.gateway.max_sessions, settings.gateway.receipts_per_session)
        limits = settings.gateway
        self.ledger = Ledger(
            self.attestor, table, measures, events, clock, limits.session_ttl_s, limits.session_idle_s
        )
        self.engine = Engines(places.engines, self.readiness, measures, events)
        self.loads = Loads(self.engine.serving)
        self.gate = Gate(
            settings.admission,
            dict.fromkeys(model for _, model in settings.fleet()),
            measures,
            engine_priorities=settings.engine_priorities,
            look=self.loads.look,
        )
        self.loads.told = self.gate.observe
        self.limits = WatchedLimits(settings.limits_file, self.gate.replace_limits, events)
        self.application = Application("http" if self.tls is None else "https", events)
        self.entrance = Entrance(
            settings.auth, places.keys, self.tls, events, self._certificates_withdrawn, clock
        )
        self.relay = Relay(
            limits,
            self.engine,
            self.ledger,
            self.gate,
            self.application,
            self.entrance.authenticator,
            names(settings),
            born.salt,
            measures,
            self.readiness,
            events,
            clock,
            secrets.token_hex(4),
        )
        self.responses = ResponseStore(settings.responses, self.ledger, clock)
        self.responses.count = self.gate.count
        self.relay.responses = self.responses
        self.relay.crew = crew
        self.ledger.wipe = self.responses.close
        context = GatewayContext(
            self.relay,
            self.ledger,
            self.attestor,
            version,
            origin,
            spki,
            settings.log,
            self.entrance.authenticator,
            settings.auth.administrators,
            self.gate.count,
        )
        self.app = create_app(context, version)
        self.application.serve(self.app, self.relay.answered)
        measures.tenants = settings.metrics.tenants
        self.sampler = Sampler(self.attestor, self.engine.replicas)
        self.metrics = self._metrics_listener()
        self.spans = self._span_export()
        self.relay.watch = watch(
            settings,
            measures,
            events,
            clock,
            lambda spans: None if self.spans is None else self.spans.add(spans),
        )
        self.probers = [Prober(self.engine, replica, events) for replica in self.engine.replicas]
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen, and keep everything going.

        Raises:
            OSError: the address cannot be listened on, or the certificate not be written.
        """
        asyncio.get_running_loop().set_exception_handler(unhandled(self.events))
        self.entrance.load()
        self.limits.first()
        if self.tls is not None:
            _publish(self.places.certificate, self.tls.certificate_pem)
        if self.metrics is not None:
            await self.metrics.start()
            self.events.emit("metrics_listening", at=self.metrics.name)
        if self.crew is None:
            self._server = await self._listen()
        else:
            self.crew.begin(self._parts())
        loops = (
            self.attestor.run(),
            *(prober.run() for prober in self.probers),
            self._sweep(),
            self._watch_files(),
            *(() if self.metrics is None else (self.sampler.run(),)),
            *(() if self.spans is None else (self.spans.run(),)),
        )
        self._tasks = [asyncio.create_task(loop) for loop in loops]
        if self._server is not None:
            self.events.emit("gateway_listening", port=self.port)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            lambda: Connection(self.relay),
            self.settings.gateway.host,
            self.settings.gateway.port,
            ssl=None if self.tls is None else self.tls.context,
            ssl_handshake_timeout=None if self.tls is None else self.settings.gateway.header_timeout_s,
            backlog=BACKLOG,
        )

    def _parts(self) -> Parts:
        """What the crew's desks work with."""
        return Parts(
            self.ledger,
            self.gate,
            self.responses,
            lambda send: Answering(self.app, self.application.scheme, send, self.events),
            lambda counts: add_counts(self.relay.measures, counts),
            self.entrance.authenticator.note,
            self.relay.watch.traced,
        )

    def _metrics_listener(self) -> MetricsServer | None:
        metrics = self.settings.metrics
        if metrics.listen == OFF:
            return None
        where = metrics.address or self.places.metrics
        return MetricsServer(where, lambda: exposition(self.measurements()), CONTENT_TYPE)

    def measurements(self) -> list[Measurement]:
        """The metrics of this moment."""
        attestor, now = self.attestor, self.relay.clock()
        found = gateway_measurements(self.relay, self.ledger)
        found += gate_measurements(self.gate, self.relay.measures)
        found += engine_measurements(self.readiness.engines, self.relay.measures)
        if self.tls is not None:
            found += certificate_measurements(self.tls.expires, now)
        condition = self.sampler.condition if attestor.ready else None
        found += attestor_measurements(
            attestor.ready, condition, now, exported=bool(self.settings.log.exporter)
        )
        if attestor.key_created is not None:
            found += key_measurements(attestor.key_created, self.settings.attestation.rotate_days, now)
        return found

    def _span_export(self) -> SpanExport | None:
        settings = self.settings
        if not settings.tracing.sample:
            return None
        service = {
            "service.name": "rlu",
            "service.version": metadata.version("rlu"),
            "deployment.site": settings.deployment.site,
        }
        ca = settings.auth.relay_ca_file
        return SpanExport(
            settings.auth.relay,
            service,
            self.relay.measures,
            self.events,
            lambda: ssl.create_default_context(cafile=ca),
        )

    async def failed(self) -> None:
        """Returns when one of the loops that must not end has ended; raises its error."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def drain(self) -> None:
        """Take nothing new, let what runs finish for a while, have every session's close signed."""
        self.events.emit("gateway_draining", exchanges=self.relay.exchange_count)
        self.readiness.draining = True
        self._tell_crew()
        deadline = time.monotonic() + self.settings.gateway.drain_timeout_s
        self.relay.release_idle()
        while self.relay.exchange_count and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        self.relay.stop_exchanges(None, GatewayError("draining"))
        grace = max(deadline - time.monotonic(), CLOSING_S)
        closing = asyncio.ensure_future(self.ledger.drain())
        _, unfinished = await asyncio.wait((closing,), timeout=grace)
        for task in unfinished:
            task.cancel()
            self.events.emit("receipt_lost", "drain_timeout")

    async def flush(self) -> None:
        """Let answers that are complete leave, for a moment."""
        deadline = time.monotonic() + FLUSH_S
        self.relay.release_idle()
        while self.relay.connection_count and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        if self.metrics is not None:
            await self.metrics.close()
        if self.crew is not None:
            await self.crew.close()
        for connection in list(self.relay.connections):
            connection.abort()
        self.responses.clear()
        self.loads.close()
        self.engine.close()
        self.application.close()
        await self.entrance.close()
        self.events.emit("gateway_stopped")

    def _welcomed(self) -> None:
        self.readiness.attestor = True
        self._tell_crew()
        self.ledger.welcomed()

    def _attestor_rotated(self) -> None:
        self.ledger.rotated()

    def _attestor_lost(self) -> None:
        self.readiness.attestor = False
        self._tell_crew()
        self.ledger.lost()

    def _tell_crew(self) -> None:
        if self.crew is not None:
            self.crew.tell(attestor=self.readiness.attestor, draining=self.readiness.draining)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        ready = False
        while True:
            await asyncio.sleep(SWEEP_S)
            self.relay.tick(loop.time())
            if self.crew is not None:
                self.crew.tick(loop.time())
            if ready != (not self.readiness.missing()):
                ready = not ready
                self.events.emit("gateway_ready" if ready else "gateway_not_ready")

    async def _watch_files(self) -> None:
        while True:
            await asyncio.sleep(FILES_CHECK_S)
            self.entrance.load()
            self.limits.look()
            self._renew_certificate()

    def _renew_certificate(self) -> None:
        try:
            if self.tls is None or not self.tls.renew():
                return
        except Malformed as error:
            self.events.emit("certificate_refused", error.code)
            return
        self.events.emit("certificate_renewed")
        try:
            _publish(self.places.certificate, self.tls.certificate_pem)
        except OSError as error:  # the file has this one already, as the next
            self.events.emit("certificate_unwritten", errno=error.errno or 0)

    def _certificates_withdrawn(self) -> None:
        for connection in list(self.relay.connections):
            connection.forget_certificate()


async def serve(settings: Settings, posture: Posture, events: Events) -> None:
    """Run the gateway until SIGTERM or SIGINT, then drain it."""
    await until_told(lambda: Gateway(settings, Places.of(settings), posture, events))


async def until_told(make: Callable[[], Gateway]) -> None:
    """Run a gateway until SIGTERM or SIGINT, then drain it."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gateway = make()
    await gateway.start()
    waiting = [asyncio.create_task(stop.wait()), asyncio.create_task(gateway.failed())]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    try:
        if waiting[0] in done:
            await gateway.drain()
            await gateway.flush()
        else:
            waiting[1].result()
    finally:
        for task in waiting:
            task.cancel()
        await gateway.stop()


def _publish(path: Path, pem: bytes) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
    os.replace(new, path)
