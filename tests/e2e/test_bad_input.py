"""What is refused, over HTTPS at a real gateway: status, the API's own error shape, a stable code, and nothing of the content in it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from e2e.caller import Answer, chat
from e2e.proofs import open_session
from e2e.scripted_stack import MAX_BODY, MODEL, Scripted
from rlu_attestation.encoding import b64u
from rlu_server.selftest import exports

pytestmark = pytest.mark.tpm

OPENAI = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
ANTHROPIC = ("/v1/messages", "/v1/messages/count_tokens")
SECRET = "canary-of-bad-input"


def body_for(path: str, **more: Any) -> dict[str, Any]:
    """A good request for a route."""
    if path == "/v1/completions":
        return {"model": MODEL, "prompt": SECRET, **more}
    if path in ("/v1/responses", "/v1/embeddings"):
        return {"model": MODEL, "input": SECRET, **more}
    return {**chat(SECRET, MODEL, max_tokens=9), **more}


@dataclass(frozen=True)
class Bad:
    """One way to be wrong."""

    name: str
    status: int
    code: str
    openai: str
    anthropic: str
    content: Callable[[str], Any] = body_for
    headers: dict[str, str] = field(default_factory=dict)
    key: str | None = None


CASES = [
    Bad("malformed JSON", 400, "json_malformed", "invalid_request_error", "invalid_request_error",
        lambda path: f'{{"model": "{SECRET}'.encode()),
    Bad("not an object", 400, "body_not_object", "invalid_request_error", "invalid_request_error",
        lambda path: [SECRET]),
    Bad("no model", 400, "field_missing", "invalid_request_error", "invalid_request_error",
        lambda path: {SECRET: 1}),
    Bad("unknown model", 404, "model_not_found", "not_found_error", "not_found_error",
        lambda path: body_for(path, model=SECRET)),
    Bad("oversize body", 413, "body_too_large", "invalid_request_error", "request_too_large",
        lambda path: body_for(path, extra=SECRET * (MAX_BODY // len(SECRET) + 1))),
    Bad("another media type", 415, "content_type", "invalid_request_error", "invalid_request_error",
        headers={"Content-Type": "text/plain"}),
    Bad("wrong key", 401, "key_invalid", "authentication_error", "authentication_error",
        key="rlu_" + SECRET),
    Bad("no key", 401, "key_missing", "authentication_error", "authentication_error",
        headers={"Authorization": ""}),
    Bad("no such session", 404, "session_not_found", "not_found_error", "not_found_error",
        headers={"RLU-Session": b64u(bytes(16))}),
]  # fmt: skip


@pytest.mark.parametrize("path", [*OPENAI, *ANTHROPIC])
@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad.name.replace(" ", "-"))
def test_refused_in_the_shape_of_the_api(scripted: Scripted, bad: Bad, path: str) -> None:
    caller = scripted.caller if bad.key is None else scripted.caller.with_key(bad.key)
    answer = caller.post(path, bad.content(path), bad.headers)
    assert_refused(answer, path, bad.status, bad.code, bad.anthropic if path in ANTHROPIC else bad.openai)
    # Nothing reaches the engine, nothing is lost: the next request is served.
    assert scripted.seen() == []


def assert_refused(answer: Answer, path: str, status: int, code: str, kind: str) -> None:
    """The route's own error shape, with our code, repeating nothing of the request."""
    assert (answer.status, SECRET in answer.content.decode()) == (status, False), answer.content
    document = answer.json()
    error = document["error"]
    assert answer.headers["content-type"] == "application/json"
    assert (error["type"], error["code"], bool(error["message"])) == (kind, code, True)
    if path.startswith("/v1/messages"):
        assert document["type"] == "error"
        assert document["request_id"] == answer.headers["request-id"]
    else:
        assert set(error) == {"message", "type", "param", "code"}
        assert document["request_id"] == answer.headers["x-request-id"]
    assert ("www-authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize("path", [OPENAI[0], ANTHROPIC[0]])
def test_a_revoked_key(scripted: Scripted, path: str) -> None:
    answer = scripted.revoked.post(path, body_for(path))
    assert_refused(answer, path, 401, "key_revoked", "authentication_error")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/nothing", 404, "route_not_found"),
        ("/v1/messages/batches", 404, "route_not_found"),
        # Administrative routes of vLLM do not exist here, however they are spelt.
        ("/sleep", 404, "route_not_found"),
        ("/v1/load_lora_adapter", 404, "route_not_found"),
        ("/v1/chat/../../sleep", 404, "route_not_found"),
        ("/v1/chat/completions/", 404, "route_not_found"),
        ("/v1/models", 405, "method_not_allowed"),
    ],
)
def test_an_unknown_route(scripted: Scripted, path: str, status: int, code: str) -> None:
    answer = scripted.caller.post(path, body_for(path))
    kind = "not_found_error" if status == 404 else "invalid_request_error"
    assert_refused(answer, path, status, code, kind)
    assert scripted.seen() == []


