"""What a client shows of itself with one request, and which of it counts.

A header that is there decides and must be good; a certificate counts when no header does, or when the header says so with the word
`certificate` (SDKs insist on sending some key). If both name somebody, both must name the same tenant.
"""

from __future__ import annotations

import ipaddress

import msgspec

from rlu_server.core.errors import GatewayError

BY_CERTIFICATE = "certificate"
"""The key to configure where a client certificate is the credential."""
MAX_CREDENTIAL = 16 * 1024
_V6_PREFIX = 64


class Peer(msgspec.Struct, frozen=True, gc=False):
    """The other end of a connection."""

    address: str
    """As `network` gives it; empty when unknown."""
    certificate: bytes | None = None
    """The client certificate (DER) whose chain TLS has verified."""


NOWHERE = Peer("")


class Credentials(msgspec.Struct, frozen=True, gc=False):
    """Header values as they came, and the connection's peer."""

    authorization: bytes | str | None
    x_api_key: bytes | str | None
    peer: Peer = NOWHERE


def presented(authorization: bytes | str | None, x_api_key: bytes | str | None) -> str:
    """The key or token in `Authorization: Bearer` or `x-api-key`, empty if there is none; both must agree if both are there.

    Raises:
        GatewayError: `key_invalid`.
    """
    bearer = _text(authorization)
    if bearer is not None:
        scheme, _, value = bearer.partition(" ")
        bearer = value.strip() if scheme.lower() == "bearer" else None
    direct = _text(x_api_key)
    if bearer and direct and bearer != direct:
        raise GatewayError("key_invalid", "`Authorization` and `x-api-key` hold different keys; send one.")
    return bearer or direct or ""


def network(address: str) -> str:
    """What guesses are counted by: an IPv4 address, or the network of an IPv6 one, of which a client has as many as it likes."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, _V6_PREFIX), strict=False))
    return str(ip)


def _text(value: bytes | str | None) -> str | None:
    return value.decode("latin-1") if isinstance(value, bytes) else value
