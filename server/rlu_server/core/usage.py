"""Token usage and the ordinary end of an answer, as the engine wrote them (OpenAI's and Anthropic's field names).

These types read a few members and skip the rest; a member of another type than expected counts as absent. Nothing here can fail:
the answer was relayed before anyone looks at it.
"""

from __future__ import annotations

import enum
import re
from typing import Annotated

import msgspec
from msgspec import Meta

from rlu_server.core.routes import Api

Count = Annotated[int, Meta(ge=0, lt=2**53)]


class Usage(msgspec.Struct, frozen=True):
    """Token counts as found in the bytes relayed."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0


class End(enum.Enum):
    """How an answer ended, going by its content."""

    ORDINARY = "ordinary"
    ERROR = "error"
    NONE = "none"
    """No terminal event was seen."""


class _Details(msgspec.Struct):
    cached_tokens: Count | None = None


class _Counts(msgspec.Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None


class Inner(msgspec.Struct):
    """`response` of a Responses event, `message` of a Messages event."""

    status: str | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")


class Event(msgspec.Struct):
    """The members of an event, or of a whole JSON answer, that matter here."""

    type: str | None = None
    status: msgspec.Raw = msgspec.Raw(b"null")
    usage: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")
    response: msgspec.Raw = msgspec.Raw(b"null")
    message: msgspec.Raw = msgspec.Raw(b"null")


_decode_event = msgspec.json.Decoder(Event).decode
_decode_inner = msgspec.json.Decoder(Inner).decode
_decode_counts = msgspec.json.Decoder(_Counts).decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_LAST_USAGE = re.compile(rb'"usage":\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')


def event(data: bytes) -> Event | None:
    """One event's JSON; None when it is not an object of that kind."""
    try:
        return _decode_event(data)
    except _UNREADABLE:
        return None


def inner(raw: msgspec.Raw) -> Inner | None:
    """The nested object that carries status and usage."""
    try:
        return _decode_inner(raw)
    except _UNREADABLE:
        return None


def is_null(raw: msgspec.Raw) -> bool:
    return bytes(raw) == b"null"


def merge(earlier: Usage | None, raw: msgspec.Raw | bytes) -> Usage | None:
    """Counts of a usage object laid over those of an earlier one, which some APIs spread over two events."""
    try:
        counts = _decode_counts(raw)
    except _UNREADABLE:
        return earlier
    given_in = counts.input_tokens if counts.prompt_tokens is None else counts.prompt_tokens
    given_out = counts.output_tokens if counts.completion_tokens is None else counts.completion_tokens
    details = counts.prompt_tokens_details or counts.input_tokens_details
    cached = details.cached_tokens if details else None
    if cached is None:
        cached = counts.cache_read_input_tokens
    if given_in is None and given_out is None:
        return earlier
    before = earlier or Usage(0, 0)
    return Usage(
        before.input_tokens if given_in is None else given_in,
        before.output_tokens if given_out is None else given_out,
        before.cached_input_tokens if cached is None else cached,
    )


def of_document(api: Api, data: bytes) -> tuple[End, Usage | None]:
    """End and usage of a complete JSON answer."""
    document = event(data)
    if document is None or not is_null(document.error):
        return End.ERROR, None
    if api is Api.RESPONSES and bytes(document.status) in (b'"failed"', b'"cancelled"'):
        return End.ERROR, merge(None, document.usage)
    return End.ORDINARY, merge(None, document.usage)


def of_tail(data: bytes) -> Usage | None:
    """Usage from the last bytes of an answer too long to keep: `usage` comes last or nearly last."""
    found = _LAST_USAGE.findall(data)
    return merge(None, found[-1]) if found else None
