"""The network: GET and POST over https, to hosts that are listed, without redirects, bounded in size and time.

What certificates publish under `http:` is asked for under `https:`. The environment (proxies, keys) is not read.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from rlu_attestation.collateral.want import PUBLISHERS, Answer, FetchError

MAX_ANSWER = 4 * 1024 * 1024
TIMEOUT_S = 30.0
_TRIES, _MAX_PAUSE_S = 4, 30
_BUSY = (429, 503)


class Network:
    """Asks services. Answers to GET are kept for as long as this object lives.

    Args:
        hosts: hosts beside `PUBLISHERS`, each with those below it.
        proxy: `host:port` of an HTTP proxy that tunnels (CONNECT).
        tls: how servers are authenticated; default: the system's certificate authorities.
        sleep: waits, when a service says that it is busy.
    """

    def __init__(
        self,
        *,
        hosts: Sequence[str] = (),
        proxy: str = "",
        timeout_s: float = TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._hosts = (*PUBLISHERS, *hosts)
        self._proxy = proxy
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context() if tls is None else tls
        self._sleep = sleep
        self._kept: dict[str, Answer] = {}

    def get(self, url: str, types: tuple[str, ...]) -> Answer:
        """Raises FetchError: `fetch.url`, `.host`, `.unreachable`, `.timeout`, `.status`, `.size`, `.type`."""
        if url not in self._kept:
            self._kept[url] = self._patiently("GET", url, None, "", types)
        return self._kept[url]

    def post(self, url: str, content: bytes, content_type: str, types: tuple[str, ...]) -> Answer:
        """Raises what `get` raises."""
        return self._patiently("POST", url, content, content_type, types)

    def _patiently(
        self, method: str, url: str, content: bytes | None, content_type: str, types: tuple[str, ...]
    ) -> Answer:
        for left in reversed(range(_TRIES)):
            try:
                return self._once(method, url, content, content_type, types)
            except _BusyError as busy:
                if not left:
                    raise FetchError("fetch.status", f"{busy.message}; try again later") from busy
                self._sleep(busy.pause_s)
        raise AssertionError("unreachable")

    def _once(
        self, method: str, url: str, content: bytes | None, content_type: str, types: tuple[str, ...]
    ) -> Answer:
        host, port, path = self._address(url)
        deadline = time.monotonic() + self._timeout_s
        connection = self._connection(host, port)
        headers = {"Accept": ", ".join(types), "Accept-Encoding": "identity", "User-Agent": "rlu-collateral"}
        if content_type:
            headers["Content-Type"] = content_type
        try:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            body = _read(response, connection, deadline, url)
        except TimeoutError as error:
            raise FetchError("fetch.timeout", f"{url}: no answer within {self._timeout_s:.0f} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise FetchError("fetch.unreachable", f"{url}: {_reason(error)}") from error
        finally:
            connection.close()
        if response.status in _BUSY:
            raise _BusyError(f"{url}: busy (status {response.status})", response.getheader("Retry-After", ""))
        if response.status != 200:
            raise FetchError("fetch.status", f"{url}: status {response.status}")
        found = response.getheader("Content-Type", "").partition(";")[0].strip().lower()
        if found not in types:
            raise FetchError(
                "fetch.type", f"{url}: answered with {found or 'no type'}, expected {' or '.join(types)}"
            )
        return Answer(url, body, {name.lower(): value for name, value in response.getheaders()})

    def _address(self, url: str) -> tuple[str, int, str]:
        try:
            parts = urlsplit(url)
            port = parts.port or 443
        except ValueError as error:
            raise FetchError("fetch.url", f"{url} is not a URL") from error
        host = (parts.hostname or "").lower()
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise FetchError("fetch.url", f"{url} is not an https URL")
        if not any(host == known or host.endswith(f".{known}") for known in self._hosts):
            raise FetchError("fetch.host", f"{host} is not a host that is asked; --allow-host {host} adds it")
        path = parts.path or "/"
        return host, 443 if parts.scheme == "http" else port, f"{path}?{parts.query}" if parts.query else path

    def _connection(self, host: str, port: int) -> http.client.HTTPSConnection:
        if not self._proxy:
            return http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._tls)
        connection = http.client.HTTPSConnection(self._proxy, timeout=self._timeout_s, context=self._tls)
        connection.set_tunnel(host, port)
        return connection


class _BusyError(FetchError):
    def __init__(self, message: str, after: str) -> None:
        super().__init__("fetch.status", message)
        self.pause_s = min(int(after), _MAX_PAUSE_S) if after.isascii() and after.isdigit() else 1


def _read(
    response: http.client.HTTPResponse,
    connection: http.client.HTTPSConnection,
    deadline: float,
    url: str,
) -> bytes:
    content = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if connection.sock is not None:
            connection.sock.settimeout(left)
        chunk = response.read1(65536)
        if not chunk:
            break
        content += chunk
        if len(content) > MAX_ANSWER:
            raise FetchError("fetch.size", f"{url}: the answer is longer than {MAX_ANSWER} bytes")
    if response.length:
        raise http.client.IncompleteRead(bytes(content), response.length)
    return bytes(content)


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    return getattr(error, "strerror", None) or type(error).__name__
