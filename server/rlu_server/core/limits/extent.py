"""How much a request asks for: the tokens that each answer may have, and how many answers there will be."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rlu_server.core.routes import Api

OUTPUT_LIMITS = {
    Api.CHAT: ("max_completion_tokens", "max_tokens"),
    Api.COMPLETIONS: ("max_tokens",),
    Api.RESPONSES: ("max_output_tokens",),
    Api.MESSAGES: ("max_tokens",),
}
"""The first that is there counts, as it does for the engine. Other APIs' names say nothing: who wrote them would be held to less than it
may use."""
MAX_ANSWERS = 4096

_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


def output_limit(fields: Mapping[str, msgspec.Raw], api: Api) -> int | None:
    """Tokens that each answer may have. Whatever is no plain number is for the engine to judge."""
    for name in OUTPUT_LIMITS.get(api, ()):
        if name in fields:
            value = bytes(fields[name])
            if value != b"null":
                return _number(value)
    return None


def answers(fields: Mapping[str, msgspec.Raw], api: Api) -> int:
    """`n`, for each of several prompts."""
    if api not in (Api.CHAT, Api.COMPLETIONS):
        return 1
    prompts = _prompts(fields["prompt"]) if api is Api.COMPLETIONS and "prompt" in fields else 1
    each = _number(bytes(fields["n"])) if "n" in fields else None
    return min(max(each or 1, 1) * prompts, MAX_ANSWERS)


def _prompts(value: msgspec.Raw) -> int:
    """One, be it text or tokens, or as many as there are texts or lists of tokens."""
    try:
        items = _items(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return 1
    return len(items) if items and bytes(items[0]).startswith((b'"', b"[")) else 1


def _number(digits: bytes) -> int | None:
    return int(digits) if digits.isdigit() and len(digits) < 16 else None
