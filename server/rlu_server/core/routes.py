"""The allow list: every route clients can reach. What is not in these tables does not exist (design section 5).

Paths are compared as the exact bytes that arrived: nothing is decoded, folded or normalised, so there is no spelling of vLLM's
administrative routes that leads anywhere.
"""

from __future__ import annotations

import enum
from collections.abc import Container
from dataclasses import dataclass

from rlu_server.core.errors import Dialect


class Api(enum.Enum):
    """Whose request and response formats a relayed route carries."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"
    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"


@dataclass(frozen=True, slots=True)
class Route:
    """A relayed route. `path` is the same towards client and engine, and the `rlu_route` of its receipts."""

    path: str
    api: Api
    dialect: Dialect
    salted: bool
    """The engine takes `cache_salt` here; the start-up probe insists on it."""


RELAYED: dict[bytes, Route] = {
    route.path.encode("ascii"): route
    for route in (
        Route("/v1/chat/completions", Api.CHAT, Dialect.OPENAI, True),
        Route("/v1/completions", Api.COMPLETIONS, Dialect.OPENAI, True),
        Route("/v1/responses", Api.RESPONSES, Dialect.OPENAI, True),
        Route("/v1/embeddings", Api.EMBEDDINGS, Dialect.OPENAI, True),
        Route("/v1/messages", Api.MESSAGES, Dialect.ANTHROPIC, True),
        # Counting makes no KV cache, and the engine's model of this route has no salt.
        Route("/v1/messages/count_tokens", Api.COUNT_TOKENS, Dialect.ANTHROPIC, False),
    )
}

MODELS = b"/v1/models"
ONE_MODEL = MODELS + b"/"
"""Beginning of the paths of single models; what follows is a name, which is only compared."""
ROOT = b"/"

OWN_EXACT = frozenset(
    {
        b"/healthz",
        b"/readyz",
        b"/openapi.json",
        b"/.well-known/rlu-configuration",
    }
)
OWN_PREFIX = b"/v1/rlu/"


def is_own(path: bytes) -> bool:
    """Does the application in `endpoints/` answer this path?"""
    return path in OWN_EXACT or path.startswith(OWN_PREFIX)


def dialect_of(path: bytes, headers: Container[bytes] = ()) -> Dialect:
    """The shape of answers for a path, listed or not; of the models' paths, which two APIs have, going by the client's headers."""
    route = RELAYED.get(path)
    if route is not None:
        return route.dialect
    if path == MODELS or path.startswith(ONE_MODEL):
        return Dialect.ANTHROPIC if b"anthropic-version" in headers else Dialect.OPENAI
    if path.startswith(b"/v1/messages"):
        return Dialect.ANTHROPIC
    return Dialect.RLU if is_own(path) else Dialect.OPENAI
