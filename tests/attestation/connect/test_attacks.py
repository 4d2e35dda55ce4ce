"""Somebody in between, or the server itself, lies: each lie has its own code, and none ends in a success.

The server here signs genuine receipts over what it sent; every attack changes one thing behind its back.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes.connected import ConnectedServer, OpenedSession
from fakes.connected_clients import CHAT, MESSAGES, RESPONSES, Reply, User
from fakes.deployment import Deployment
from fakes.machine import Machine
from fakes.server import Answer, _json, _logged, make_certificate
from fakes.tpm import FakeTpm
from rlu_attestation.connect import relay as module
from rlu_attestation.connect.relay import ATTEMPTS
from rlu_attestation.models import FurtherModel

ENDS = (
    b"[DONE]",
    b'finish_reason":"',
    b"response.completed",
    b"message_stop",
    b'tool_use"}',
    b"function_call_arguments.done",
)
FORMS = [
    (CHAT, False),
    (CHAT, True),
    (RESPONSES, False),
    (RESPONSES, True),
    (MESSAGES, False),
    (MESSAGES, True),
]
forms = pytest.mark.parametrize(
    ("path", "stream"), FORMS, ids=[f"{p.rpartition('/')[2]}-{'stream' if s else 'whole'}" for p, s in FORMS]
)


def assert_no_success(reply: Reply, code: str, stream: bool = False) -> None:
    """The error, in the API's shape, and nothing that ends an answer or a tool call."""
    assert reply.code == code
    assert reply.status == (200 if stream else 502)
    assert not [mark for mark in ENDS if mark in reply.content], reply.content
    if not stream:
        assert reply.headers["x-should-retry"] == "false"


def swap_text(data: bytes) -> bytes:
    """In the middle of the words, where nothing but the receipt tells."""
    assert b"hel" in data
    return data.replace(b"hel", b"Hel", 1)


def blocks(data: bytes) -> list[bytes]:
    return [block + b"\n\n" for block in data.split(b"\n\n")[:-1]]


def drop(data: bytes) -> bytes:
    found = blocks(data)
    return b"".join(found[:4] + found[5:]) if len(found) > 5 else data[:-1]


def reorder(data: bytes) -> bytes:
    found = blocks(data)
    if len(found) < 6:
        return data[1:] + data[:1]
    found[3], found[4] = found[4], found[3]
    return b"".join(found)


def truncate(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


@forms
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (swap_text, "receipt.response.mismatch"),
        (drop, "receipt.response.size"),
        (reorder, "receipt.response.mismatch"),
        (truncate, "receipt.response.size"),
        (lambda data: data + b"\n", "receipt.response.size"),
    ],
    ids=["swapped", "dropped", "reordered", "truncated", "appended"],
)
def test_bytes_of_the_answer_are_changed(
    server: ConnectedServer, path: str, stream: bool, change: Callable[[bytes], bytes], code: str
) -> None:
    server.on_wire = change
    with User(server) as user:
        assert_no_success(user.ask(path, stream=stream, input="hello"), code, stream)
        assert user.told[-1].code == code


def test_who_was_lied_to_sends_nothing_more(server: ConnectedServer, user: User) -> None:
    server.on_wire = swap_text
    code = "receipt.response.mismatch"
    assert_no_success(user.ask(stream=True), code, stream=True)
    assert (user.told[-1].event, user.told[-1].code) == ("rejected", code)
    server.on_wire = lambda data: data
    for again in (user.ask(stream=True), user.ask(MESSAGES)):
        assert (again.status, again.code) == (502, code)
    assert len(server.prompts) == 1


@forms
def test_a_complete_tool_call_waits_for_a_receipt_that_never_comes(
    server: ConnectedServer, user: User, path: str, stream: bool
) -> None:
    server.on_receipt = lambda *_: _json(404, {"code": "receipt_not_found"})
    assert_no_success(user.ask(path, stream=stream, input="x", script="tool"), "receipt.absent", stream)
    # Nothing false was shown, so the next answer may be proven.
    server.on_receipt = lambda *_: None
    assert user.ask(path, stream=stream, input="x").status == 200


@pytest.mark.parametrize("stream", [False, True])
def test_the_answer_names_no_receipt(server: ConnectedServer, user: User, stream: bool) -> None:
    server.receipt_header = lambda *_: None
    assert_no_success(user.ask(stream=stream), "receipt.absent")


