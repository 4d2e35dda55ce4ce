"""`/v1/models` and `/v1/models/{id}`, in OpenAI's shape, or in Anthropic's for clients that send `anthropic-version`.

An alias is shown under its own name, with the model that really runs as `root` (vLLM's word) or as the display name. When a model was made
is not known, and both APIs allow the epoch for that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from rlu_server.core.errors import Dialect, GatewayError
from rlu_server.core.names import Names
from rlu_server.core.routes import MODELS, ONE_MODEL, dialect_of

_ID = re.compile(rb"[A-Za-z0-9._~:/@+%-]{1,384}")


def answer(path: bytes, headers: Mapping[bytes, bytes], names: Names) -> dict[str, Any]:
    """The document for one of these paths.

    Raises:
        GatewayError: `model_not_found`.
    """
    shape = _anthropic if dialect_of(path, headers) is Dialect.ANTHROPIC else _openai
    if path != MODELS:
        asked = path.removeprefix(ONE_MODEL)
        name = unquote_to_bytes(asked).decode("utf-8", "replace") if _ID.fullmatch(asked) else ""
        model = names.get(name)
        if model is None:
            raise GatewayError("model_not_found", param="model")
        return shape(name, model)
    entries = [shape(name, names.get(name) or name) for name in names.listed]
    if shape is _openai:
        return {"object": "list", "data": entries}
    ends = {"first_id": entries[0]["id"], "last_id": entries[-1]["id"]} if entries else {}
    return {"data": entries, "has_more": False, **ends}


def _openai(name: str, model: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "rlu", "root": model}


def _anthropic(name: str, model: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": model, "created_at": "1970-01-01T00:00:00Z"}
