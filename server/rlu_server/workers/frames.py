"""What workers and their hub say to each other: `u32` big-endian length, then one MessagePack array of messages, as many as one turn had.

Both ends are the same program in the same start, so there are no versions. What cannot be decoded ends the connection. `id` is the
worker's, one series for each kind of question.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from rlu_server.adapters.gate import Ask
from rlu_server.adapters.opener import Opening
from rlu_server.adapters.recorder import Outcome
from rlu_server.attestor.messages import Posture
from rlu_server.core.apikeys import Principal
from rlu_server.core.auth.credentials import Peer
from rlu_server.core.conversation import Conversation, Explicit
from rlu_server.core.errors import GatewayError
from rlu_server.core.limits.accounts import Left, LimitReached, Standing
from rlu_server.core.responses import Asked
from rlu_server.core.tracing import Span

MAX_FRAME = 1 << 30


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of all messages."""


# --- values that are not messages ---


class Error(Message, frozen=True):
    """A GatewayError."""

    code: str
    message: str
    param: str | None
    retry_after_s: int | None
    standing: LimitStanding | None = None

    @classmethod
    def of(cls, error: GatewayError) -> Error:
        standing = LimitStanding.of(error.standing) if isinstance(error, LimitReached) else None
        return cls(error.code, error.message, error.param, error.retry_after_s, standing)

    def error(self) -> GatewayError:
        if self.standing is not None:
            return LimitReached(self.code, self.message, self.retry_after_s or 0, self.standing.standing())
        return GatewayError(self.code, self.message, param=self.param, retry_after_s=self.retry_after_s)


class LimitLeft(Message, frozen=True):
    limit: int
    remaining: int
    reset_s: float

    @classmethod
    def of(cls, left: Left | None) -> LimitLeft | None:
        return None if left is None else cls(left.limit, left.remaining, left.reset_s)

    def left(self) -> Left:
        return Left(self.limit, self.remaining, self.reset_s)


class LimitStanding(Message, frozen=True):
    """A `Standing` of the limits."""

    requests: LimitLeft | None
    tokens: LimitLeft | None

    @classmethod
    def of(cls, standing: Standing | None) -> LimitStanding | None:
        if standing is None:
            return None
        return cls(LimitLeft.of(standing.requests), LimitLeft.of(standing.tokens))

    def standing(self) -> Standing:
        return Standing(
            None if self.requests is None else self.requests.left(),
            None if self.tokens is None else self.tokens.left(),
        )


class Where(Message, frozen=True):
    """An `Explicit` session or a `Conversation`: exactly one is there."""

    session: str | None
    conversation: bytes | None

    @classmethod
    def of(cls, where: Explicit | Conversation) -> Where:
        return cls(where.session, None) if isinstance(where, Explicit) else cls(None, where.key)

    def where(self) -> Explicit | Conversation:
        return Explicit(self.session) if self.session is not None else Conversation(self.conversation or b"")


# --- from a worker ---


class Hello(Message, frozen=True, tag=0):
    """The first: what the lock measured in this worker."""

    posture: Posture


class Enter(Message, frozen=True, tag=1):
    """`Turnstile.enter`; answered by `LetIn` or `TurnedAway`."""

    id: int
    principal: Principal
    ask: Ask


class Leave(Message, frozen=True, tag=2):
    id: int
    tokens: int | None


class Admit(Message, frozen=True, tag=3):
    """`Admissions.admit`; answered by `Accepted` and `Admitted`, or by `Refused` in place of either."""

    id: int
    principal: Principal
    where: Where
    opening: Opening


class Record(Message, frozen=True, tag=4):
    """`Admissions.record` of what was admitted."""

    id: int
    outcome: Outcome


class Begin(Message, frozen=True, tag=5):
    """`Responses.begin`; answered by `Begun`."""

    id: int
    principal: Principal
    where: Where
    asked: Asked
    size: int


class Keep(Message, frozen=True, tag=6):
    ticket: int
    session: str
    response: bytes


class Drop(Message, frozen=True, tag=7):
    ticket: int


class Find(Message, frozen=True, tag=8):
    """`Responses.find`; answered by `Found`."""

    id: int
    principal: Principal
    response: str
    items: bool