@pytest.mark.parametrize("where", ["/v1/rlu/receipts/x/1", "/v1/rlu/sessions", "https://elsewhere/1"])
def test_the_answer_names_something_else_as_its_receipt(
    server: ConnectedServer, user: User, where: str
) -> None:
    server.receipt_header = lambda *_: where
    assert_no_success(user.ask(stream=True), "receipt.absent")


@pytest.mark.parametrize("stream", [False, True])
def test_the_receipt_never_comes(
    server: ConnectedServer, user: User, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(module, "RECEIPT_WAIT_S", 0.05)
    server.on_receipt = lambda *_: _json(503, {"code": "receipt_pending"})
    assert_no_success(user.ask(stream=stream), "receipt.late", stream)


def test_a_receipt_that_takes_its_time(server: ConnectedServer, user: User) -> None:
    asked: list[int] = []

    def later(session: OpenedSession, number: int) -> Answer | None:
        asked.append(number)
        return _json(503, {"code": "receipt_pending"}) if len(asked) < 3 else None

    server.on_receipt = later
    assert user.ask(stream=True).content.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
def test_an_older_receipt(server: ConnectedServer, user: User, stream: bool) -> None:
    assert user.ask(stream=stream).status == 200
    server.on_receipt = lambda session, number: _json(
        200, _logged(server.deployment.logged(server.log(session, 1)))
    )
    assert_no_success(user.ask(stream=stream), "receipt.replayed", stream)


def test_a_receipt_of_another_session(server: ConnectedServer, user: User) -> None:
    with User(server) as other:
        assert other.ask(stream=True).status == 200
        (theirs,) = server.sessions.values()
        server.on_receipt = lambda session, number: _json(
            200, _logged(server.deployment.logged(server.log(theirs, 1)))
        )
        assert_no_success(user.ask(stream=True), "receipt.session.id", True)
        server.on_receipt = lambda *_: None


def test_the_answer_names_a_receipt_of_another_session(server: ConnectedServer, user: User) -> None:
    server.receipt_header = lambda *_: f"/v1/rlu/receipts/{'A' * 22}/1"
    assert_no_success(user.ask(stream=True), "receipt.session.id")


def test_a_receipt_that_another_key_signed(server: ConnectedServer, user: User) -> None:
    own = server.deployment.sign
    other = Machine(tpm=FakeTpm(label="other")).sign

    def forged(session: OpenedSession, number: int) -> Answer:
        server.deployment.sign = other
        try:
            return _json(200, _logged(server.deployment.logged(server.log(session, number))))
        finally:
            server.deployment.sign = own

    server.on_receipt = forged
    assert_no_success(user.ask(stream=True), "receipt.inclusion.invalid", True)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"status": "partial", "reason": "engine_lost"}, "receipt.status"),
        ({"status": "aborted", "reason": "client_disconnected"}, "receipt.status"),
        ({"status": "failed", "reason": "engine_error"}, "receipt.status"),
        (
            {"status": "failed", "request": None, "forwarded": None, "response": None},
            "receipt.request.silent",
        ),
        ({"route": "/v1/completions"}, "receipt.route"),
        ({"model": "another"}, "receipt.model"),
        ({"http_status": 500}, "receipt.http_status"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_receipt_is_about_something_else(
    server: ConnectedServer, user: User, changes: dict[str, Any], code: str, stream: bool
) -> None:
    server.receipts = changes
    assert_no_success(user.ask(stream=stream), code, stream)


@pytest.mark.parametrize("named", ["demo", "second"])
def test_the_receipt_is_about_any_model_that_is_stated(server: ConnectedServer, named: str) -> None:
    first = server.deployment.instance_claims()
    server.deployment.claims["further_models"] = (FurtherModel("second", first.model_manifest, first.engine),)
    server.receipts = {"model": named}
    with User(server) as user:
        assert user.ask().status == 200


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"receipt":"AA","statement":"AA"}', b"[" * 100_000])
def test_a_receipt_that_is_none(server: ConnectedServer, user: User, content: bytes) -> None:
    server.on_receipt = lambda *_: Answer(200, content)
    reply = user.ask(stream=True)
    assert reply.code.startswith(("server.answer", "statement.claims", "receipt.inclusion"))
    assert not [mark for mark in ENDS if mark in reply.content]


