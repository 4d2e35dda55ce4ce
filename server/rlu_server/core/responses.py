"""State of the OpenAI Responses API: what a request asks to be kept or continued, and what is answered from what was kept.

A conversation is continued by putting the items of all earlier requests and answers before the new request's own, each byte for byte as
it passed (`instructions` are not carried over; OpenAI does not either). Nothing here holds or finds anything; `adapters/responses.py` does.

Not offered, and refused by name: `background`, `conversation`, streaming a stored answer again, cancelling (only background ones can be).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import orjson

from rlu_server.core.errors import GatewayError

PREFIX = b"/v1/responses/"
LABEL = "/v1/responses/{id}"
"""Name of all these routes in metrics, where ids have no place."""
MAX_LIMIT = 100
_ID = re.compile(r"resp_[a-z0-9_-]{1,32}", re.ASCII)
_PATH = re.compile(rb"/v1/responses/([^/]{1,64})(?:/(cancel|input_items))?")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_INCLUDABLE = frozenset(
    {
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
        "file_search_call.results",
        "message.input_image.image_url",
        "message.output_text.logprobs",
        "reasoning.encrypted_content",
        "web_search_call.action.sources",
        "web_search_call.results",
    }
)
"""What OpenAI leaves out unless it is named. Items are kept and returned whole, so naming them changes nothing."""
_REFERENCE = "item_reference"
REFERENCE_MARK = b'"item_reference"'
"""Where this is not in a body, nothing is referred to."""
_NAMED = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


class Keep(enum.Enum):
    """Should the answer be kept?"""

    NO = "no"
    DEFAULT = "default"
    """Nothing was said, and the API's default is yes. It gives way when room is short."""
    ASKED = "asked"
    """`store: true`, or the request continues a kept answer and so relies on the store."""


class Asked(msgspec.Struct, frozen=True):
    """What a request says about state. `input` is the verbatim value of that field; `references` the ids of kept items it refers to."""

    keep: Keep
    previous: str | None
    input: bytes
    references: tuple[str, ...] = ()

    @property
    def continues(self) -> bool:
        """Does it need anything that was kept?"""
        return self.previous is not None or bool(self.references)


class Operation(enum.Enum):
    """What is done with a kept answer."""

    RETRIEVE = "retrieve"
    DELETE = "delete"
    CANCEL = "cancel"
    INPUT_ITEMS = "input_items"


_OPERATIONS = {
    (b"GET", b""): Operation.RETRIEVE,
    (b"DELETE", b""): Operation.DELETE,
    (b"POST", b"cancel"): Operation.CANCEL,
    (b"GET", b"input_items"): Operation.INPUT_ITEMS,
}
_METHODS = {b"": "GET or DELETE", b"cancel": "POST", b"input_items": "GET"}


def operation(method: bytes, path: bytes) -> tuple[Operation, str]:
    """What a request below `PREFIX` is about, with the id it names; the id may be anything.

    Raises:
        GatewayError: `route_not_found`, `method_not_allowed`.
    """
    found = _PATH.fullmatch(path)
    if found is None:
        raise GatewayError("route_not_found")
    tail = found[2] or b""
    wanted = _OPERATIONS.get((method, tail))
    if wanted is None:
        raise GatewayError("method_not_allowed", f"Use {_METHODS[tail]} for this route.")
    return wanted, found[1].decode("latin-1")


def keepable(response_id: str) -> bool:
    """Is this an id that can be kept? Receipts name the route, and with it the id, in an alphabet of their own."""
    return _ID.fullmatch(response_id) is not None


# --- continuing -------------------------------------------------------------------------------------------------------


class _Answer(msgspec.Struct):
    id: str
    status: str
    output: msgspec.Raw
    model: Annotated[str, msgspec.Meta(max_length=256)] = ""


class Finished(msgspec.Struct, frozen=True):
    """What must be known of a response object; `output` as `inner` gives it."""

    id: str
    model: str
    output: bytes


class _Head(msgspec.Struct):
    id: Any = None
    type: Any = "message"


_answer = msgspec.json.Decoder(_Answer).decode
_head = msgspec.json.Decoder(_Head).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def finished(response: bytes) -> Finished | None:
    """A response object that is complete, or incomplete for good, and that can be kept; else None."""
    try:
        answer = _answer(response)
        output = inner(bytes(answer.output))
    except (*_UNREADABLE, GatewayError):
        return None
    if answer.status not in ("completed", "incomplete") or not keepable(answer.id):
        return None
    return Finished(answer.id, answer.model, output)


def inner(value: bytes) -> bytes:
    """The items of an `input` or `output`, as JSON without the brackets around them; text is one message of the user's.

    Raises:
        GatewayError: `field_type`.
    """
    try:
        if value.startswith(b'"'):
            return b'{"type":"message","role":"user","content":%b}' % value
        _items(value)
    except _UNREADABLE as error:
        raise GatewayError("field_type", "`input` must be a string or an array.", param="input") from error
    return value[1:-1].strip()


def references(value: bytes) -> tuple[str, ...]:
    """Ids of the kept items that an `input` refers to (`item_reference`), in their order.

    Raises:
        GatewayError: `field_type`, when one has no id, or an item is referred to twice, as OpenAI refuses it too.
    """
    found: dict[str, None] = {}
    for item in _listed(value):
        head = _head_of(item)
        if head.type == _REFERENCE:
            if not isinstance(head.id, str):
                raise GatewayError("field_type", "An `item_reference` must have an `id`.", param="input")
            if head.id in found:
                raise GatewayError("field_type", "`input` refers to one item twice.", param="input")
            found[head.id] = None
    return tuple(found)


