"""One HTTP request to a place that the operator named: no redirects, no proxy but one that was named, bounded in time and size."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from rlu_attestation.errors import RluError

TIMEOUT_S = 10.0


class Unreachable(RluError):
    """It did not answer, or not as it should; another try may help."""

    exit_code = 3


class BadAddress(RluError):
    """An address that is not to be used."""

    exit_code = 2


def target(url: str) -> SplitResult:
    """Check an address.

    Raises:
        BadAddress: `relay.url`: not https, and not http on this machine.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadAddress("relay.url", f"{url!r} is not an address") from error
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    secure = parts.scheme == "https" or (parts.scheme == "http" and local)
    if not secure or not parts.hostname or parts.username or parts.fragment or port == 0:
        raise BadAddress("relay.url", f"{url!r}: give an https:// address (http:// only on this machine)")
    return parts


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """TLS that believes this file's CAs, or the system's."""
    return ssl.create_default_context(cafile=ca_file)


def connect(
    parts: SplitResult, context: ssl.SSLContext, proxy: str = "", timeout_s: float = TIMEOUT_S
) -> http.client.HTTPConnection:
    """A connection to an address that `target` checked; it is opened by the first request.

    Args:
        proxy: as of `request`.

    Raises:
        BadAddress: `relay.proxy`.
    """
    assert parts.hostname is not None
    if proxy:
        return _tunnel(parts, proxy, context, timeout_s)
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=context)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)


def path_of(parts: SplitResult) -> str:
    """What a request line names."""
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def request(
    method: str,
    url: str,
    context: ssl.SSLContext,
    most: int,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    proxy: str = "",
) -> tuple[int, str, bytes]:
    """Status, media type and content.

    Args:
        proxy: `http://host:port`, which is asked for a tunnel, so that it sees the host's name and nothing else; empty: none.

    Raises:
        Unreachable: `relay.unreachable`, `relay.too_long`.
        BadAddress: `relay.url`, `relay.proxy`.
    """
    parts = target(url)
    connection = connect(parts, context, proxy)
    try:
        connection.request(method, path_of(parts), content, dict(headers or {}))
        with connection.getresponse() as response:
            data = response.read(most + 1)
            kind = response.headers.get("Content-Type", "")
            status = response.status
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(
            "relay.unreachable", f"{parts.hostname} does not answer ({type(error).__name__})"
        ) from error
    finally:
        connection.close()
    if len(data) > most:
        raise Unreachable("relay.too_long", f"the answer of {parts.hostname} is longer than {most} bytes")
    return status, kind, data


def _tunnel(
    parts: SplitResult, proxy: str, context: ssl.SSLContext, timeout_s: float
) -> http.client.HTTPSConnection:
    try:
        way = urlsplit(proxy)
        port = way.port
    except ValueError as error:
        raise BadAddress("relay.proxy", f"{proxy!r} is not an address") from error
    if way.scheme != "http" or not way.hostname or not port or way.username or way.path.strip("/"):
        raise BadAddress("relay.proxy", f"{proxy!r}: give an http://host:port")
    if parts.scheme != "https":
        raise BadAddress("relay.proxy", "through a proxy only https goes")
    connection = http.client.HTTPSConnection(way.hostname, port, timeout=timeout_s, context=context)
    assert parts.hostname is not None
    connection.set_tunnel(parts.hostname, parts.port or 443)
    return connection
