"""A relayed request until it is complete: memory for its content, its digests while it arrives, and the one look at its body."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rlu_server.adapters.http1 import Digests, Incoming
from rlu_server.adapters.recorder import Content
from rlu_server.core import body, conversation
from rlu_server.core.apikeys import Principal
from rlu_server.core.conversation import Conversation, Explicit
from rlu_server.core.routes import Route

if TYPE_CHECKING:
    from rlu_server.adapters.relay import Relay


class Taken(msgspec.Struct, frozen=True):
    """A request that was inspected; `content` is what the engine gets."""

    model: str
    rewritten: tuple[str, ...]
    received: Content
    forwarded: Content
    content: bytes
    where: Explicit | Conversation


class Intake:
    """Takes one request in."""

    __slots__ = ("_digests", "_in_memory", "_incoming", "_principal", "_relay", "_route")

    def __init__(self, relay: Relay, incoming: Incoming, route: Route, principal: Principal) -> None:
        self._relay = relay
        self._incoming = incoming
        self._route = route
        self._principal = principal
        self._digests = Digests()
        self._in_memory = 0

    def arrived(self) -> None:
        """More content is there. Raises GatewayError, when there is no memory for it."""
        self._relay.hold(self._principal.tenant_pseudonym, self._incoming.size - self._in_memory)
        self._in_memory = self._incoming.size
        self._digests.catch_up(self._incoming.parts)

    def finish(self) -> Taken:
        """All of it is there: judge it. Raises GatewayError."""
        relay, principal = self._relay, self._principal
        raw = self._incoming.content()
        found = body.inspect(raw, self._route, relay.models, lambda own: relay.salt_for(principal, own))
        received, sent = self._digests.finish(raw, found.forwarded, found.shared)
        return Taken(
            found.model,
            found.rewritten,
            Content(len(raw), received),
            Content(len(found.forwarded), sent),
            found.forwarded,
            conversation.recognise(self._incoming.headers, found.prompt_cache_key, principal),
        )

    def let_go(self) -> None:
        """Its bytes are no longer needed: the engine has them, or nobody will."""
        if self._in_memory:
            self._relay.let_go(self._principal.tenant_pseudonym, self._in_memory)
            self._in_memory = 0
