"""What is relayed, and how each API says that something went wrong.

Only the routes in this table leave the machine. A route with an API is answered with a receipt; `models` and its like carry no content
and have none, so nothing but the pinned TLS key vouches for them. Of a kept response the path names the id, and the receipt the path.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlu_attestation.errors import RluError

KEPT = "/v1/responses/"
_KEPT = re.compile(r"/v1/responses/resp_[a-z0-9_-]{1,32}(?:/(cancel|input_items))?", re.ASCII)
_KEPT_METHODS = {None: ("GET", "DELETE"), "cancel": ("POST",), "input_items": ("GET",)}
_MODELS = re.compile(r"/v1/models(?:/[A-Za-z0-9._:-]{1,128})?", re.ASCII)


class Dialect(enum.Enum):
    """Whose error shape a route speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Api(enum.Enum):
    """Whose request and answer formats a route carries."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"
    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"


@dataclass(frozen=True, slots=True)
class Route:
    """One route. `path` is the `rlu_route` of its receipts; `api` is `None` where there is no receipt."""

    method: str
    path: str
    dialect: Dialect
    api: Api | None = None


_POSTED = {
    route.path: route
    for route in (
        Route("POST", "/v1/chat/completions", Dialect.OPENAI, Api.CHAT),
        Route("POST", "/v1/completions", Dialect.OPENAI, Api.COMPLETIONS),
        Route("POST", "/v1/responses", Dialect.OPENAI, Api.RESPONSES),
        Route("POST", "/v1/embeddings", Dialect.OPENAI, Api.EMBEDDINGS),
        Route("POST", "/v1/messages", Dialect.ANTHROPIC, Api.MESSAGES),
        Route("POST", "/v1/messages/count_tokens", Dialect.ANTHROPIC, Api.COUNT_TOKENS),
    )
}


def route_of(method: str, path: str) -> Route | None:
    """The route of a request, `None` if it is not relayed. The path is compared as it is; it holds no query."""
    if method == "POST" and path in _POSTED:
        return _POSTED[path]
    kept = _KEPT.fullmatch(path)
    if kept is not None and method in _KEPT_METHODS[kept[1]]:
        return Route(method, path, Dialect.OPENAI, Api.RESPONSES)
    if method == "GET" and _MODELS.fullmatch(path):
        return Route(method, path, Dialect.OPENAI)
    return None


def dialect_of(path: str) -> Dialect:
    """The error shape for a path, relayed or not."""
    return Dialect.ANTHROPIC if path.startswith("/v1/messages") else Dialect.OPENAI


def error_body(dialect: Dialect, error: RluError, advice: str) -> bytes:
    """The error as JSON content, in the shape the caller's SDK understands."""
    return _json(_error(dialect, error, advice))


def error_events(api: Api | None, error: RluError, advice: str) -> bytes:
    """The error as the end of a stream that had begun: no client takes a stream that ends so for a success.

    Of the Responses API clients exist that look for `response.failed`, for `type: error`, and for a member `error`; they get all three.
    """
    if api is Api.MESSAGES:
        return _event("error", _error(Dialect.ANTHROPIC, error, advice))
    body = _error(Dialect.OPENAI, error, advice)
    if api is Api.RESPONSES:
        message = body["error"]["message"]
        failed = {"code": error.code, "message": message}
        response = {"id": "", "object": "response", "status": "failed", "error": failed, "output": []}
        flat = {"type": "error", "code": error.code, "message": message, "param": None, **body}
        return _event("response.failed", {"type": "response.failed", "response": response}) + _event(
            "error", flat
        )
    return b"data: " + _json(body) + b"\n\n"


def code_of(content: bytes) -> str:
    """The stable code in an error answer of the gateway's, empty if there is none; shown and compared, never trusted."""
    try:
        value = json.loads(content[:65536])
    except (ValueError, RecursionError):
        return ""
    error = value.get("error") if isinstance(value, dict) else None
    found = error.get("code") if isinstance(error, dict) else None
    return found[:64] if isinstance(found, str) else ""


def advise(code: str) -> str:
    """What to do about an error of this code."""
    return next((text for prefix, text in _ADVICE if code.startswith(prefix)), _LOOK)


_LOOK = "Run `rlu verify URL --policy FILE` for the full report"
_ADVICE: Sequence[tuple[str, str]] = (
    (
        "policy.",
        "Your policy does not accept this server; `rlu verify URL --policy FILE` shows every rule. Nothing was sent to it",
    ),
    (
        "channel.",
        "Something stands between you and the attested gateway; do not go on, tell the operator. Nothing was sent to it",
    ),
    (
        "instance.changed",
        "The server is another instance than the one you started with; start `rlu connect` again to begin with it, "
        "or use --accept-instance-change",
    ),
    ("session.", _LOOK),
    (
        "receipt.late",
        "Do not use what was shown of this answer; try again, and tell the operator if it stays so",
    ),
    ("receipt.status", "The server itself says that this answer was cut; do not use it, try again"),
    ("receipt.", "Do not use what was shown of this answer, and tell the operator the session"),
    ("response.", "Do not use what was shown of this answer; try again"),
    ("server.", "Check the address, the network and your API key"),
    ("connect.", "See `rlu connect --help`"),
)


def _error(dialect: Dialect, error: RluError, advice: str) -> dict[str, Any]:
    message = f"rlu connect: {error.message} [{error.code}]. {advice}."
    if dialect is Dialect.ANTHROPIC:
        return {"type": "error", "error": {"type": "api_error", "message": message, "code": error.code}}
    return {"error": {"message": message, "type": "rlu_connect_error", "param": None, "code": error.code}}


def _event(name: str, value: Any) -> bytes:
    return b"event: " + name.encode("ascii") + b"\ndata: " + _json(value) + b"\n\n"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
