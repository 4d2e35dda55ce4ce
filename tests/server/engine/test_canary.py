from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_server.engine import canary
from rlu_server.engine.canary import Canary, KnownAnswer, LikelihoodCanary, TokenCanary

TEXT = Canary("p", "e", 16)
TOKENS = TokenCanary("p", (5, 7))
LIKELY = LikelihoodCanary("ab", "cdef", -1.0)


@pytest.mark.parametrize(
    ("document", "known"),
    [
        ({"prompt": "p", "expect": "e"}, Canary("p", "e", 512)),
        ({"prompt": "p", "expect": "e", "max_tokens": 16}, TEXT),
        ({"prompt": "p", "expect_tokens": [5, 7]}, TOKENS),
        ({"prompt": "ab", "continuation": "cdef", "minimum_logprob": -1}, LIKELY),
        ({"prompt": "ab", "continuation": "cdef", "minimum_logprob": 0}, LikelihoodCanary("ab", "cdef", 0.0)),
    ],
)
def test_forms(document: dict[str, Any], known: KnownAnswer) -> None:
    assert canary.parse(json.dumps(document).encode()) == known


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"prompt": "p"},
        {"prompt": "p", "expect": "e", "expect_tokens": [1]},
        {"prompt": "p", "expect": ""},
        {"prompt": "", "expect": "e"},
        {"prompt": "p", "expect": "e", "max_tokens": True},
        {"prompt": "p", "expect": "e", "max_tokens": 4097},
        {"prompt": "p", "expect_tokens": []},
        {"prompt": "p", "expect_tokens": "57"},
        {"prompt": "p", "expect_tokens": [5, -1]},
        {"prompt": "p", "expect_tokens": [5, True]},
        {"prompt": "p", "expect_tokens": [5], "max_tokens": 1},
        {"prompt": "p", "continuation": "c", "minimum_logprob": 0.1},
        {"prompt": "p", "continuation": "c", "minimum_logprob": float("nan")},
        {"prompt": "p", "continuation": "c", "minimum_logprob": float("-inf")},
        {"prompt": "p", "continuation": "c", "minimum_logprob": "-1"},
        {"prompt": "p", "continuation": "", "minimum_logprob": -1},
        {"prompt": "p", "continuation": "c"},
    ],
)
def test_everything_else_refuses(document: object) -> None:
    with pytest.raises(ValueError):
        canary.parse(json.dumps(document).encode())


@given(st.binary(max_size=200))
def test_arbitrary_bytes_refuse_in_one_way(data: bytes) -> None:
    with pytest.raises(ValueError):
        canary.parse(data)


def test_what_is_asked() -> None:
    path, body = canary.request(TEXT, "m")
    assert (path, body["max_tokens"], body["temperature"], body["model"]) == (canary.CHAT, 16, 0, "m")
    path, body = canary.request(TOKENS, "m")
    assert (path, body["max_tokens"], body["return_token_ids"]) == (canary.CHAT, 2, True)
    path, body = canary.request(LIKELY, "m")
    assert (path, body["prompt"], body["echo"], body["max_tokens"]) == (canary.COMPLETIONS, "abcdef", True, 1)


def probabilities(*values: float | None, offsets: tuple[int, ...] = (0, 1, 2, 4, 6)) -> dict[str, Any]:
    return {"choices": [{"logprobs": {"text_offset": list(offsets), "token_logprobs": list(values)}}]}


@pytest.mark.parametrize(
    ("known", "answer", "is_right"),
    [
        (TEXT, {"choices": [{"message": {"content": "e"}}]}, True),
        (TEXT, {"choices": [{"message": {"content": "e "}}]}, False),
        (TEXT, {"choices": [{"message": {"content": None}}]}, False),
        (TOKENS, {"choices": [{"token_ids": [5, 7]}]}, True),
        (TOKENS, {"choices": [{"token_ids": [5, 8]}]}, False),
        (TOKENS, {"choices": [{"token_ids": [5]}]}, False),
        # Only the continuation's tokens count: neither the prompt's nor the one that was made.
        (LIKELY, probabilities(None, -99.0, -0.5, -1.5, -99.0), True),
        (LIKELY, probabilities(None, 0.0, -0.5, -1.6, 0.0), False),
    ],
)
def test_right(known: KnownAnswer, answer: dict[str, Any], is_right: bool) -> None:
    assert canary.right(known, answer) is is_right


@pytest.mark.parametrize(
    ("known", "answer"),
    [
        (TEXT, {}),
        (TEXT, {"choices": []}),
        (TOKENS, {"choices": [{}]}),
        (TOKENS, {"choices": [{"token_ids": None}]}),
        (LIKELY, {"choices": [{"logprobs": None}]}),
        (LIKELY, probabilities(None, 0.0, offsets=(0, 1))),
        (LIKELY, probabilities(None, 0.0, None, -1.0, 0.0)),
        (LIKELY, probabilities(None, 0.0, float("nan"), -1.0, 0.0)),
        (LIKELY, probabilities(None, 0.0, -1.0, -1.0)),
    ],
)
def test_another_form_is_no_answer(known: KnownAnswer, answer: dict[str, Any]) -> None:
    with pytest.raises((LookupError, TypeError, ValueError)):
        canary.right(known, answer)