def test_a_route_that_is_only_posted_to(scripted: Scripted) -> None:
    for path in (OPENAI[0], ANTHROPIC[0]):
        answer = scripted.caller.get(path)
        assert (answer.status, answer.json()["error"]["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("path", [OPENAI[2], ANTHROPIC[0]])
def test_an_expired_session(scripted: Scripted, path: str) -> None:
    session = open_session(scripted.caller, ttl_s=1)
    deadline = time.monotonic() + 60
    while scripted.caller.get(f"/v1/rlu/sessions/{session}").json().get("state") == "open":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    answer = scripted.caller.post(path, body_for(path), {"RLU-Session": session})
    assert_refused(answer, path, 410, "session_expired", "invalid_request_error")
    assert scripted.seen() == []


@pytest.mark.parametrize("name", ["session-id", "x-claude-code-session-id"])
def test_session_fixation(scripted: Scripted, name: str) -> None:
    """Whoever makes somebody else use a session, or a conversation's name, of their choice learns nothing and shares nothing."""
    chosen = open_session(scripted.other)
    lured = scripted.caller.post(OPENAI[0], body_for(OPENAI[0]), {"RLU-Session": chosen})
    assert_refused(lured, OPENAI[0], 404, "session_not_found", "not_found_error")
    invented = b64u(secrets.token_bytes(16))
    never = scripted.caller.post(OPENAI[0], body_for(OPENAI[0]), {"RLU-Session": invented})
    assert_refused(never, OPENAI[0], 404, "session_not_found", "not_found_error")
    assert scripted.caller.get(f"/v1/rlu/sessions/{invented}").status == 404

    named = {name: "a name that the attacker chose"}
    theirs = scripted.other.post(OPENAI[0], body_for(OPENAI[0]), named)
    ours = scripted.caller.post(OPENAI[0], body_for(OPENAI[0]), named)
    assert (theirs.status, ours.status) == (200, 200)
    assert len({chosen, theirs.session, ours.session}) == 3
    assert scripted.other.get(ours.receipt).status == 404
    assert scripted.other.get(f"/v1/rlu/sessions/{ours.session}/commitment-key").status == 404


@pytest.mark.parametrize("path", [OPENAI[0], ANTHROPIC[0]])
def test_another_tenants_session_and_receipt_do_not_exist(scripted: Scripted, path: str) -> None:
    session = open_session(scripted.caller)
    mine = scripted.caller.post(path, body_for(path), {"RLU-Session": session})
    assert (mine.status, mine.session) == (200, session)
    assert scripted.caller.get(mine.receipt).status == 200
    scripted.forget()
    used = scripted.other.post(path, body_for(path), {"RLU-Session": session})
    assert_refused(used, path, 404, "session_not_found", "not_found_error")
    assert scripted.seen() == []
    own = f"/v1/rlu/sessions/{session}"
    for method, where in [
        ("GET", own),
        ("GET", f"{own}/commitment-key"),
        ("DELETE", own),
        ("GET", mine.receipt),
    ]:
        answer = scripted.other.call(method, where)
        # To the byte what a session that never was is answered with, but for the request's own id.
        never = scripted.other.call(method, where.replace(session, b64u(b"\x01" * 16)))
        assert answer.status == never.status == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert {**answer.json(), "request_id": ""} == {**never.json(), "request_id": ""}
        assert answer.json()["code"] == "session_not_found"
    listed = scripted.other.get("/v1/rlu/sessions").json()["sessions"]
    assert session not in {each["session"] for each in listed}
    assert scripted.caller.get(own).json()["state"] == "open"


@pytest.mark.parametrize("size", [0, 7, 65, 4000])
def test_a_nonce_of_the_wrong_size(scripted: Scripted, size: int) -> None:
    nonce = b64u(bytes(size))
    for answer in (
        scripted.caller.post("/v1/rlu/sessions", {"nonce": nonce}),
        scripted.caller.get(f"/v1/rlu/attestation?nonce={nonce}"),
    ):
        assert answer.status == 400, answer.content
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert (problem["code"], problem["status"]) == ("nonce_size", 400)
        assert problem["type"] == "urn:rlu:error:nonce_size"
        assert problem["request_id"] == answer.headers["x-request-id"]


def test_nothing_of_all_that_is_written_anywhere(scripted: Scripted) -> None:
    for path in (*OPENAI, *ANTHROPIC):
        for bad in CASES:
            scripted.caller.post(path, bad.content(path), bad.headers)
    scripted.caller.get(f"/{SECRET}?{SECRET}={SECRET}")
    metrics = exports.metrics(scripted.deployment.runtime / "gateway" / "metrics.sock").decode()
    assert "rlu_requests_total" in metrics
    written = scripted.logs() + metrics
    written += "".join(p.read_text("utf-8", "replace") for p in scripted.state_files())
    assert "gateway_ready" in written
    assert SECRET not in written
    assert scripted.caller.post(OPENAI[0], body_for(OPENAI[0])).status == 200
