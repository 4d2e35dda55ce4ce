"""A whole server on this machine: the real attestor (software key), the real gateway, the scripted engine in vLLM's place."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import json
import secrets
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rlu_server import settings as configuration
from rlu_server.cli.keyfile import change
from rlu_server.core import apikeys
from rlu_server.engine import launch
from rlu_server.settings import Settings
from rlu_server.supervisor import prepare, runtime, weights
from rlu_server.supervisor.runtime import Runtime
from rlu_server.supervisor.server import Deployment, Server

ROOT = Path(__file__).parents[3]
STAND_IN = (Path(__file__).parent / "stand_in", ROOT / "benchmarks")


@dataclass
class Up:
    """A running server and everything it said."""

    server: Server
    deployment: Deployment
    place: Runtime
    api_key: str
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def said(self, name: str) -> int:
        return sum(1 for event, _ in self.events if event == name)

    async def until(self, what: Callable[[], bool], timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not what():
            assert time.monotonic() < deadline, self.events
            await asyncio.sleep(0.02)

    async def call(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        return await asyncio.to_thread(self._call, method, path, body, headers or {})

    def _call(
        self, method: str, path: str, body: object, headers: dict[str, str]
    ) -> tuple[int, Any, dict[str, str]]:
        context = ssl.create_default_context(cafile=str(self.place.path / "gateway" / "gateway.crt"))
        port = self.deployment.settings.gateway.port
        connection = http.client.HTTPSConnection("localhost", port, timeout=60, context=context)
        try:
            content = None if body is None else json.dumps(body)
            sent = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json", **headers}
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            data = response.read()
            return (
                response.status,
                json.loads(data or "null"),
                {k.lower(): v for k, v in response.getheaders()},
            )
        finally:
            connection.close()

    async def ask(self, session: str | None = None) -> tuple[int, Any, dict[str, str]]:
        body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
        return await self.call(
            "POST", "/v1/chat/completions", body, {"RLU-Session": session} if session else {}
        )


def make_model(directory: Path) -> Path:
    model = directory / "m"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "qwen3"}')
    (model / "model.safetensors").write_bytes(b"weights")
    return model


def make_settings(directory: Path, **engine: Any) -> Settings:
    model = directory / "m"
    overrides = {
        "state_dir": str(directory / "state"),
        "model": {
            "path": str(model if model.exists() else make_model(directory)),
            "signature": "unsafe-optional",
        },
        "gateway": {"port": 0, "drain_timeout_s": 2.0},
        "attestation": {"insecure_software_key": True},
        "engine": engine,
    }
    return configuration.load(None, {}, overrides)


def make_key(directory: Path) -> str:
    record, key = apikeys.mint(
        secrets.token_bytes(apikeys.ID_SIZE), secrets.token_bytes(apikeys.SECRET_SIZE), "t", "p", 1, None
    )
    change(
        directory / "state" / "apikeys.json",
        lambda keys: msgspec.structs.replace(keys, keys=[*keys.keys, record]),
    )
    return key


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the scripted engine where vLLM's entry module is looked for."""
    plan = launch.plan

    def planned(*arguments: Any, **named: Any) -> launch.EngineStart:
        start = plan(*arguments, **named)
        return dataclasses.replace(start, search_path=(*STAND_IN, *start.search_path))

    monkeypatch.setattr(launch, "plan", planned)


def open_on(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have jobs that open weights run on a machine whose TEE is a socket."""
    job = (sys.executable, str(Path(__file__).with_name("unlocking_on_snp.py")), str(device))
    monkeypatch.setattr(weights, "JOB", job)
    monkeypatch.setattr(weights, "check", lambda settings: None)


@contextlib.asynccontextmanager
async def running(directory: Path, settings: Settings) -> AsyncIterator[Up]:
    """Start, and afterwards drain and wipe."""
    api_key = make_key(directory)
    place = runtime.create(None)
    events: list[tuple[str, dict[str, Any]]] = []
    try:
        deployment = prepare.deployment(settings, place, {}, None)
        server = Server(deployment, place, lambda name, values: events.append((name, values)))
        up = Up(server, deployment, place, api_key, events)
        try:
            await server.start()
            yield up
        finally:
            await server.stop()
    finally:
        place.remove()


Started = Callable[..., Awaitable[Up]]
