"""The local side: an ASGI application that takes requests from this machine and relays them through the verified link.

Who is here is not yet whom we trust: any local program, and any page in a browser, can reach a loopback port. So every request needs
the run's own random key; `Host` must be ours, and nothing with an `Origin` is served, so that no page gets here by a name it rebinds.
Nothing is logged, and nothing is written anywhere.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import aclosing
from typing import Any

import anyio

from rlu_attestation.connect.async_link import AsyncLink
from rlu_attestation.connect.errors import Misuse
from rlu_attestation.connect.guard import Guard
from rlu_attestation.connect.relay import CODINGS, Request, refuse, relay
from rlu_attestation.connect.steps import Begin, Emit, Talk
from rlu_attestation.connect.target import key_of

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
MAX_BODY = 64 * 1024 * 1024


class Proxy:
    """The application.

    Args:
        local_key: what every request must carry as its API key.
        hosts: accepted values of `Host`; `None` on a Unix socket, where there are no names to rebind.
    """

    def __init__(self, link: AsyncLink, guard: Guard, local_key: str, hosts: frozenset[str] | None) -> None:
        self._link = link
        self._guard = guard
        self._local_key = local_key.encode()
        self._hosts = hosts

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        path = scope["path"]
        try:
            headers = self._admit(scope)
            if path == "/" and scope["method"] in ("GET", "HEAD"):
                talk = _present()  # agents ask whether anybody is there
            else:
                body = await _body(receive)
                talk = relay(
                    self._guard, Request(scope["method"], path, headers, body, bool(scope["query_string"]))
                )
        except Misuse as error:
            talk = refuse(path, error)
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            await self._answer(talk, send)
            tasks.cancel_scope.cancel()

    def _admit(self, scope: Message) -> dict[str, str]:
        """The headers of a request that may be served.

        Raises:
            Misuse: `connect.host`, `connect.origin`, `connect.local_key`, `connect.encoding`.
        """
        pairs = [
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]
        ]
        headers = dict(pairs)
        hosts = [value for name, value in pairs if name == "host"]
        if self._hosts is not None and (len(hosts) != 1 or hosts[0] not in self._hosts):
            raise Misuse("connect.host", "this proxy is not known by that name", 403)
        if "origin" in headers:
            raise Misuse("connect.origin", "this proxy does not serve web pages", 403)
        if scope["path"] == "/":
            return headers
        if not hmac.compare_digest(key_of(headers).encode(), self._local_key):
            raise Misuse("connect.local_key", "use the API key that `rlu connect` gave you for this run", 401)
        if headers.get("content-encoding", "identity").lower() not in CODINGS:
            raise Misuse("connect.encoding", "send the body as it is, or with gzip, deflate or zstd", 415)
        return headers

    async def _answer(self, talk: Talk[None], send: Send) -> None:
        async with aclosing(self._link.perform(talk)) as outputs:
            async for output in outputs:
                if isinstance(output, Begin):
                    given = [
                        (name.encode("latin-1"), value.encode("latin-1"))
                        for name, value in output.headers.items()
                    ]
                    await send({"type": "http.response.start", "status": output.status, "headers": given})
                else:
                    await send({"type": "http.response.body", "body": output.content, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _body(receive: Receive) -> bytes:
    """Raises Misuse: `connect.too_large`, `connect.gone`."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Misuse("connect.gone", "the client left before its request was complete", 400)
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise Misuse("connect.too_large", f"the request is longer than {MAX_BODY} bytes", 413)
        if not message.get("more_body"):
            return bytes(body)


def _present() -> Talk[None]:
    yield Begin(200, {"content-type": "text/plain", "content-length": "0"})
    yield Emit(b"")
