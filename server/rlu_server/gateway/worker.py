"""A worker process: everything between a client's connection and an engine's, with the hub's ledger, gate and store (`workers`)."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import assert_never

from rlu_attestation.errors import Malformed
from rlu_server.adapters.asgi import Application
from rlu_server.adapters.auth.entrance import Entrance
from rlu_server.adapters.client import Connection
from rlu_server.adapters.engines import Engines
from rlu_server.adapters.events import Events
from rlu_server.adapters.limits_file import WatchedLimits
from rlu_server.adapters.measures import Measures, Readiness
from rlu_server.adapters.prober import Prober
from rlu_server.adapters.relay import MAX_BODIES, Relay
from rlu_server.attestor.messages import Posture
from rlu_server.core.tracing import Span
from rlu_server.gateway.parts import Places, Secrets, names, unhandled, watch
from rlu_server.gateway.process import BACKLOG, FILES_CHECK_S, SWEEP_S
from rlu_server.settings import Settings
from rlu_server.workers import frames
from rlu_server.workers.counts import Counted
from rlu_server.workers.link import Link
from rlu_server.workers.memory import Moved
from rlu_server.workers.own import Asking
from rlu_server.workers.remote import RemoteGate, RemoteLedger, RemoteResponses

MAX_SPANS = 1024
"""Between two reports to the hub."""


class Worker:
    """Everything of one worker; needs a running loop."""

    def __init__(self, settings: Settings, places: Places, born: Secrets, events: Events) -> None:
        self.settings = settings
        self.events = events
        self.readiness = Readiness()
        self.measures = Measures()
        self._tls = born.tls
        self._link: Link[frames.ToWorker] = Link(frames.TO_WORKER, self._receive, self._lost)
        self._send = self._link.send
        self.ledger = RemoteLedger(self._send)
        self.gate = RemoteGate(self._send)
        self.responses = RemoteResponses(self._send, self._link.send_now)
        self.limits = WatchedLimits(settings.limits_file, self.gate.replace_limits, events)
        self.entrance = Entrance(
            settings.auth, places.keys, born.tls, events, self._certificates_withdrawn, time.time
        )
        self.engine = Engines(places.engines, self.readiness, self.measures, events)
        self.application = Application("http" if born.tls is None else "https", events)
        self._asking = Asking(self._send)
        self.relay = _Relay(
            settings.gateway,
            self.engine,
            self.ledger,
            self.gate,
            self.application,
            self.entrance.authenticator,
            names(settings),
            born.salt,
            self.measures,
            self.readiness,
            events,
            time.time,
            secrets.token_hex(4),
        )
        self.relay.responses = self.responses
        self.relay.share(self._report)
        self._spans: list[Span] = []
        self.relay.watch = watch(settings, self.measures, events, time.time, self._traced)
        self.application.serve(self._asking, self.relay.answered)
        self.probers = [Prober(self.engine, replica, events) for replica in self.engine.replicas]
        self._counted = Counted(self.measures)
        loop = asyncio.get_running_loop()
        self._let_in: asyncio.Future[None] = loop.create_future()
        self._over: asyncio.Future[None] = loop.create_future()

    async def run(self, end: socket.socket, listeners: Sequence[socket.socket], posture: Posture) -> None:
        """Serve until the hub is gone.

        Raises:
            Malformed: the limits file cannot be used.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(unhandled(self.events))
        self.entrance.load()
        self.limits.first()
        await self._link.connect(end)
        self._send(frames.Hello(posture))
        loops = (*(prober.run() for prober in self.probers), self._sweep(), self._watch_files())
        tasks = [asyncio.create_task(one) for one in loops]
        servers: list[asyncio.Server] = []
        try:
            await asyncio.wait((self._let_in, self._over), return_when=asyncio.FIRST_COMPLETED)
            self._renew_certificate()  # it may have been forked long after the key was born
            for listener in listeners:
                servers.append(await self._listen(listener))
            done, _ = await asyncio.wait((self._over, *tasks), return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()  # of a loop that must not end: its error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for server in servers:
                server.close()
            self._link.close()
            for connection in list(self.relay.connections):
                connection.abort()
            self.engine.close()
            self.application.close()
            await self.entrance.close()

    async def _listen(self, listener: socket.socket) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            lambda: Connection(self.relay),
            sock=listener,
            ssl=None if self._tls is None else self._tls.context,
            ssl_handshake_timeout=None if self._tls is None else self.settings.gateway.header_timeout_s,
            backlog=BACKLOG,
        )

    # --- the hub ---

    def _receive(self, message: frames.ToWorker) -> None:
        match message:
            case frames.LetIn() | frames.TurnedAway():
                self.gate.told(message)
            case frames.Accepted() | frames.Admitted() | frames.Refused():
                self.ledger.told(message)
            case frames.Begun() | frames.Found():
                self.responses.told(message)
            case frames.OwnStart() | frames.OwnBody() | frames.OwnFailed():
                self._asking.answered(message)
            case frames.State():
                self.readiness.attestor, self.readiness.draining = message.attestor, message.draining
                if not self._let_in.done():
                    self._let_in.set_result(None)
            case frames.Stop():
                self.relay.stop_exchanges(message.session, message.error.error())
            case frames.ReleaseIdle():
                self.relay.release_idle()
                self._report()
            case frames.Elsewhere():
                self.relay.connections_elsewhere = message.connections
                self.relay.held_elsewhere = Counter(message.held)
            case _:
                assert_never(message)

    def _lost(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _report(self) -> None:
        relay = self.relay
        spans, self._spans = self._spans, []
        self._send(frames.Report(len(relay.connections), self._counted.since(), relay.report(), spans))

    def _traced(self, spans: Sequence[Span]) -> None:
        if len(self._spans) + len(spans) > MAX_SPANS:
            self.measures.spans_dropped += len(spans)
        else:
            self._spans += spans

    # --- time ---

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            self.relay.tick(loop.time())
            self._report()

    async def _watch_files(self) -> None:
        while True:
            await asyncio.sleep(FILES_CHECK_S)
            self.entrance.load()
            self.limits.look()
            self._renew_certificate()

    def _renew_certificate(self) -> None:
        with contextlib.suppress(Malformed):  # the hub tells
            if self._tls is not None:
                self._tls.renew()

    def _certificates_withdrawn(self) -> None:
        for connection in list(self.relay.connections):
            connection.forget_certificate()


class _Relay(Relay):
    """The relay of a worker: memory for request content is limited for all workers together, so it is reported when it has moved."""

    _moved: Moved
    _report: Callable[[], None]

    def share(self, report: Callable[[], None]) -> None:
        """Report from now on."""
        self._moved = Moved(MAX_BODIES * self.settings.max_body_bytes)
        self._report = report

    def hold(self, tenant: str, size: int, own_most: int | None = None) -> None:
        super().hold(tenant, size, own_most)
        self._look(tenant)

    def let_go(self, tenant: str, size: int) -> None:
        super().let_go(tenant, size)
        self._look(tenant)

    def report(self) -> dict[str, int]:
        """What is held, by tenant. It counts as reported."""
        held = {tenant: size for tenant, size in self._held.items() if size}
        self._moved.reported(held)
        return held

    def _look(self, tenant: str) -> None:
        if self._moved.far(self._held, tenant):
            self._report()
