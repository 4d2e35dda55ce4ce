"""Issuers' key sets: fetched, checked by the gateway's own parser, and put in place whole. A bad answer leaves the old file as it is."""

from __future__ import annotations

import os
import secrets
import ssl
from collections.abc import Mapping
from pathlib import Path

from rlu_server.core.auth import jwks
from rlu_server.outreach.http import Unreachable, request


def fetch(url: str, context: ssl.SSLContext, headers: Mapping[str, str] | None = None) -> tuple[bytes, int]:
    """A key set, and how many keys of it can be used.

    Raises:
        Unreachable: `relay.unreachable`, `relay.too_long`, `relay.status`.
        Malformed: `jwks.…`.
    """
    status, _, data = request("GET", url, context, jwks.MAX_FILE, headers=headers)
    if status != 200:
        raise Unreachable("relay.status", f"the issuer answered with status {status}")
    return data, len(jwks.parse(data))


def put(path: Path, data: bytes) -> bool:
    """Write the file if it is another; whether it was."""
    try:
        if path.read_bytes() == data:
            return False
    except FileNotFoundError:
        pass
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    return True