def test_the_request_is_not_the_one_that_was_sent(server: ConnectedServer, user: User) -> None:
    made = server.exchange

    def another(seen: Any, path: str) -> Answer:
        return made(type(seen)(seen.method, seen.path, seen.headers, seen.content + b" "), path)

    server.exchange = another  # type: ignore[method-assign]
    assert_no_success(user.ask(), "receipt.request.size")


@pytest.mark.parametrize("stream", [False, True])
def test_the_connection_breaks_in_the_middle(server: ConnectedServer, user: User, stream: bool) -> None:
    made = server.exchange

    def cut(seen: Any, path: str) -> Answer:
        answer = made(seen, path)
        headers = {name: value for name, value in answer.headers.items() if name != "Transfer-Encoding"}
        whole = server._answered(seen)[2]
        return Answer(200, whole[: len(whole) // 2], headers, length=len(whole))

    server.exchange = cut  # type: ignore[method-assign]
    assert_no_success(user.ask(stream=stream), "response.cut", stream)


def test_an_answer_that_is_compressed(server: ConnectedServer, user: User) -> None:
    made = server.exchange

    def coded(seen: Any, path: str) -> Answer:
        answer = made(seen, path)
        answer.headers["Content-Encoding"] = "gzip"
        return answer

    server.exchange = coded  # type: ignore[method-assign]
    assert_no_success(user.ask(stream=True), "response.coding")


# --- before the first prompt ------------------------------------------------------------------------------------------


def assert_nothing_was_sent(server: ConnectedServer, reply: Reply, code: str) -> None:
    assert (reply.status, reply.code) == (502, code), reply.content
    assert server.prompts == []
    assert f"[{code}]" in reply.content.decode()


def test_the_nonce_is_not_echoed(server: ConnectedServer, user: User) -> None:
    server.on_nonce = lambda nonce: bytes(32)
    assert_nothing_was_sent(server, user.ask(stream=True), "statement.nonce.mismatch")
    # Nor the key.
    assert not [seen for seen in server.seen if "authorization" in seen.headers]


def test_the_session_answers_another_nonce(server: ConnectedServer, user: User) -> None:
    server.on_session_nonce = lambda nonce: bytes(32)
    assert_nothing_was_sent(server, user.ask(stream=True), "session.nonce.mismatch")


def test_the_session_has_no_nonce(server: ConnectedServer, user: User) -> None:
    server.session_claims = {"nonce": None}
    reply = user.ask(stream=True)
    assert reply.code.startswith("session.")
    assert server.prompts == []


def test_the_commitment_key_is_another_sessions(server: ConnectedServer, user: User) -> None:
    server.session_claims = {"commitment_key": bytes(32)}
    assert_nothing_was_sent(server, user.ask(), "session.commitment_key.mismatch")


def test_somebody_with_another_tls_key_is_in_between(
    server: ConnectedServer, user: User, tmp_path: Path
) -> None:
    other, _ = make_certificate(tmp_path, "middle")
    server.present(other)
    assert_nothing_was_sent(server, user.ask(stream=True), "channel.mismatch")
    assert not [seen for seen in server.seen if "authorization" in seen.headers]


def test_somebody_with_another_tls_key_comes_in_between_later(
    server: ConnectedServer, user: User, tmp_path: Path
) -> None:
    server.keep_alive = False
    assert user.ask(stream=True).status == 200
    seen = len(server.seen)
    other, _ = make_certificate(tmp_path, "middle")
    server.present(other)
    reply = user.ask(stream=True)
    assert (reply.status, reply.code) == (502, "channel.mismatch")
    # The new key met the question for its attestation, and nothing else.
    assert [one.path.partition("?")[0] for one in server.seen[seen:]] == ["/v1/rlu/attestation"]


def test_a_terminator_that_the_policy_pins_reads_but_cannot_change(
    server: ConnectedServer, tmp_path: Path
) -> None:
    other, spki = make_certificate(tmp_path, "terminator")
    server.present(other)
    policy = server.deployment.policy(terminators=frozenset({spki}))
    with User(server, options={"policy": policy}) as user:
        assert user.ask(stream=True).status == 200
        assert (user.told[0].event, user.told[0].waivers) == ("waived", ("channel.terminated",))
        server.on_wire = swap_text
        assert_no_success(user.ask(stream=True), "receipt.response.mismatch", stream=True)


def test_the_key_changes_before_a_receipt_is_fetched(
    server: ConnectedServer, user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECEIPT_WAIT_S", 0.05)
    server.keep_alive = False
    other, _ = make_certificate(tmp_path, "middle")
    made = server.exchange

    def exchange(seen: Any, path: str) -> Answer:
        server.present(other)
        return made(seen, path)

    server.exchange = exchange  # type: ignore[method-assign]
    assert_no_success(user.ask(stream=True), "channel.changed", True)


def test_a_key_that_changes_with_every_connection(
    server: ConnectedServer, user: User, tmp_path: Path
) -> None:
    server.keep_alive = False
    genuine, other = server.certificate, make_certificate(tmp_path, "middle")[0]
    opened = server.open_session

    def open_and_change(seen: Any) -> Answer:
        server.present(other)
        return opened(seen)

    asked = server.attest

    def attest_and_change_back(seen: Any) -> Answer:
        server.present(genuine)
        return asked(seen)

    server.open_session = open_and_change  # type: ignore[method-assign]
    server.attest = attest_and_change_back  # type: ignore[method-assign]
    reply = user.ask()
    assert reply.code in ("channel.changed", "channel.mismatch")
    assert server.prompts == []
    assert len(server.sessions) <= ATTEMPTS


def test_a_server_that_the_policy_does_not_accept(server: ConnectedServer) -> None:
    policy = server.deployment.policy(
        accept={**server.deployment.policy().accept, "regions": frozenset({"mars"})}
    )
    with User(server, options={"policy": policy}) as user:
        reply = user.ask(MESSAGES)
        assert_nothing_was_sent(server, reply, "policy.region.mismatch")
        assert json.loads(reply.content)["type"] == "error"
        assert "rlu verify URL" in json.loads(reply.content)["error"]["message"]
        assert user.events() == ["rejected"]
        # It is not asked again at once.
        assert user.ask().code == "policy.region.mismatch"
        assert len(server.seen) == 1


# --- in the course of a run -------------------------------------------------------------------------------------------


def moved(server: ConnectedServer, seconds: int) -> None:
    """Let time pass."""
    server.deployment.at += seconds


def test_the_renewed_statement_is_of_another_instance(server: ConnectedServer, user: User) -> None:
    assert user.ask(stream=True).status == 200
    tls = server.deployment.instance_claims().tls
    server.deployment = Deployment(
        machine=Machine(tpm=FakeTpm(label="other")), claims={"tls": tls}, at=server.deployment.at
    )
    prompts = len(server.prompts)
    moved(server, 4000)
    reply = user.ask(stream=True)
    # Vendor and registrar vouch for it as well: it would be accepted, were it the first.
    assert (reply.status, reply.code) == (502, "instance.changed")
    assert len(server.prompts) == prompts
    assert user.told[-1].event == "rejected"


def test_another_instance_may_be_accepted(server: ConnectedServer) -> None:
    with User(server, options={"accept_instance_change": True}) as user:
        assert user.ask().status == 200
        tls = server.deployment.instance_claims().tls
        server.deployment = Deployment(
            machine=Machine(tpm=FakeTpm(label="other")), claims={"tls": tls}, at=server.deployment.at
        )
        moved(server, 4000)
        assert user.ask().status == 200
        first, second = (status.instance for status in user.told if status.event == "verified")
        assert first != second


def test_the_renewed_statement_is_not_what_the_policy_accepts(server: ConnectedServer, user: User) -> None:
    assert user.ask().status == 200
    prompts = len(server.prompts)
    server.deployment.claims["region"] = "elsewhere"
    moved(server, 4000)
    reply = user.ask()
    assert reply.code in ("endorsement.match.differs", "policy.region.mismatch")
    assert len(server.prompts) == prompts


def test_the_close_does_not_count_what_was_seen(server: ConnectedServer) -> None:
    with User(server) as user:
        assert user.ask().status == 200
        (session,) = server.sessions.values()
        session.logged.clear()
        session.made.clear()
    assert (user.told[-1].event, user.told[-1].code) == ("rejected", "close.running.count")


def test_the_close_counts_more_than_was_seen(server: ConnectedServer) -> None:
    with User(server) as user:
        assert user.ask().status == 200
        (session,) = server.sessions.values()
        session.made[2] = dict(session.made[1])
    assert (user.told[-1].event, user.told[-1].code) == ("unproven", "close.running.partial")
