"""A relayed request until it is complete: memory for its content, its digests while it arrives, and the one look at its body.

Compressed content is undone while it arrives, a slice at a time. What the receipt commits to as the request is what was received; what
counts as memory is both.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from rlu_server.adapters.http1 import Digests, Incoming
from rlu_server.adapters.recorder import Content
from rlu_server.core import body, conversation
from rlu_server.core.apikeys import Principal
from rlu_server.core.coding import IDENTITY, Decompression
from rlu_server.core.conversation import Conversation, Explicit
from rlu_server.core.errors import GatewayError
from rlu_server.core.limits import asking
from rlu_server.core.limits.rules import Priority
from rlu_server.core.responses import Asked
from rlu_server.core.routes import Route

if TYPE_CHECKING:
    from rlu_server.adapters.relay import Relay


CODED = "content-encoding"
"""Among the rewritten fields: what was received was compressed."""


class Taken(msgspec.Struct, frozen=True):
    """A request that was inspected; `content` is what the engine gets. `asked`: what is to be kept or continued."""

    model: str
    rewritten: tuple[str, ...]
    received: Content
    forwarded: Content
    content: bytes
    where: Explicit | Conversation
    asked: Asked | None = None
    output_limit: int | None = None
    answers: int = 1
    stream: bool = False
    priority: Priority = Priority.INTERACTIVE

    @property
    def key(self) -> bytes:
        """Of the conversation, for the choice of an engine."""
        return self.where.key if isinstance(self.where, Conversation) else self.where.session.encode("utf-8")


class Intake:
    """Takes one request in."""

    __slots__ = (
        "_coded",
        "_digests",
        "_in_memory",
        "_incoming",
        "_principal",
        "_relay",
        "_route",
    )

    def __init__(self, relay: Relay, incoming: Incoming, route: Route, principal: Principal) -> None:
        self._relay = relay
        self._incoming = incoming
        self._route = route
        self._principal = principal
        self._digests = Digests()
        self._in_memory = 0
        coding = incoming.coding()
        most = relay.settings.max_body_bytes
        self._coded = None if coding == IDENTITY else Decompression(coding, most)

    def arrived(self) -> None:
        """More content is there. Raises GatewayError, when there is no memory for it or it cannot be undone."""
        if self._coded is None:
            self._hold(self._incoming.size)
            self._digests.catch_up(self._incoming.parts)
            return
        parts, self._incoming.parts = self._incoming.parts, []
        for part in parts:
            self._digests.add(part)
            self._coded.feed(part)
        self.undo()

    def undo(self) -> bool:
        """Undo a slice of what is compressed; is all undone that has arrived? Raises GatewayError."""
        if self._coded is None:
            return True
        done = self._coded.step()
        self._hold(self._incoming.size + self._coded.size)
        return done

    def finish(self) -> Taken:
        """All of it is there, and undone: judge it. Raises GatewayError."""
        relay, principal = self._relay, self._principal
        coded = self._coded
        raw = self._incoming.content() if coded is None else coded.finish()
        found = body.inspect(raw, self._route, relay.models, lambda own: relay.salt_for(principal, own))
        rewritten = found.rewritten
        if coded is None:
            received, sent = self._digests.finish(raw, found.forwarded, found.shared)
        else:
            received, sent = self._digests.whole(), hashlib.sha256(found.forwarded).digest()
            rewritten = tuple(sorted({*rewritten, CODED}))
        return Taken(
            found.model,
            rewritten,
            Content(self._incoming.size, received),
            Content(len(found.forwarded), sent),
            found.forwarded,
            conversation.recognise(self._incoming.headers, found.prompt_cache_key, principal),
            found.asked,
            found.output_limit,
            found.answers,
            found.stream,
            asking.asked(self._incoming.headers, flex=found.flex),
        )

    def resume(self, taken: Taken, earlier: bytes, own: bytes) -> Taken:
        """The request with the items of what it continues before its own. Raises GatewayError."""
        content = body.resume(taken.content, earlier, own)
        if len(content) > self._relay.settings.max_body_bytes:
            raise GatewayError(
                "body_too_large", "The conversation has become larger than this server accepts."
            )
        self._hold(self._in_memory + len(content))
        return msgspec.structs.replace(
            taken,
            rewritten=tuple(sorted({*taken.rewritten, "input"})),
            forwarded=Content(len(content), hashlib.sha256(content).digest()),
            content=content,
        )

    def _hold(self, size: int) -> None:
        relay, principal = self._relay, self._principal
        relay.hold(principal.tenant_pseudonym, size - self._in_memory, relay.gate.scratch_bytes(principal))
        self._in_memory = size

    def let_go(self) -> None:
        """Its bytes are no longer needed: the engine has them, or nobody will."""
        if self._in_memory:
            self._relay.let_go(self._principal.tenant_pseudonym, self._in_memory)
            self._in_memory = 0
