"""An engine's error answer in the shape of the API that the client called.

vLLM validates `/v1/messages` with its OpenAI handlers, and names errors by Python classes where Anthropic's API has seven types, so that
Anthropic's SDKs and the agents built on them cannot tell what to do. Only answers that are errors, whole and small are re-expressed, and
only the shape changes: status and message stay. What is already of the right shape stays byte for byte.
"""

from __future__ import annotations

import orjson

from rlu_server.core.errors import anthropic_type

MAX_ERROR = 64 * 1024
"""Longer answers are passed on as they are."""
_TYPES = frozenset(
    {
        "api_error",
        "authentication_error",
        "billing_error",
        "invalid_request_error",
        "not_found_error",
        "overloaded_error",
        "permission_error",
        "rate_limit_error",
        "request_too_large",
        "timeout_error",
    }
)


def as_anthropic(status: int, content: bytes, request_id: str) -> bytes | None:
    """The error in Anthropic's shape, or None: it is that already, or no error that is understood.

    Args:
        content: all of the engine's answer.
    """
    if status < 400 or len(content) > MAX_ERROR:
        return None
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if not isinstance(error, dict):
        message = document.get("detail")  # FastAPI's own
    elif document.get("type") == "error" and error.get("type") in _TYPES:
        return None
    else:
        message = error.get("message")
    if not isinstance(message, str) or not message:
        return None
    shaped = {"type": "error", "error": {"type": anthropic_type(status), "message": message}}
    return orjson.dumps({**shaped, "request_id": request_id})
