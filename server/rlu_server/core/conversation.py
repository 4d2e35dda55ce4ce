"""Which session a request belongs to, for clients that have never heard of sessions (design section 3, "How clients meet it").

First match wins: `RLU-Session`; Codex's `session-id`; Claude Code's `X-Claude-Code-Session-Id`; `prompt_cache_key` in the body; else one
sliding session per API key. What a client sends is a *name within its principal*: the same name from another principal is another
conversation, and an explicit `RLU-Session` is still checked against the session's owner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from rlu_server.core.apikeys import Principal
from rlu_server.core.errors import GatewayError

MAX_NAME = 1024
SESSION_HEADER = b"rlu-session"
NAMING_HEADERS = (b"session-id", b"x-claude-code-session-id")


@dataclass(frozen=True, slots=True)
class Explicit:
    """The client names one session; it must exist and be its own."""

    session: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation recognised by a name, hashed with its principal: 32 bytes."""

    key: bytes


def recognise(
    headers: Mapping[bytes, bytes], prompt_cache_key: str | None, principal: Principal
) -> Explicit | Conversation:
    """Decide which conversation a request continues.

    Args:
        headers: lower-case names.

    Raises:
        GatewayError: `field_type`, when a name is longer than 1,024 bytes.
    """
    explicit = headers.get(SESSION_HEADER)
    if explicit is not None:
        return Explicit(explicit.decode("latin-1"))
    for header in NAMING_HEADERS:
        value = headers.get(header)
        if value:
            return _named(header, value, principal)
    if prompt_cache_key:
        return _named(b"prompt_cache_key", prompt_cache_key.encode("utf-8", "surrogatepass"), principal)
    return _sliding(principal)


@lru_cache(maxsize=1024)
def _sliding(principal: Principal) -> Conversation:
    return _named(b"key", principal.key_id.encode("ascii"), principal)


def _named(source: bytes, value: bytes, principal: Principal) -> Conversation:
    if len(value) > MAX_NAME:
        raise GatewayError("field_type", "The conversation's name is too long.", param=source.decode("ascii"))
    # Pseudonyms have a fixed alphabet without NUL, and the value comes last: no two inputs meet.
    parts = (source, principal.tenant_pseudonym.encode("ascii"), principal.pseudonym.encode("ascii"), value)
    return Conversation(hashlib.sha256(b"\x00".join(parts)).digest())
