"""Errors of the engine in Anthropic's shape: the shape changes, status and message do not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_server.core.reexpression import MAX_ERROR, as_anthropic


def shaped(status: int, document: object) -> object:
    content = as_anthropic(status, json.dumps(document).encode(), "req_1")
    return None if content is None else json.loads(content)


@pytest.mark.parametrize(
    ("status", "document", "kind", "message"),
    [
        (
            400,
            {"error": {"message": "no", "type": "Bad Request", "param": None, "code": 400}},
            "invalid_request_error",
            "no",
        ),
        (
            400,
            {"type": "error", "error": {"type": "BadRequestError", "message": "no"}},
            "invalid_request_error",
            "no",
        ),
        (404, {"detail": "Not Found"}, "not_found_error", "Not Found"),
        (429, {"error": {"message": "later"}}, "rate_limit_error", "later"),
        (500, {"error": {"message": "oh"}}, "api_error", "oh"),
        (503, {"error": {"message": "full"}}, "overloaded_error", "full"),
    ],
)
def test_shapes_of_the_engine(status: int, document: object, kind: str, message: str) -> None:
    assert shaped(status, document) == {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": "req_1",
    }


@pytest.mark.parametrize(
    "document",
    [
        {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}},
        {"error": "no"},
        {"error": {"message": 1}},
        {"error": {"message": ""}},
        {"detail": [{"loc": []}]},
        [],
        "no",
        {"error": {"message": "x" * MAX_ERROR}},
    ],
)
def test_what_is_right_or_not_understood_stays(document: object) -> None:
    assert shaped(400, document) is None


def test_answers_that_are_no_errors_stay() -> None:
    assert as_anthropic(200, b'{"error":{"message":"no"}}', "r") is None


@given(st.binary(max_size=64), st.integers(100, 599))
def test_anything(content: bytes, status: int) -> None:
    found = as_anthropic(status, content, "r")
    assert found is None or json.loads(found)["type"] == "error"
