"""Tokens of a request: what is reserved before anybody knows, and what it is held to have used.

Tokens that the prefix cache had are free: an agent sends its whole conversation again each turn, and the engine does not compute it
again. Where the answer does not say what it used (a stream without `include_usage`, one that was cut), lengths have to do.
"""

from __future__ import annotations

from rlu_server.core.routes import Api
from rlu_server.core.usage import Usage

BYTES_PER_TOKEN = 4
"""Of a request body."""
BYTES_PER_STREAMED_TOKEN = 200
"""Of an answer that tells no usage: nearly always a stream, where one token is one event."""
OUTPUT_RESERVED = 2048
"""Reserved for an answer, unless the client allows it less."""


def input_estimate(api: Api, size: int) -> int:
    """Tokens of a request body of `size` bytes. Counting tokens computes nothing."""
    return 0 if api is Api.COUNT_TOKENS else size // BYTES_PER_TOKEN + 1


def reserved(api: Api, size: int, output_limit: int | None, answers: int = 1) -> int:
    """Tokens to reserve for a request.

    Args:
        size: bytes of its body.
        output_limit: the client's own `max_tokens`, by whatever name, for each of `answers`.
    """
    if api in (Api.COUNT_TOKENS, Api.EMBEDDINGS):
        return input_estimate(api, size)
    output = OUTPUT_RESERVED if output_limit is None else min(max(output_limit, 0), OUTPUT_RESERVED)
    return input_estimate(api, size) + output * answers


def used(api: Api, size: int, usage: Usage | None, response_size: int) -> int:
    """Tokens that a request has used which the engine worked on."""
    if usage is not None:
        return max(usage.input_tokens - usage.cached_input_tokens, 0) + usage.output_tokens
    return input_estimate(api, size) + (
        0 if api in (Api.COUNT_TOKENS, Api.EMBEDDINGS) else response_size // BYTES_PER_STREAMED_TOKEN
    )