def resolved(value: bytes, items: Sequence[bytes]) -> bytes:
    """An `input` with these items in the place of its references."""
    rest = iter(items)
    parts = [next(rest) if _head_of(item).type == _REFERENCE else bytes(item) for item in _listed(value)]
    return b"[%b]" % joined(parts)


def named(items: bytes) -> dict[str, bytes]:
    """The items that have an id of their own, by it; of one id the last. `items` as `inner` gives them."""
    found: dict[str, bytes] = {}
    for item in _listed(b"[%b]" % items):
        name = _head_of(item).id
        if isinstance(name, str):
            found[name] = bytes(item)
    return found


def joined(parts: Iterable[bytes | bytearray]) -> bytes:
    """Items of several requests and answers behind one another."""
    return b",".join(part for part in parts if part)


# --- answering --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """Which of a response's input items are wanted."""

    after: str | None = None
    limit: int = 20
    descending: bool = True


def check_retrieval(query: bytes) -> None:
    """Raises GatewayError: `query_invalid`."""
    for name, value in _pairs(query):
        if name == "include":
            _check_include(value)
        elif name == "stream" and value == "false":
            continue
        elif name == "stream":
            raise GatewayError(
                "query_invalid", "A kept response is not streamed again; leave `stream` out.", param="stream"
            )
        else:
            raise GatewayError("query_invalid", "Only `include` is understood here.")


def page(query: bytes) -> Page:
    """Raises GatewayError: `query_invalid`."""
    chosen: dict[str, str] = {}
    for name, value in _pairs(query):
        if name == "include":
            _check_include(value)
        elif name in ("after", "limit", "order") and name not in chosen:
            chosen[name] = value
        else:
            raise GatewayError(
                "query_invalid", "Only `after`, `limit`, `order` and `include` are understood, once each."
            )
    limit = chosen.get("limit", "20")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 3 and 1 <= int(limit) <= MAX_LIMIT):
        raise GatewayError("query_invalid", f"`limit` must be 1 to {MAX_LIMIT}.", param="limit")
    order = chosen.get("order", "desc")
    if order not in ("asc", "desc"):
        raise GatewayError("query_invalid", "`order` must be `asc` or `desc`.", param="order")
    return Page(chosen.get("after"), int(limit), order == "desc")


def listing(items: bytes, response_id: str, wanted: Page) -> bytes:
    """One page of input items, as `GET …/input_items` answers.

    Raises:
        GatewayError: `query_invalid`, when there is no item that `after` names.
    """
    # Only what is shown is built: a conversation may be megabytes.
    every = [(_name(item, index, response_id), item) for index, item in enumerate(_items(b"[%b]" % items))]
    if wanted.descending:
        every.reverse()
    start = 0
    if wanted.after is not None:
        names = [name for name, _ in every]
        if wanted.after not in names:
            raise GatewayError("query_invalid", "There is no item that `after` names.", param="after")
        start = names.index(wanted.after) + 1
    data = [
        _shown(name, orjson.loads(memoryview(item))) for name, item in every[start : start + wanted.limit]
    ]
    return orjson.dumps(
        {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": start + wanted.limit < len(every),
        }
    )


def deleted(response_id: str) -> bytes:
    """The answer to a deletion."""
    return orjson.dumps({"id": response_id, "object": "response", "deleted": True})


def _listed(value: bytes) -> list[msgspec.Raw]:
    try:
        return [] if value.startswith(b'"') else _items(value)
    except _UNREADABLE as error:
        raise GatewayError("field_type", "`input` must be a string or an array.", param="input") from error


def _head_of(item: msgspec.Raw) -> _Head:
    try:
        return _head(item)
    except _UNREADABLE:
        return _Head(type="")


def _name(item: msgspec.Raw, index: int, response_id: str) -> str:
    """An item's id: its own, or one that is the same each time."""
    head = _head_of(item)
    if isinstance(head.id, str):
        return head.id
    kind = _NAMED.get(head.type, "item") if isinstance(head.type, str) else "item"
    return f"{kind}_{response_id.removeprefix('resp_')}_{index}"


def _shown(name: str, item: object) -> dict[str, Any]:
    """An item as the API lists it: with an id, and a message's content as parts."""
    shown: dict[str, Any] = dict(item) if isinstance(item, Mapping) else {"type": "unknown"}
    shown["id"] = name
    content = shown.get("content")
    if shown.setdefault("type", "message") == "message" and isinstance(content, str):
        part = "output_text" if shown.get("role") == "assistant" else "input_text"
        shown["content"] = [{"type": part, "text": content}]
    return shown


def _pairs(query: bytes) -> Sequence[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for pair in query.split(b"&") if query else ():
        name, _, value = pair.partition(b"=")
        found.append((_unescaped(name).removesuffix("[]"), _unescaped(value)))
    return found


def _unescaped(text: bytes) -> str:
    return _ESCAPE.sub(lambda found: bytes((int(found[1], 16),)), text).decode("utf-8", "replace")


def _check_include(value: str) -> None:
    if value not in _INCLUDABLE:
        raise GatewayError("query_invalid", "`include` names nothing that is known here.", param="include")
