"""Clients of a `ConnectedServer`: the same requests through either shell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2

from fakes.connected import MODEL, ConnectedServer
from fakes.server import API_KEY
from rlu_attestation.connect import AsyncVerifyingTransport, Status, VerifyingTransport

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"


@dataclass
class Reply:
    status: int
    headers: Any
    content: bytes

    @property
    def code(self) -> str:
        """The code of an error, as an answer or as the last event of a stream."""
        last = self.content.rstrip().rpartition(b"data: ")[2]
        return str(json.loads(last)["error"]["code"])


@dataclass
class User:
    """A user of a transport. `told` are the status lines."""

    server: ConnectedServer
    asynchronous: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    told: list[Status] = field(default_factory=list)

    def __post_init__(self) -> None:
        given = {
            "policy": self.server.deployment.policy(),
            "api_key": API_KEY,
            "clock": self.server.clock,
            "on_status": self.told.append,
            **self.options,
        }
        self.loop = asyncio.new_event_loop() if self.asynchronous else None
        self.client: Any
        if self.asynchronous:
            self.client = httpx2.AsyncClient(transport=AsyncVerifyingTransport(self.server.url, **given))
        else:
            self.client = httpx2.Client(transport=VerifyingTransport(self.server.url, **given))

    def __enter__(self) -> User:
        return self

    def __exit__(self, *_: object) -> None:
        if self.loop is None:
            self.client.close()
            return
        self._run(self.client.aclose)
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def ask(self, path: str = CHAT, *, method: str = "POST", script: str = "", **more: Any) -> Reply:
        """One request with its whole answer."""
        body: dict[str, Any] | None = None
        if method == "POST":
            body = {
                "model": MODEL,
                "messages": [{"role": "user", "content": "hello"}],
                "max_tokens": 9,
                **more,
            }
            if script:
                body["metadata"] = {"script": script}
        response = self._run(lambda: self.client.request(method, self.server.url + path, json=body))
        return Reply(response.status_code, response.headers, response.content)

    def events(self) -> list[str]:
        return [status.event for status in self.told]

    def _run(self, call: Callable[[], Any]) -> Any:
        return call() if self.loop is None else self.loop.run_until_complete(call())