class Delete(Message, frozen=True, tag=9):
    principal: Principal
    response: str


class Own(Message, frozen=True, tag=10):
    """A request for one of our own routes; answered by `OwnStart` and `OwnBody`, or by `OwnFailed` in place of either."""

    id: int
    method: str
    path: str
    raw_path: bytes
    query: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    request_id: str
    peer: Peer
    content: bytes


class OwnGone(Message, frozen=True, tag=11):
    """Nobody waits for the answer any more."""

    id: int


class Report(Message, frozen=True, tag=12):
    """Connections now, what was counted since the last report, memory held for request content, by tenant, and what was traced."""

    connections: int
    counts: dict[str, Any]
    held: dict[str, int]
    spans: list[Span] = []


ToHub = Hello | Enter | Leave | Admit | Record | Begin | Keep | Drop | Find | Delete | Own | OwnGone | Report

# --- from the hub ---


class State(Message, frozen=True, tag=0):
    """Whether the attestor is there, and whether we drain. The first lets a worker accept connections."""

    attestor: bool
    draining: bool


class LetIn(Message, frozen=True, tag=1):
    id: int
    standing: LimitStanding | None
    engine_lines: bytes


class TurnedAway(Message, frozen=True, tag=2):
    id: int
    error: Error


class Accepted(Message, frozen=True, tag=3):
    id: int


class Admitted(Message, frozen=True, tag=4):
    id: int
    session: str
    announced: int


class Refused(Message, frozen=True, tag=5):
    id: int
    error: Error


class Begun(Message, frozen=True, tag=6):
    """`error`, or the others."""

    id: int
    earlier: bytes
    own: bytes
    ticket: int | None
    error: Error | None


class Found(Message, frozen=True, tag=7):
    """`error`, or the others."""

    id: int
    session: str
    model: str
    response: bytes
    items: bytes
    error: Error | None


class OwnStart(Message, frozen=True, tag=8):
    id: int
    status: int
    headers: list[tuple[bytes, bytes]]


class OwnBody(Message, frozen=True, tag=9):
    id: int
    content: bytes
    more: bool


class OwnFailed(Message, frozen=True, tag=10):
    id: int


class Stop(Message, frozen=True, tag=11):
    """`Relay.stop_exchanges`."""

    session: str | None
    error: Error


class ReleaseIdle(Message, frozen=True, tag=12):
    """`Relay.release_idle`."""


class Elsewhere(Message, frozen=True, tag=13):
    """What the other workers have: connections, and memory for request content by tenant."""

    connections: int
    held: dict[str, int]


ToWorker = (
    State
    | LetIn
    | TurnedAway
    | Accepted
    | Admitted
    | Refused
    | Begun
    | Found
    | OwnStart
    | OwnBody
    | OwnFailed
    | Stop
    | ReleaseIdle
    | Elsewhere
)

_encode = msgspec.msgpack.Encoder().encode
T = TypeVar("T")


class FrameError(Exception):
    """The peer sent something that is not a frame; the connection is of no further use."""


def encode(messages: Sequence[Message]) -> bytes:
    """One frame."""
    payload = _encode(messages)
    return len(payload).to_bytes(4, "big") + payload


class Reader(Generic[T]):
    """Cuts a byte stream into messages."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[list[T]]) -> None:
        self._decode = decoder.decode
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[T]:
        """All messages of frames that are complete now. Raises FrameError."""
        buffer = self._buffer
        buffer += data
        found: list[T] = []
        start = 0
        while len(buffer) - start >= 4:
            size = int.from_bytes(buffer[start : start + 4], "big")
            if size > MAX_FRAME:
                raise FrameError("the frame is too long")
            end = start + 4 + size
            if len(buffer) < end:
                break
            try:
                found += self._decode(memoryview(buffer)[start + 4 : end])
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise FrameError("not a frame of this protocol") from error
            start = end
        if start:
            del buffer[:start]
        return found


TO_HUB: msgspec.msgpack.Decoder[list[ToHub]] = msgspec.msgpack.Decoder(list[ToHub])
TO_WORKER: msgspec.msgpack.Decoder[list[ToWorker]] = msgspec.msgpack.Decoder(list[ToWorker])
