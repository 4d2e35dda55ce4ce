"""One look at a request body: what the gateway must know, what it refuses, and what it forwards.

The top level is parsed into verbatim slices; values are never built unless a rule needs to look inside. What is forwarded is either the
body as it came with the salt appended before its last brace, or, when a field of ours has to go (or the top level is spelled in a way
two parsers could read differently: duplicate keys, white space, escapes in keys), the same slices put together again. Either way the
engine sees exactly the fields that were inspected here, and every value byte for byte.

Which fields are the gateway's own comes from vLLM's protocol (see `DROPPED` and `REFUSED`). Not done here: validation of the APIs'
own fields; the engine does that, and its answers name them better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import msgspec
import orjson

from rlu_server.core import responses
from rlu_server.core.errors import GatewayError
from rlu_server.core.limits import extent
from rlu_server.core.responses import Asked, Keep
from rlu_server.core.routes import Api, Route
from rlu_server.core.search import contains

DROPPED = ("data_parallel_rank", "priority", "request_id", "session_id")
"""Scheduling and naming inside the engine: harmless to lose, so requests that carry them still work."""
REFUSED = (
    "chat_template",
    "ec_transfer_params",
    "kv_transfer_params",
    "media_io_kwargs",
    "mm_processor_kwargs",
    "vllm_xargs",
)
"""What would reach into the engine or change how a prompt is built: dropping it silently would give another answer than asked for."""
SPELLING = "spelling"
"""In place of a field's name: white space, escapes or duplicate keys of the top level were written anew, nothing else."""
_REFUSED = frozenset(REFUSED)
_NOT_PASSED_ON = frozenset((*DROPPED, *REFUSED))
MEDIA_HOLDERS = ("messages", "input", "system", "prompt")
_FLEX = msgspec.Raw(b'"flex"')

# In JSON text a quote inside a string is always escaped, so these byte sequences can only be whole tokens or the end of one.
_MEDIA_MARKS = (b'_url"', b'"source"')
_ESCAPE = b"\\u00"
_ESCAPED_LETTERS = (b"\\u004", b"\\u005", b"\\u006", b"\\u007")
_DATA_URL = "data:"

_decode_top = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text_decoder: msgspec.json.Decoder[str | None] = msgspec.json.Decoder(str | None)
_flag_decoder: msgspec.json.Decoder[bool | None] = msgspec.json.Decoder(bool | None)
_encode = msgspec.json.Encoder().encode


class Inspected(msgspec.Struct, frozen=True):
    """What came out.

    Attributes:
        model: the name the engine serves, after aliases.
        forwarded: the content to send to the engine.
        shared: so many leading bytes of `forwarded` equal those of the original, which lets a digest be shared.
        rewritten: sorted names of the fields in which the two differ; `("spelling",)` when no field does, and the bytes do.
        output_limit: tokens that each answer may have, if the client says so in its API's way.
        answers: so many are asked for: `n`, for each of several prompts.
        flex: OpenAI's cheaper service tier is asked for.
        asked: what it wants kept or continued; None where there is nothing of that. What it continues is not in `forwarded` yet.
    """

    model: str
    stream: bool
    prompt_cache_key: str | None
    forwarded: bytes
    shared: int
    rewritten: tuple[str, ...]
    asked: Asked | None = None
    output_limit: int | None = None
    answers: int = 1
    flex: bool = False


class Models(Protocol):
    """Names clients may use (`names.Names`)."""

    def get(self, name: str, /) -> str | None:
        """The engine's name for it."""


def inspect(raw: bytes, route: Route, models: Models, salt_for: Callable[[str | None], str]) -> Inspected:
    """Judge and rewrite one body.

    Args:
        models: names clients may use, each with the engine's name for it.
        salt_for: the tenant's salt, given the client's own `cache_salt`.

    Raises:
        GatewayError: `json_malformed`, `json_too_deep`, `body_not_object`, `field_missing`, `field_type`, `field_not_allowed`,
            `remote_media`, `background_unsupported`, `state_unsupported` (`conversation`), `model_not_found`.
    """
    fields = _parse(raw)
    changes: dict[str, bytes | None] = {}
    for name in sorted(_NOT_PASSED_ON.intersection(fields)):
        if name in _REFUSED and _present(fields, name):
            raise GatewayError("field_not_allowed", f"`{name}` is not accepted by this server.", param=name)
        changes[name] = None
    asked = _asked(raw, fields) if route.api is Api.RESPONSES else None
    if asked is not None and asked.previous is not None:
        changes["previous_response_id"] = None
    if "chat_template_kwargs" in fields:
        _refuse_template_override(fields["chat_template_kwargs"])
    _refuse_remote_media(raw, fields)
    requested = _model(fields)
    model = models.get(requested)
    if model is None:
        raise GatewayError("model_not_found", param="model")
    if model != requested:
        changes["model"] = _encode(model)
    client_salt = _text(fields, "cache_salt")
    if route.salted:
        changes["cache_salt"] = b'"' + salt_for(client_salt).encode("ascii") + b'"'
    elif "cache_salt" in fields:
        changes["cache_salt"] = None
    forwarded, shared = _rewrite(raw, fields, changes)
    return Inspected(
        model=model,
        stream=_flag(fields, "stream"),
        prompt_cache_key=_text(fields, "prompt_cache_key"),
        forwarded=forwarded,
        shared=shared,
        rewritten=tuple(sorted(changes)) or (() if forwarded is raw else (SPELLING,)),
        asked=asked,
        output_limit=extent.output_limit(fields, route.api),
        answers=extent.answers(fields, route.api),
        flex=fields.get("service_tier") == _FLEX,
    )


