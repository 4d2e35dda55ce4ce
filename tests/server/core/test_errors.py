"""Refusals in the shape of the API that was called."""

from __future__ import annotations

import json

import anthropic
import openai
import pytest

from rlu_server.core import errors
from rlu_server.core.errors import CATALOGUE, Dialect, GatewayError


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_code_has_every_shape(code: str):
    error = GatewayError(code)
    assert 400 <= error.status < 600
    assert error.message.endswith(".")
    shape = json.loads(errors.body(error, Dialect.OPENAI, "r"))
    assert shape["error"]["code"] == code
    assert openai.APIError("", None, body=shape["error"]).code == code  # type: ignore[arg-type]
    shape = json.loads(errors.body(error, Dialect.ANTHROPIC, "r"))
    assert shape["type"] == "error"
    assert shape["error"]["type"] in {
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "not_found_error",
        "request_too_large",
        "rate_limit_error",
        "overloaded_error",
        "timeout_error",
        "api_error",
    }
    if error.status != 413:  # documented by Anthropic, unknown to its SDK
        assert anthropic.types.ErrorResponse.model_validate(shape).error.message == error.message
    shape = json.loads(errors.body(error, Dialect.RLU, "r"))
    assert (shape["code"], shape["status"], shape["request_id"]) == (code, error.status, "r")


def test_what_may_be_tried_again_says_when():
    for code, kind in CATALOGUE.items():
        assert (kind.status == 503) <= (kind.retry_after_s is not None), code


def test_an_unknown_code_is_a_mistake():
    with pytest.raises(KeyError):
        GatewayError("no_such_code")


def test_stream_events_end_an_event():
    error = GatewayError("engine_lost")
    for dialect, responses in ((Dialect.OPENAI, False), (Dialect.OPENAI, True), (Dialect.ANTHROPIC, False)):
        event = errors.stream_event(error, dialect, "r", responses=responses)
        assert event.endswith(b"\n\n")
        assert event.count(b"\n\n") == 1
        line = next(line for line in event.split(b"\n") if line.startswith(b"data: "))
        assert "error" in (document := json.loads(line[6:])) or document["type"] == "error"
