"""What a gateway is put together from, by its settings: where things are, what only its own processes know, names, and who is told."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlu_attestation.errors import RluError
from rlu_server.adapters import tls
from rlu_server.adapters.engines import Served
from rlu_server.adapters.events import Events
from rlu_server.adapters.measures import Measures
from rlu_server.adapters.provisioned_tls import ProvisionedTls
from rlu_server.adapters.watch import Watch
from rlu_server.core import salt
from rlu_server.core.names import AliasRefused, Names
from rlu_server.core.tracing import Span
from rlu_server.settings import Gateway as GatewaySettings
from rlu_server.settings import Settings


@dataclass(frozen=True, slots=True)
class Places:
    """Where the gateway finds and puts things."""

    attestor_socket: Path
    engines: tuple[Served, ...]
    certificate: Path
    keys: Path
    metrics: Path
    """The socket of the metrics, unless they have a port."""

    @classmethod
    def of(cls, settings: Settings) -> Places:
        """Raises RluError, when there is no runtime directory."""
        if settings.runtime_dir is None:
            raise RluError("runtime_dir", "runtime_dir is not set; `rlu serve` makes one and passes it on")
        runtime = settings.runtime_dir
        return cls(
            runtime / "attestor" / "attestor.sock",
            tuple(Served(name, model, runtime / name / "engine.sock") for name, model in settings.fleet()),
            runtime / "gateway" / "gateway.crt",
            settings.api_keys_file,
            runtime / "gateway" / "metrics.sock",
        )

    @property
    def engine_socket(self) -> Path:
        """Of the first engine, which there always is."""
        return self.engines[0].socket


@dataclass(frozen=True, slots=True)
class Secrets:
    """What all processes of one gateway have in common and nobody else has; born in memory, shared by forking."""

    tls: tls.ServerTls | None
    salt: bytes

    @classmethod
    def make(cls, settings: Settings) -> Secrets:
        """Raises Malformed: a TLS key that was provided cannot be used."""
        return cls(_tls(settings.gateway), secrets.token_bytes(salt.SECRET_SIZE))


def _tls(settings: GatewaySettings) -> tls.ServerTls | None:
    if settings.insecure_plain_http:
        return None
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        return tls.MemoryTls(settings.hostnames)
    return ProvisionedTls(settings.tls_certificate_file, settings.tls_key_file)


def names(settings: Settings) -> Names:
    """The names clients may use. Raises RluError: `aliases`."""
    served = dict.fromkeys(model for _, model in settings.fleet())
    try:
        return Names.of(served, settings.model.aliases, list_aliases=settings.model.list_aliases)
    except AliasRefused as error:
        raise RluError("aliases", f"[model.aliases]: {error}") from error


def watch(
    settings: Settings,
    measures: Measures,
    events: Events,
    clock: Callable[[], float],
    traced: Callable[[Sequence[Span]], None],
) -> Watch:
    """What is told of every request, by the settings; needs a running loop."""
    return Watch(
        measures,
        events,
        asyncio.get_running_loop().time,
        clock,
        access_log=settings.gateway.access_log,
        sample=settings.tracing.sample,
        continue_clients=settings.tracing.continue_clients,
        traced=traced,
    )


def unhandled(events: Events) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """What the loop would log with its text: here only by class and place."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, (ssl.SSLError, ConnectionError, TimeoutError, asyncio.TimeoutError)):
            events.emit("connection_failed", type(error).__name__)
        elif error is not None:
            events.internal(error)
        else:
            events.emit("internal_error", "loop")

    return handle
