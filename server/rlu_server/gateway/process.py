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
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.statements import Channel
from rlu_server.adapters import tls
from rlu_server.adapters.asgi import Application
from rlu_server.adapters.attestor_client import AttestorClient
from rlu_server.adapters.client import Connection
from rlu_server.adapters.engine import Engine
from rlu_server.adapters.events import Events
from rlu_server.adapters.ledger import Ledger
from rlu_server.adapters.measures import Measures, Readiness
from rlu_server.adapters.prober import Prober
from rlu_server.adapters.relay import Relay
from rlu_server.attestor.messages import Posture, TlsOrigin
from rlu_server.core import salt
from rlu_server.core.apikeys import MAX_FILE, KeyRing, parse_file
from rlu_server.core.errors import GatewayError
from rlu_server.core.sessions import SessionTable
from rlu_server.endpoints.app import create_app
from rlu_server.gateway.context import GatewayContext
from rlu_server.settings import Settings

SWEEP_S = 0.25
KEYS_CHECK_S = 1.0
FLUSH_S = 1.0
BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Places:
    """Where the gateway finds and puts things."""

    attestor_socket: Path
    engine_socket: Path
    certificate: Path
    keys: Path

    @classmethod
    def of(cls, settings: Settings) -> Places:
        """Raises RluError, when there is no runtime directory."""
        if settings.runtime_dir is None:
            raise RluError("runtime_dir", "runtime_dir is not set; `rlu serve` makes one and passes it on")
        runtime = settings.runtime_dir
        return cls(
            runtime / "attestor" / "attestor.sock",
            runtime / "engine" / "engine.sock",
            runtime / "gateway" / "gateway.crt",
            settings.api_keys_file,
        )


class Gateway:
    """Everything of one gateway process; needs a running loop.

    Args:
        posture: what the lock measured in this process.
    """

    def __init__(self, settings: Settings, places: Places, posture: Posture, events: Events) -> None:
        self.settings = settings
        self.places = places
        self.events = events
        self.readiness = Readiness()
        self.tls = None if settings.gateway.insecure_plain_http else tls.make(settings.gateway.hostnames)
        spki = None if self.tls is None else self.tls.spki_sha256
        origin: TlsOrigin = "plaintext" if self.tls is None else "gateway-memory"
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
        self.engine = Engine(places.engine_socket)
        model = model_name(settings)
        self.application = Application("http" if self.tls is None else "https", events)
        self.relay = Relay(
            limits,
            self.engine,
            self.ledger,
            self.application,
            KeyRing(bytes(32), ()),
            {model: model},
            secrets.token_bytes(salt.SECRET_SIZE),
            measures,
            self.readiness,
            events,
            clock,
            secrets.token_hex(4),
        )
        context = GatewayContext(
            self.relay,
            self.ledger,
            self.attestor,
            version,
            origin,
            spki,
            settings.log,
            settings.attestation.rotate_days,
        )
        self.application.serve(create_app(context, version), self.relay.answered)
        self.prober = Prober(self.engine, model, self.readiness, events)
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._keys_seen: tuple[int, int, int] | None = None

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
        asyncio.get_running_loop().set_exception_handler(self._unhandled)
        self._load_keys()
        if self.tls is not None:
            _publish(self.places.certificate, self.tls.certificate_pem)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self.relay),
            self.settings.gateway.host,
            self.settings.gateway.port,
            ssl=None if self.tls is None else self.tls.context,
            ssl_handshake_timeout=None if self.tls is None else self.settings.gateway.header_timeout_s,
            backlog=BACKLOG,
        )
        loops = (self.attestor.run(), self.prober.run(), self._sweep(), self._watch_keys())
        self._tasks = [asyncio.create_task(loop) for loop in loops]
        self.events.emit("gateway_listening", port=self.port)

    async def failed(self) -> None:
        """Returns when one of the loops that must not end has ended; raises its error."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def drain(self) -> None:
        """Take nothing new, let what runs finish for a while, have every session's close signed."""
        self.events.emit("gateway_draining", exchanges=self.relay.exchange_count)
        self.readiness.draining = True
        deadline = time.monotonic() + self.settings.gateway.drain_timeout_s
        self.relay.release_idle()
        while self.relay.exchange_count and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        self.relay.stop_exchanges(None, GatewayError("draining"))
        grace = max(deadline - time.monotonic(), min(5.0, self.settings.gateway.drain_timeout_s))
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
        for connection in list(self.relay.connections):
            connection.abort()
        self.engine.close()
        self.application.close()
        self.events.emit("gateway_stopped")

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What the loop would log with its text: here only by class and place."""
        error = context.get("exception")
        if isinstance(error, (ssl.SSLError, ConnectionError, TimeoutError, asyncio.TimeoutError)):
            self.events.emit("connection_failed", type(error).__name__)
        elif error is not None:
            self.events.internal(error)
        else:
            self.events.emit("internal_error", "loop")

    def _welcomed(self) -> None:
        self.readiness.attestor = True
        self.ledger.welcomed()

    def _attestor_rotated(self) -> None:
        self.ledger.rotated()

    def _attestor_lost(self) -> None:
        self.readiness.attestor = False
        self.ledger.lost()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        ready = False
        while True:
            await asyncio.sleep(SWEEP_S)
            self.relay.tick(loop.time())
            if ready != (not self.readiness.missing()):
                ready = not ready
                self.events.emit("gateway_ready" if ready else "gateway_not_ready")

    async def _watch_keys(self) -> None:
        while True:
            await asyncio.sleep(KEYS_CHECK_S)
            self._load_keys()

    def _load_keys(self) -> None:
        """Take over the key file if it changed. One that cannot be read leaves the keys as they were."""
        try:
            found = self.places.keys.stat()
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen == self._keys_seen:
                return
            self._keys_seen = seen
            with self.places.keys.open("rb") as file:
                ring = KeyRing.of(parse_file(file.read(MAX_FILE + 1)))
        except FileNotFoundError:
            if self._keys_seen is not None or len(self.relay.keys):
                self._keys_seen = None
                self.relay.keys = KeyRing(bytes(32), ())
                self.events.emit("keys_loaded", keys=0)
        except OSError as error:
            self.events.emit("keys_refused", "unreadable", errno=error.errno or 0)
        except Malformed as error:
            self.events.emit("keys_refused", error.code)
        else:
            self.relay.keys = ring
            self.events.emit("keys_loaded", keys=len(ring))


async def serve(settings: Settings, posture: Posture, events: Events) -> None:
    """Run the gateway until SIGTERM or SIGINT, then drain it."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gateway = Gateway(settings, Places.of(settings), posture, events)
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


def model_name(settings: Settings) -> str:
    """The name clients use: the configured one, else that of the model's directory."""
    return settings.model.name or Path(settings.model.path).name


def _publish(path: Path, pem: bytes) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