def resume(forwarded: bytes, earlier: bytes, own: bytes) -> bytes:
    """The content to forward with the items of earlier requests and answers before its own.

    Args:
        own: the request's items, with what they refer to in its place.
    """
    fields = _parse(forwarded)
    items = responses.joined((earlier, own))
    fields["input"] = msgspec.Raw(b"[%b]" % items)
    return _encode(fields)


def _parse(raw: bytes) -> dict[str, msgspec.Raw]:
    try:
        raw.decode("utf-8")  # slices are not looked into, so the encoding is checked for all of them at once
        return _decode_top(raw)
    except RecursionError as error:
        raise GatewayError("json_too_deep") from error
    except msgspec.ValidationError as error:
        raise GatewayError("body_not_object") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise GatewayError("json_malformed") from error


def _rewrite(
    raw: bytes, fields: dict[str, msgspec.Raw], changes: dict[str, bytes | None]
) -> tuple[bytes, int]:
    if changes.keys().isdisjoint(fields) and _encode(fields) == raw:
        # Spelled the one way that leaves no room for a second reading: what was inspected is what the bytes say.
        added = [b',"%b":%b' % (name.encode("ascii"), value) for name, value in changes.items() if value]
        return (raw[:-1] + b"".join(added) + b"}", len(raw) - 1) if added else (raw, len(raw))
    for name, value in changes.items():
        fields.pop(name, None)
        if value is not None:
            fields[name] = msgspec.Raw(value)
    return _encode(fields), 0


def _asked(raw: bytes, fields: dict[str, msgspec.Raw]) -> Asked | None:
    if _flag(fields, "background"):
        raise GatewayError("background_unsupported", param="background")
    if _present(fields, "conversation"):
        raise GatewayError(
            "state_unsupported",
            "Conversations are not kept here; use `previous_response_id`, or send the whole conversation as `input`.",
            param="conversation",
        )
    previous = _text(fields, "previous_response_id")
    keep = Keep.DEFAULT
    if _present(fields, "store"):
        keep = Keep.ASKED if _flag(fields, "store") else Keep.NO
    refers = contains(raw, responses.REFERENCE_MARK)
    if keep is Keep.NO and previous is None and not refers:
        return None
    given = bytes(fields.get("input", b"[]"))
    references = responses.references(given) if refers else ()
    if keep is Keep.DEFAULT and (previous is not None or references):
        keep = Keep.ASKED
    return Asked(keep, previous, given, references)


def _refuse_template_override(value: msgspec.Raw) -> None:
    inner = _loads(value)
    if inner is None:
        return
    if not isinstance(inner, dict):
        raise GatewayError(
            "field_type", "`chat_template_kwargs` must be an object.", param="chat_template_kwargs"
        )
    if (
        not all(item is None or isinstance(item, (bool, int, str)) for item in inner.values())
        or "chat_template" in inner
    ):
        raise GatewayError(
            "field_not_allowed",
            "`chat_template_kwargs` may hold only strings, integers and booleans, and no `chat_template`.",
            param="chat_template_kwargs",
        )


def _refuse_remote_media(raw: bytes, fields: dict[str, msgspec.Raw]) -> None:
    """A URL the engine would fetch is a way out of the boundary, and a way into it (SSRF)."""
    if not (
        _contains_any(raw, _MEDIA_MARKS) or (contains(raw, _ESCAPE) and _contains_any(raw, _ESCAPED_LETTERS))
    ):
        return
    for name in MEDIA_HOLDERS:
        if name in fields and any(not url.startswith(_DATA_URL) for url in _media_urls(_loads(fields[name]))):
            raise GatewayError("remote_media", param=name)


def _contains_any(raw: bytes, marks: Iterable[bytes]) -> bool:
    # Asked for every body: written out, a generator takes twice as long.
    for mark in marks:  # noqa: SIM110
        if contains(raw, mark):
            return True
    return False


def _media_urls(tree: object) -> Iterator[str]:
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            for key, value in node.items():
                if key.endswith("_url") or key == "source":
                    # A bare string under `source` is a citation's origin, which nobody fetches.
                    url = value.get("url") if isinstance(value, dict) else value
                    if isinstance(url, str) and (key != "source" or url is not value):
                        yield url
                stack.append(value)


def _model(fields: dict[str, msgspec.Raw]) -> str:
    model = _text(fields, "model")
    if not model:
        raise GatewayError("field_missing", "`model` is missing.", param="model")
    return model


def _text(fields: dict[str, msgspec.Raw], name: str) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    try:
        return _text_decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise GatewayError("field_type", f"`{name}` must be a string.", param=name) from error


def _flag(fields: dict[str, msgspec.Raw], name: str) -> bool:
    value = fields.get(name)
    if value is None:
        return False
    try:
        return _flag_decoder.decode(value) is True
    except msgspec.MsgspecError as error:
        raise GatewayError("field_type", f"`{name}` must be true or false.", param=name) from error


def _present(fields: dict[str, msgspec.Raw], name: str) -> bool:
    return name in fields and bytes(fields[name]) != b"null"


def _loads(value: msgspec.Raw) -> object:
    try:
        return orjson.loads(memoryview(value))
    except orjson.JSONDecodeError as error:
        raise GatewayError("json_malformed") from error
