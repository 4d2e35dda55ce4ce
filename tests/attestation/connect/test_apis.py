"""Routes, and errors in the shape of each API; what is advised about them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlu_attestation.connect.apis import (
    Api,
    Dialect,
    advise,
    code_of,
    dialect_of,
    error_body,
    error_events,
    route_of,
)
from rlu_attestation.connect.errors import Unproven
from rlu_attestation.connect.screen import StreamScreen

ERROR = Unproven("receipt.absent", 'there is no "receipt"')


@pytest.mark.parametrize(
    ("method", "path", "api"),
    [
        ("POST", "/v1/chat/completions", Api.CHAT),
        ("POST", "/v1/messages", Api.MESSAGES),
        ("POST", "/v1/messages/count_tokens", Api.COUNT_TOKENS),
        ("GET", "/v1/responses/resp_0af", Api.RESPONSES),
        ("DELETE", "/v1/responses/resp_0af", Api.RESPONSES),
        ("GET", "/v1/responses/resp_0af/input_items", Api.RESPONSES),
        ("POST", "/v1/responses/resp_0af/cancel", Api.RESPONSES),
        ("GET", "/v1/models", None),
        ("GET", "/v1/models/qwen3-coder:30b", None),
    ],
)
def test_what_is_relayed(method: str, path: str, api: Api | None) -> None:
    route = route_of(method, path)
    assert route is not None
    assert (route.method, route.path, route.api) == (method, path, api)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/chat/completions"),
        ("DELETE", "/v1/models/x"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "/v1//chat/completions"),
        ("POST", "/V1/chat/completions"),
        ("POST", "/v1/responses/resp_0af"),
        ("GET", "/v1/responses/resp_0af/cancel"),
        ("POST", "/v1/responses/resp_0af/input_items"),
        ("GET", "/v1/responses/resp_0af/"),
        ("GET", "/v1/responses/resp_0AF"),
        ("GET", "/v1/responses/resp_"),
        ("GET", "/v1/responses/resp_" + "0" * 33),
        ("GET", "/v1/responses/"),
        ("GET", "/v1/responses"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/a/b"),
        ("GET", "/v1/models/é"),
        ("POST", "/v1/rlu/sessions"),
        ("POST", ""),
    ],
)
def test_what_is_not(method: str, path: str) -> None:
    assert route_of(method, path) is None


def test_errors_as_answers() -> None:
    gpt = json.loads(error_body(Dialect.OPENAI, ERROR, "Do this"))
    assert gpt == {
        "error": {
            "message": 'rlu connect: there is no "receipt" [receipt.absent]. Do this.',
            "type": "rlu_connect_error",
            "param": None,
            "code": "receipt.absent",
        }
    }
    claude = json.loads(error_body(dialect_of("/v1/messages/x"), ERROR, "Do this"))
    assert (claude["type"], claude["error"]["type"]) == ("error", "api_error")
    assert claude["error"]["message"] == gpt["error"]["message"]


@pytest.mark.parametrize("api", [Api.CHAT, Api.COMPLETIONS, Api.RESPONSES, Api.MESSAGES])
def test_errors_as_events_are_whole_events_and_no_success(api: Api) -> None:
    events = error_events(api, ERROR, "Do this")
    screen = StreamScreen(api)
    assert screen.feed(events) == b""
    assert events.startswith(screen.error())
    assert screen.error() != b""
    assert b"[receipt.absent]" in events
    assert events.endswith(b"\n\n")
    assert b"[DONE]" not in events


@settings(max_examples=60)
@given(st.binary(max_size=80) | st.just(b"[" * 100_000))
def test_a_code_is_found_or_not(content: bytes) -> None:
    assert isinstance(code_of(content), str)


def test_a_code() -> None:
    assert code_of(b'{"error":{"code":"session_closed"}}') == "session_closed"
    for none in (b'{"error":"x"}', b'{"error":{"code":1}}', b'{"code":"x"}', b"[]"):
        assert code_of(none) == ""


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("policy.region.mismatch", "policy"),
        ("channel.mismatch", "between you and the attested gateway"),
        ("receipt.late", "try again"),
        ("receipt.response.mismatch", "operator"),
        ("response.cut", "try again"),
        ("server.unreachable", "address"),
        ("instance.changed", "--accept-instance-change"),
        ("quote.signature.invalid", "rlu verify"),
    ],
)
def test_every_error_says_what_to_do(code: str, word: str) -> None:
    assert word in advise(code)
