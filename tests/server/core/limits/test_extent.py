"""What a request asks for, going by the fields that its own API has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rlu_server.core.body import Inspected, inspect
from rlu_server.core.limits.extent import MAX_ANSWERS, OUTPUT_LIMITS
from rlu_server.core.routes import RELAYED, Route

CHAT = RELAYED[b"/v1/chat/completions"]
COMPLETIONS = RELAYED[b"/v1/completions"]
RESPONSES = RELAYED[b"/v1/responses"]
MESSAGES = RELAYED[b"/v1/messages"]


def look(body: bytes | dict[str, Any], route: Route = CHAT, spaced: bool = False) -> Inspected:
    if not isinstance(body, bytes):
        body = json.dumps(body, separators=(", ", ": ") if spaced else (",", ":")).encode()
    return inspect(body, route, {"m": "m"}, lambda own: "5a" * 32)


@pytest.mark.parametrize(
    ("route", "name"),
    [
        (CHAT, "max_tokens"),
        (CHAT, "max_completion_tokens"),
        (COMPLETIONS, "max_tokens"),
        (RESPONSES, "max_output_tokens"),
        (MESSAGES, "max_tokens"),
    ],
)
def test_the_output_limit_is_learnt_and_left_alone(route: Route, name: str):
    assert look({"model": "m", name: 77}, route).output_limit == 77
    assert look({"model": "m"}, route).output_limit is None
    for strange in (-1, 1.5, "7", None, True, 10**30, [7]):
        assert look({"model": "m", name: strange}, route).output_limit is None
        assert name.encode() in look({"model": "m", name: strange}, route).forwarded


@pytest.mark.parametrize("route", [CHAT, COMPLETIONS, RESPONSES, MESSAGES])
def test_a_limit_that_the_engine_does_not_look_at_is_none(route: Route):
    """Else a client would have little reserved for it, and use much."""
    names = {"max_tokens", "max_completion_tokens", "max_output_tokens"} - set(OUTPUT_LIMITS[route.api])
    assert look({"model": "m", **dict.fromkeys(names, 1)}, route).output_limit is None


def test_of_two_limits_the_engines_choice_counts():
    assert look({"model": "m", "max_tokens": 1, "max_completion_tokens": 9000}).output_limit == 9000
    assert look({"model": "m", "max_tokens": 1, "max_completion_tokens": 9000.0}).output_limit is None
    assert look({"model": "m", "max_tokens": 5, "max_completion_tokens": None}).output_limit == 5


def test_how_many_answers_are_asked_for():
    assert look({"model": "m"}).answers == 1
    assert look({"model": "m", "n": 7}).answers == 7
    for strange in (0, -1, "3", None, [2], 1.5):
        assert look({"model": "m", "n": strange}).answers == 1
    assert look({"model": "m", "n": 10**14}).answers == MAX_ANSWERS
    for prompt, expected in (("a", 1), (["a", "b", "c"], 3), ([1, 2, 3], 1), ([[1, 2], [3]], 2), ([], 1)):
        assert look({"model": "m", "prompt": prompt, "n": 2}, COMPLETIONS).answers == 2 * expected
        assert (
            look({"model": "m", "prompt": prompt, "n": 2}, COMPLETIONS, spaced=True).answers == 2 * expected
        )
    assert look(b'{"model":"m","prompt":[ "a","b"]}', COMPLETIONS).answers == 2
    assert look({"model": "m", "n": 5}, RESPONSES).answers == 1
