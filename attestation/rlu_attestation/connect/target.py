"""What both shells share: where the server is, how requests to it are written, and what its failures are called."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import anyio
import httpx2

from rlu_attestation.connect.errors import Misuse
from rlu_attestation.connect.pin import KeyMismatch
from rlu_attestation.connect.steps import Ask, Meet, Moment, Send
from rlu_attestation.errors import Malformed, RluError, Unreachable, Untrusted

CONNECT_TIMEOUT_S = 10.0
ASK_TIMEOUT_S = 30.0
SEND_TIMEOUT_S = 600.0
"""Between two pieces of an answer."""
MAX_ANSWER = 4 * 1024 * 1024
"""Of what is asked for ourselves."""
LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=30)


class Target:
    """One server, and the API key for it. The first key that is used stays the only one: a session belongs to one principal.

    Args:
        url: the server's root.

    Raises:
        Misuse: `server.url`.
    """

    def __init__(self, url: str, api_key: str | None, clock: Callable[[], float] = time.time) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if (
            parts.scheme not in ("https", "http")
            or not parts.hostname
            or port == 0
            or parts.query
            or parts.username
        ):
            raise Misuse("server.url", "expected the root of a server, such as https://localhost:8443", 400)
        self.plaintext = parts.scheme == "http"
        self.clock = clock
        self._host = parts.hostname
        self._port = port or (80 if self.plaintext else 443)
        self._root = httpx2.URL(url.rstrip("/"))
        self._prefix = parts.path.rstrip("/")
        self._api_key = api_key

    def path_of(self, scheme: str, host: str, port: int | None, path: str) -> str:
        """The path on the server of a request that was meant for it.

        Raises:
            Misuse: `connect.origin`.
        """
        own = scheme == ("http" if self.plaintext else "https") and host == self._host
        if (
            not own
            or (port or (80 if self.plaintext else 443)) != self._port
            or not path.startswith(self._prefix)
        ):
            raise Misuse(
                "connect.origin", "this transport sends to the server it verifies, and nowhere else", 400
            )
        return path.removeprefix(self._prefix)

    def adopt_key(self, api_key: str) -> None:
        """Use the key that a client sent.

        Raises:
            Misuse: `connect.key`.
        """
        if not api_key:
            raise Misuse("connect.key", "no API key: none was configured, and the request has none", 401)
        if self._api_key is None:
            self._api_key = api_key
        elif not secrets.compare_digest(self._api_key.encode(), api_key.encode()):
            raise Misuse(
                "connect.key", "one transport serves one API key; make another one for another key", 401
            )

    def moment(self) -> Moment:
        return Moment(int(self.clock()), time.monotonic(), secrets.token_bytes(32))

    def request(self, command: Meet | Ask | Send) -> httpx2.Request:
        """The command as an HTTP request. Only `Ask` and `Send` carry the API key."""
        headers = {"accept-encoding": "identity", "user-agent": "rlu-connect"}
        method, body, timeout = "GET", b"", ASK_TIMEOUT_S
        if not isinstance(command, Meet):
            method, body = command.method, command.body or b""
            if self._api_key is not None:
                headers["authorization"] = f"Bearer {self._api_key}"
        if isinstance(command, Send):
            headers.update(command.headers)
            timeout = SEND_TIMEOUT_S
        elif body:
            headers["content-type"] = "application/json"
        url = self._root.copy_with(raw_path=(self._prefix + command.path).encode("ascii"))
        limits = {"connect": CONNECT_TIMEOUT_S, "read": timeout, "write": timeout, "pool": timeout}
        return httpx2.Request(
            method, url, headers=headers, content=body or None, extensions={"timeout": limits}
        )


def key_of(headers: Mapping[str, str]) -> str:
    """The API key of a request, as OpenAI's or Anthropic's SDK sends it; empty if there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def take(content: bytearray, piece: bytes) -> None:
    """Add a piece of an answer to ourselves. Raises Malformed: `server.answer`."""
    content += piece
    if len(content) > MAX_ANSWER:
        raise Malformed("server.answer", f"the answer is longer than {MAX_ANSWER} bytes")


@contextmanager
def failures() -> Iterator[None]:
    """Say of an I/O failure what it means.

    Raises:
        Untrusted: `channel.changed`.
        Unreachable: `server.timeout`, `server.protocol`, `server.unreachable`.
    """
    try:
        yield
    except httpx2.TimeoutException as error:
        raise Unreachable("server.timeout", "the server did not answer in time") from error
    except (httpx2.HTTPError, OSError, anyio.EndOfStream, anyio.ClosedResourceError) as error:
        raise _named(error) from error


def _named(error: BaseException) -> RluError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyMismatch):
            return Untrusted("channel.changed", "the server's TLS key is not the attested one")
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx2.ProtocolError):
        return Unreachable("server.protocol", "the server's answer ended early, or was no HTTP")
    return Unreachable("server.unreachable", "the server cannot be reached")
