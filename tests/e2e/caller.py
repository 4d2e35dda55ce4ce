"""A client of one gateway with the very bytes in hand: what was sent, what came back."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and the request it answers, as contents on the wire."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    request: bytes
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def session(self) -> str:
        return self.headers["rlu-session"]

    @property
    def receipt(self) -> str:
        return self.headers["rlu-receipt"]


@dataclass(frozen=True)
class Caller:
    """One API key at one gateway."""

    port: int
    certificate: Path
    key: str

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @cached_property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def with_key(self, key: str) -> Caller:
        return Caller(self.port, self.certificate, key)

    def call(
        self,
        method: str,
        path: str,
        content: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Answer:
        """Send bytes as they are, anything else as JSON; read the whole answer."""
        with self.begin(method, path, content, headers, timeout_s) as (sent, response):
            got = response.read()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, sent, got)

    def post(self, path: str, content: object, headers: Mapping[str, str] | None = None) -> Answer:
        return self.call("POST", path, content, headers)

    def get(self, path: str) -> Answer:
        return self.call("GET", path)

    @contextmanager
    def begin(
        self,
        method: str,
        path: str,
        content: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Iterator[tuple[bytes, http.client.HTTPResponse]]:
        """The request's content and the answer, of which only the head was read; the connection ends with the block."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        given = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **(headers or {})}
        connection = http.client.HTTPSConnection(
            "localhost", self.port, timeout=timeout_s, context=self.trust
        )
        try:
            connection.request(method, path, None if content is None else body, given)
            response = connection.getresponse()
            with response:
                yield b"" if content is None else body, response
        finally:
            connection.close()


def chat(content: str, model: str, **more: object) -> dict[str, object]:
    """A chat request."""
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}
