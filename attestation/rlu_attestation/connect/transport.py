"""Transports for `httpx` and `httpx2` clients, and so for the SDKs of OpenAI and Anthropic: they verify inside your own process.

    from rlu_attestation import load_policy
    from rlu_attestation.connect import VerifyingTransport

    transport = VerifyingTransport("https://host:8443", load_policy(path))
    client = OpenAI(base_url="https://host:8443/v1", api_key=key, http_client=httpx2.Client(transport=transport))

The request's own library decides which kind of answer it gets; the SDKs use httpx2. A client made with `proxy=` or `mounts=` goes around
its transport: do not use these.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any

import httpx2

from rlu_attestation.connect.async_link import AsyncLink
from rlu_attestation.connect.closing import close
from rlu_attestation.connect.errors import Misuse
from rlu_attestation.connect.guard import Guard
from rlu_attestation.connect.link import Link
from rlu_attestation.connect.relay import Request, refuse, relay
from rlu_attestation.connect.status import Status
from rlu_attestation.connect.steps import Begin, Emit, Talk
from rlu_attestation.connect.target import Target, key_of
from rlu_attestation.policy import Policy


class _Verifying:
    """What both have: where to, under which policy.

    Args:
        url: the server's root, the SDK's base URL without `/v1`.
        policy: what is accepted.
        api_key: for the server; without it, the one that the client's requests carry.
        insecure_accept_software_key: go on, with a waiver, when no hardware holds the key.
        accept_instance_change: go on, after verification, when the server is another instance than before.
        on_status: called with every `Status`: verified, waived, rejected, unproven, closed.
        clock: seconds since the epoch.

    Raises:
        Misuse: `server.url`.
    """

    def __init__(
        self,
        url: str,
        policy: Policy,
        *,
        api_key: str | None = None,
        insecure_accept_software_key: bool = False,
        accept_instance_change: bool = False,
        on_status: Callable[[Status], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.target = Target(url, api_key, clock)
        self.guard = Guard(
            policy,
            plaintext=self.target.plaintext,
            insecure_accept_software_key=insecure_accept_software_key,
            accept_instance_change=accept_instance_change,
        )
        self._key_given = api_key is not None
        self._report = on_status or _silent

    def _talk(self, request: Any, body: bytes) -> Talk[None]:
        url = request.url
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            path = self.target.path_of(url.scheme, url.host, url.port, url.path)
            if not self._key_given:
                self.target.adopt_key(key_of(headers))
        except Misuse as error:
            return refuse(url.path, error)
        return relay(self.guard, Request(request.method, path, headers, body, bool(url.query)))


class VerifyingTransport(_Verifying, httpx2.BaseTransport):
    """For `httpx2.Client` and `httpx.Client`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._link = Link(self.target, self._report)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        outputs = self._link.perform(self._talk(request, request.read()))
        response: httpx2.Response = _response(request, next(outputs), "SyncByteStream", outputs)
        return response

    def close(self) -> None:
        """End the session and check its close."""
        self._link.run(close(self.guard))
        self._link.close()


class AsyncVerifyingTransport(_Verifying, httpx2.AsyncBaseTransport):
    """For `httpx2.AsyncClient` and `httpx.AsyncClient`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._link = AsyncLink(self.target, self._report)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        outputs = self._link.perform(self._talk(request, await request.aread()))
        response: httpx2.Response = _response(request, await anext(outputs), "AsyncByteStream", outputs)
        return response

    async def aclose(self) -> None:
        """End the session and check its close."""
        await self._link.run(close(self.guard))
        await self._link.close()


class _Content:
    def __init__(self, outputs: Generator[Begin | Emit, None, None]) -> None:
        self._outputs = outputs

    def __iter__(self) -> Iterator[bytes]:
        for output in self._outputs:
            assert isinstance(output, Emit)
            yield output.content

    def close(self) -> None:
        self._outputs.close()


class _AsyncContent:
    def __init__(self, outputs: AsyncGenerator[Begin | Emit, None]) -> None:
        self._outputs = outputs

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for output in self._outputs:
            assert isinstance(output, Emit)
            yield output.content

    async def aclose(self) -> None:
        await self._outputs.aclose()


@lru_cache
def _stream_class(library: str, base: str) -> type:
    """Content as a stream of the library that asked, which looks at its class."""
    kind = _Content if base == "SyncByteStream" else _AsyncContent
    return type("VerifiedContent", (kind, getattr(import_module(library), base)), {})


def _response(request: Any, begin: Begin | Emit, base: str, outputs: object) -> Any:
    assert isinstance(begin, Begin)
    library = type(request).__module__.partition(".")[0]
    stream = _stream_class(library, base)(outputs)
    response = import_module(library).Response
    return response(begin.status, headers=dict(begin.headers), stream=stream, request=request)


def _silent(status: Status) -> None:
    pass
