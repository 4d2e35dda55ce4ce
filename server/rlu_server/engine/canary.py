"""The known answer of a model: what to ask, and whether the answer is right. No I/O.

`rlu-canary.json` in the model's directory, and so in its manifest, in one of three forms:

    {"prompt": "...", "expect": "..."}                                      the exact text at temperature 0; "max_tokens" may be given
    {"prompt": "...", "expect_tokens": [17, 4, ...]}                        the exact tokens at temperature 0
    {"prompt": "...", "continuation": "...", "minimum_logprob": -0.7}       the mean log-probability of the continuation's tokens, at least

The first two hold a model to one numerics; another GPU or kernel may round otherwise. The third also tells garbage from the model, and
leaves room for that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 64 * 1024
MAX_TOKENS = 4096
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@dataclass(frozen=True, slots=True)
class Canary:
    """The exact text."""

    prompt: str
    expect: str
    max_tokens: int = 512


@dataclass(frozen=True, slots=True)
class TokenCanary:
    """The exact tokens."""

    prompt: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LikelihoodCanary:
    """A text that the model must find likely."""

    prompt: str
    continuation: str
    minimum: float
    """Of the mean of its tokens' natural logarithms of probability; at most 0."""


KnownAnswer = Canary | TokenCanary | LikelihoodCanary


def parse(data: bytes) -> KnownAnswer:
    """Read the file.

    Raises:
        ValueError: it has none of the three forms.
    """
    if len(data) > MAX_BYTES:
        raise ValueError("too long")
    document = json.loads(data)
    if not isinstance(document, dict):
        raise ValueError("no object")
    for read in (_text, _tokens, _likelihood):
        if (found := read(document)) is not None:
            return found
    raise ValueError("unknown, missing or empty members")


def _text(document: dict[str, Any]) -> Canary | None:
    if document.keys() - {"max_tokens"} != {"prompt", "expect"}:
        return None
    most = document.get("max_tokens", 512)
    if type(most) is not int or not 1 <= most <= MAX_TOKENS:
        raise ValueError("max_tokens out of range")
    return Canary(_word(document, "prompt"), _word(document, "expect"), most)


def _tokens(document: dict[str, Any]) -> TokenCanary | None:
    if document.keys() != {"prompt", "expect_tokens"}:
        return None
    tokens = document["expect_tokens"]
    if not isinstance(tokens, list) or not 1 <= len(tokens) <= MAX_TOKENS:
        raise ValueError("expect_tokens is no list of tokens")
    if any(type(token) is not int or token < 0 for token in tokens):
        raise ValueError("expect_tokens is no list of tokens")
    return TokenCanary(_word(document, "prompt"), tuple(tokens))


def _likelihood(document: dict[str, Any]) -> LikelihoodCanary | None:
    if document.keys() != {"prompt", "continuation", "minimum_logprob"}:
        return None
    minimum = document["minimum_logprob"]
    if type(minimum) not in (int, float) or not math.isfinite(minimum) or minimum > 0:
        raise ValueError("minimum_logprob is no number up to 0")
    return LikelihoodCanary(_word(document, "prompt"), _word(document, "continuation"), float(minimum))


def _word(document: dict[str, Any], name: str) -> str:
    text = document[name]
    if not isinstance(text, str) or not text:
        raise ValueError(f"{name} is no text")
    return text


def request(known: KnownAnswer, model: str) -> tuple[str, dict[str, Any]]:
    """The path and the body to ask the engine with."""
    if isinstance(known, LikelihoodCanary):
        # The engine tells the probabilities of what it was given (`echo`); the one token it adds is not looked at.
        text = known.prompt + known.continuation
        asked = {"prompt": text, "echo": True, "logprobs": 0, "max_tokens": 1}
        return COMPLETIONS, {"model": model, "temperature": 0, **asked}
    body: dict[str, Any] = {
        "model": model,
        "temperature": 0,
        "messages": [{"role": "user", "content": known.prompt}],
    }
    if isinstance(known, TokenCanary):
        return CHAT, {**body, "max_tokens": len(known.tokens), "return_token_ids": True}
    return CHAT, {**body, "max_tokens": known.max_tokens}


def right(known: KnownAnswer, answer: Mapping[str, Any]) -> bool:
    """Whether the engine's answer is the known one.

    Raises:
        LookupError, TypeError, ValueError: it has not the form that was asked for.
    """
    choice = answer["choices"][0]
    if isinstance(known, Canary):
        return bool(choice["message"]["content"] == known.expect)
    if isinstance(known, TokenCanary):
        return tuple(choice["token_ids"]) == known.tokens
    return _mean(known, choice["logprobs"]) >= known.minimum


def _mean(known: LikelihoodCanary, told: Mapping[str, Any]) -> float:
    """Over the tokens that begin in the continuation; one that straddles both is the prompt's."""
    begin, end = len(known.prompt), len(known.prompt) + len(known.continuation)
    found = [
        float(value)
        for offset, value in zip(told["text_offset"], told["token_logprobs"], strict=True)
        if begin <= offset < end
    ]
    if not found or not all(map(math.isfinite, found)):
        raise ValueError("no probabilities")
    return math.fsum(found) / len(found)
