"""Tokens before and after."""

from __future__ import annotations

from rlu_server.core.limits import spending
from rlu_server.core.routes import Api
from rlu_server.core.usage import Usage


def test_reserved_is_the_body_and_an_answer_of_ordinary_length():
    assert spending.reserved(Api.CHAT, 4000, None) == 1001 + spending.OUTPUT_RESERVED
    assert spending.reserved(Api.MESSAGES, 4000, 10) == 1011
    assert spending.reserved(Api.RESPONSES, 4000, 10**9) == 1001 + spending.OUTPUT_RESERVED
    assert spending.reserved(Api.CHAT, 0, -5) == 1
    assert spending.reserved(Api.CHAT, 4000, 10, 3) == 1031
    assert spending.reserved(Api.EMBEDDINGS, 4000, 10) == 1001
    assert spending.reserved(Api.COUNT_TOKENS, 4000, 10) == 0


def test_used_is_what_was_computed():
    assert spending.used(Api.CHAT, 4000, Usage(900, 50, 800), 10**6) == 150
    assert spending.used(Api.CHAT, 4000, Usage(5, 7, 90), 0) == 7


def test_without_usage_lengths_have_to_do():
    assert spending.used(Api.CHAT, 4000, None, 2000) == 1001 + 10
    assert spending.used(Api.EMBEDDINGS, 4000, None, 10**6) == 1001
    assert spending.used(Api.COUNT_TOKENS, 4000, None, 40) == 0
