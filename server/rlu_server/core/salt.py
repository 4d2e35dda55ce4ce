"""The prefix cache's salt: one per tenant, so that timing tells no tenant what another has asked (design P7).

vLLM takes 1 to 128 characters without `@ / \\` and NUL; hex always fits. A client's own salt divides its tenant's cache further and
is folded in, never passed through.
"""

from __future__ import annotations

import hmac

SECRET_SIZE = 32


def derive(secret: bytes, tenant: str, client_salt: str | None) -> str:
    """The salt to send to the engine: 64 hex digits.

    Args:
        secret: 32 random bytes of this gateway process.
        tenant: the tenant's pseudonym.
        client_salt: the client's `cache_salt`, if it sent one.
    """
    if len(secret) != SECRET_SIZE:
        raise ValueError("the salt secret has 32 bytes")
    folded = b"" if client_salt is None else b"\x01" + client_salt.encode("utf-8", "surrogatepass")
    message = b"rlu/cache-salt/v1\x00" + tenant.encode("ascii") + b"\x00" + folded
    return hmac.digest(secret, message, "sha256").hex()
