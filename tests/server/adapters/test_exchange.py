"""Exchanges end to end: byte-exact both ways, and a receipt over exactly those bytes for every way they can end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fakes.attestor import mangled
from fakes.rig import Response, Rig
from rlu_server.attestor import messages
from scripted import load_book

PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]
TERMINAL = {"/v1/responses": b"event: response.completed", "/v1/messages": b"event: message_stop"}


def body_for(path: str, *, stream: bool = False, script: str | None = None) -> bytes:
    body: dict[str, Any] = {"model": "scripted"}
    if path == "/v1/responses":
        body["input"] = "hé"
    elif path == "/v1/completions":
        body["prompt"] = "hé"
    elif path == "/v1/embeddings":
        body["input"] = ["a", "b"]
    else:
        body["messages"] = [{"role": "user", "content": "hé"}]
    if stream:
        body["stream"] = True
    if script:
        body["metadata"] = {"script": script}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


async def engines_own(rig: Rig, path: str, body: bytes) -> bytes:
    """What the engine answers to these bytes without a gateway."""
    reader, writer = await asyncio.open_unix_connection(str(rig.places.engine_socket))
    writer.write(
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)
    )
    from fakes.rig import Wire

    wire = Wire(reader, writer)
    response = await wire.response()
    wire.abort()
    return response.content


def forwarded(rig: Rig) -> bytes:
    """The content of the last request of a client that the engine saw."""
    return next(
        seen.body
        for seen in reversed(rig.engine.seen)
        if seen.method == "POST" and b'"cache_salt":"a/b"' not in seen.body
    )


@pytest.mark.parametrize("path", [*PATHS, "/v1/embeddings", "/v1/messages/count_tokens"])
async def test_answers_are_byte_exact_and_receipted(rig: Rig, path: str):
    body = body_for(path)
    response = await rig.call(path, body)
    assert response.status == 200
    sent = forwarded(rig)
    assert response.content == await engines_own(rig, path, sent)
    receipt = await rig.receipt(response)
    rig.check_commitments(receipt, body, sent, response.content)
    assert (receipt.status, receipt.http_status, receipt.route, receipt.model) == (
        "complete",
        200,
        path,
        "scripted",
    )
    assert receipt.reason is None
    salted = path != "/v1/messages/count_tokens"
    assert receipt.rewritten == (("cache_salt",) if salted else ())
    assert (sent != body) is salted


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("script", ["split", "joined", "cached"])
async def test_streams_are_byte_exact_and_receipted(rig: Rig, path: str, script: str):
    body = body_for(path, stream=True, script=script)
    response = await rig.call(path, body)
    assert response.headers["content-type"].startswith("text/event-stream")
    sent = forwarded(rig)
    assert response.content == await engines_own(rig, path, sent)
    receipt = await rig.receipt(response)
    rig.check_commitments(receipt, body, sent, response.content)
    assert receipt.status == "complete"
    if path in ("/v1/responses", "/v1/messages"):
        assert receipt.usage is not None
        assert receipt.usage.output_tokens > 0
        assert receipt.usage.cached_input_tokens == (16 if script == "cached" else 0)


async def test_events_are_passed_on_as_they_come(rig: Rig):
    wire = await rig.wire()
    await wire.send(rig.request(PATHS[0], rig.chat(stream=True, script="slow")))
    first = await wire.until(b"data: ")
    assert b"[DONE]" not in first
    assert b"Transfer-Encoding: chunked" in first


async def test_conversations_keep_their_session_and_count_up(rig: Rig):
    headers = {"session-id": "one"}
    answers = [await rig.call(PATHS[0], rig.chat(), headers=headers) for _ in range(3)]
    assert len({each.session for each in answers}) == 1
    assert [each.seq for each in answers] == [1, 2, 3]
    other = await rig.call(PATHS[0], rig.chat(), headers={"session-id": "two"})
    assert other.session != answers[0].session
    again = await rig.call(PATHS[0], rig.chat(), headers={"RLU-Session": answers[0].session})
    assert (again.session, again.seq) == (answers[0].session, 4)
    by_body = [await rig.call(PATHS[0], rig.chat(prompt_cache_key="k")) for _ in range(2)]
    assert by_body[0].session == by_body[1].session != other.session


async def test_one_opening_serves_all_who_ask_at_once(rig: Rig):
    rig.attestor.delay_s = 0.1
    answers = await asyncio.gather(*(rig.call(PATHS[0], rig.chat()) for _ in range(20)))
    assert len({each.session for each in answers}) == 1
    assert sorted(each.seq for each in answers) == list(range(1, 21))
    assert len([m for m in rig.attestor.received if isinstance(m, messages.OpenSession)]) == 1


async def test_an_implicit_session_commits_to_the_request_that_opened_it(rig: Rig):
    import hashlib

    from rlu_attestation.commitment import OPENING_SESSION, Tag, commit, key_digest

    body = body_for(PATHS[0])
    response = await rig.call(PATHS[0], body)
    statement, session = rig.statement(response.session), rig.session(response.session)
    assert statement.nonce is None
    assert statement.commitment_key == key_digest(session.commitment_key)
    assert statement.opening is not None
    digest = hashlib.sha256(body).digest()
    expected = commit(session.commitment_key, Tag.OPENING, OPENING_SESSION, 0, len(body), digest)
    assert (statement.opening.size, statement.opening.commitment) == (len(body), expected)


@pytest.mark.parametrize("path", PATHS)
async def test_no_byte_before_the_session_is_signed(rig: Rig, path: str):
    rig.attestor.may_sign.clear()
    wire = await rig.wire()
    await wire.send(rig.request(path, body_for(path, stream=True)))
    # The engine has long answered; the statement is not signed yet.
    await rig.eventually(
        lambda: any(seen.target == path and seen.outcome == "complete" for seen in list(rig.engine.seen)[6:])
    )
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(wire.reader.read(1), 0.3)
    rig.attestor.may_sign.set()
    assert (await wire.response()).status == 200


async def test_a_statement_that_does_not_verify_lets_nothing_out(rig: Rig):
    rig.attestor.corrupt = mangled
    response = await rig.call(PATHS[0], rig.chat())
    assert (response.status, response.json()["error"]["code"]) == (503, "signer_unavailable")
    assert "rlu-session" not in response.headers
    assert [e["event"] for e in rig.events].count("attestor_untrusted") == 1
    rig.attestor.corrupt = None
    await rig.ready()
    assert (await rig.call(PATHS[0], rig.chat())).status == 200


async def partial(rig: Rig, path: str, script: str) -> Response:
    return await rig.call(path, body_for(path, stream=True, script=script))


@pytest.mark.parametrize("path", PATHS)
async def test_an_engine_that_goes_away_in_a_stream_leaves_a_clear_error_and_a_partial_receipt(
    rig: Rig, path: str
):
    body = body_for(path, stream=True, script="close")
    response = await rig.call(path, body)
    assert response.complete
    assert b"engine_lost" in response.content
    assert response.content.endswith(b"\n\n")
    receipt = await rig.receipt(response)
    rig.check_commitments(receipt, body, forwarded(rig), response.content)
    assert (receipt.status, receipt.http_status, receipt.reason) == ("partial", 200, "engine_lost")


async def test_an_engine_that_goes_away_within_an_event_cuts_the_connection(rig: Rig):
    class Half(asyncio.Protocol):
        """An engine that honours salts, and stops in the middle of its second event."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            if data.startswith(b"GET /health") or b'"cache_salt":"a/b"' in data:
                status = b"200" if data.startswith(b"GET") else b"400"
                self.transport.write(b"HTTP/1.1 %b x\r\nContent-Length: 0\r\n\r\n" % status)  # type: ignore[attr-defined]
                return
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            self.transport.write(head + b"f\r\ndata: 1\n\ndata: \r\n")  # type: ignore[attr-defined]
            asyncio.get_running_loop().call_later(0.2, self.transport.close)

    await rig.call(PATHS[0], rig.chat())
    await unnoticed(rig)
    server = await asyncio.get_running_loop().create_unix_server(Half, str(rig.places.engine_socket))
    body = body_for(PATHS[0], stream=True)
    response = await rig.call(PATHS[0], body)
    server.close()
    assert not response.complete
    assert response.content == b"data: 1\n\ndata: "
    receipt = await rig.receipt(response)
    assert (receipt.status, receipt.reason) == ("partial", "engine_lost")
    assert receipt.response is not None
    assert receipt.response.size == len(response.content)


async def test_what_was_held_back_is_not_sent_when_the_engine_is_gone_before_admission(rig: Rig):
    rig.attestor.may_sign.clear()
    asked = asyncio.ensure_future(rig.call(PATHS[0], body_for(PATHS[0], stream=True, script="close")))
    # The engine has sent what it had, and closed.
    await rig.eventually(
        lambda: any(
            seen.target == PATHS[0] and seen.outcome == "complete" for seen in list(rig.engine.seen)[6:]
        )
    )
    await rig.eventually(lambda: not rig.gateway.relay.engine.replicas[0].engine.running)
    rig.attestor.may_sign.set()
    response = await asked
    assert (response.status, response.json()["error"]["code"]) == (502, "engine_lost")
    assert (await rig.receipt(response)).status == "failed"


@pytest.mark.parametrize(
    ("script", "stream", "status", "http", "reason", "code"),
    [
        ("status", False, "failed", 500, "engine_status", None),
        ("status", True, "failed", 500, "engine_status", None),
        ("garbage", False, "failed", 502, "engine_protocol", "engine_protocol"),
        ("reset", False, "failed", 502, "engine_lost", "engine_lost"),
        ("error_event", True, "failed", 200, "engine_error", None),
    ],
)
async def test_failures_are_receipted(
    rig: Rig, script: str, stream: bool, status: str, http: int, reason: str, code: str | None
):
    body = body_for(PATHS[0], stream=stream, script=script)
    response = await rig.call(PATHS[0], body)
    assert response.status == http
    if code is not None:
        assert response.json()["error"]["code"] == code
    receipt = await rig.receipt(response)
    assert (receipt.status, receipt.http_status, receipt.reason) == (status, http, reason)
    rig.check_commitments(receipt, body, forwarded(rig), response.content)


async def unnoticed(rig: Rig) -> None:
    """Stop the engine between two health checks."""
    await rig.last_look()
    await rig.stop_engine()
    rig.gateway.engine.close()


async def test_an_engine_that_is_down_is_a_503_with_a_failed_receipt(rig: Rig):
    await unnoticed(rig)
    body = body_for("/v1/messages")
    response = await rig.call("/v1/messages", body)
    assert response.status == 503
    assert response.headers["retry-after"] == "5"
    assert response.json()["error"]["type"] == "overloaded_error"
    receipt = await rig.receipt(response)
    assert (receipt.status, receipt.reason, receipt.forwarded) == ("failed", "engine_unavailable", None)
    rig.check_commitments(receipt, body, None, response.content)
    await rig.start_engine()
    assert (await rig.call("/v1/messages", body)).session == response.session


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_aborts_the_engine_and_is_receipted(rig: Rig, stream: bool):
    wire = await rig.wire()
    script = "slow" if stream else "late"
    await wire.send(rig.request(PATHS[0], body_for(PATHS[0], stream=stream, script=script)))
    if stream:
        await wire.until(b"data: ")
    else:
        await rig.eventually(
            lambda: any(isinstance(m, messages.BeginExchange) for m in rig.attestor.received)
        )
    wire.abort()
    await rig.eventually(
        lambda: (
            rig.engine.seen[-1].outcome == "aborted" or any(s.outcome == "aborted" for s in rig.engine.seen)
        )
    )
    await rig.eventually(lambda: any(isinstance(m, messages.RecordReceipt) for m in rig.attestor.received))
    record = next(m for m in rig.attestor.received if isinstance(m, messages.RecordReceipt))
    assert (record.status, record.reason) == ("aborted", "client_disconnected")
    assert record.http_status == (200 if stream else 0)
    assert (record.response.bytes > 0) is stream
    assert not rig.gateway.relay.exchanges


@pytest.mark.parametrize("path", PATHS)
async def test_a_client_may_leave_once_it_has_the_terminal_event(rig: Rig, path: str):
    rig.engine.book = load_book({"default": {"events": 2, "fault": {"kind": "stall", "after": 999}}})
    wire = await rig.wire()
    await wire.send(rig.request(path, body_for(path, stream=True)))
    await wire.until(TERMINAL.get(path, b"data: [DONE]"))
    wire.abort()
    await rig.eventually(lambda: any(isinstance(m, messages.RecordReceipt) for m in rig.attestor.received))
    record = next(m for m in rig.attestor.received if isinstance(m, messages.RecordReceipt))
    assert (record.status, record.reason, record.http_status) == ("complete", None, 200)


async def test_a_client_that_leaves_before_it_was_admitted_still_leaves_a_trace(rig: Rig):
    rig.attestor.may_sign.clear()
    wire = await rig.wire()
    await wire.send(rig.request(PATHS[0], rig.chat()))
    await rig.eventually(lambda: any(isinstance(m, messages.OpenSession) for m in rig.attestor.received))
    wire.abort()
    await rig.eventually(lambda: not rig.gateway.relay.connections)
    rig.attestor.may_sign.set()
    await rig.eventually(lambda: any(isinstance(m, messages.RecordReceipt) for m in rig.attestor.received))
    record = rig.attestor.received[-1]
    assert isinstance(record, messages.RecordReceipt)
    assert (record.status, record.http_status, record.response.bytes) == ("aborted", 0, 0)


async def test_a_slow_reader_slows_the_engine_down(rig: Rig):
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.gateway.port, limit=1024)
    writer.write(rig.request(PATHS[0], rig.chat(stream=True, script="long")))
    await reader.read(100)
    # Nothing is read any more: the client's buffers fill, then ours, then the engine is paused.
    await rig.eventually(lambda: any(c.paused_since is not None for c in rig.gateway.relay.connections))
    (exchange,) = rig.gateway.relay.exchanges
    await asyncio.sleep(0.2)
    relayed = exchange._answer.observation.size
    await asyncio.sleep(0.3)
    assert exchange._answer.observation.size == relayed
    while not rig.gateway.relay.measures.receipts:
        await reader.read(65536)
    writer.transport.abort()
    assert rig.gateway.relay.measures.receipts == {"complete": 1}
    assert exchange._answer.observation.size > 4_000_000


async def test_receipts_wait_for_their_signature(rig: Rig):
    rig.attestor.delay_s = 0.2
    response = await rig.call(PATHS[0], rig.chat())
    assert (await rig.receipt(response)).seq == 1


async def test_usage_and_counters(rig: Rig):
    await rig.call(PATHS[0], rig.chat(script="cached"))
    await rig.call(PATHS[0], rig.chat(model="other"))
    m = rig.gateway.relay.measures
    assert (m.input_tokens, m.cached_input_tokens) == (20, 16)
    assert m.receipts == {"complete": 1}
    assert m.refusals == {"model_not_found": 1}
    assert m.requests == {(PATHS[0], 200): 1, (PATHS[0], 404): 1}
    assert sum(m.first_byte.counts) == 1


async def test_memory_for_bodies_is_bounded_and_given_back(rig: Rig):
    relay = rig.gateway.relay
    most = 16 * rig.settings.gateway.max_body_bytes
    own = rig.gateway.relay.keys.authenticate(rig.keys["alice"], 0.0).tenant_pseudonym
    for tenant, taken in (("another", most - 10), (own, most // 2 - 10)):
        relay._held[tenant] = taken
        refused = await rig.call(PATHS[0], rig.chat())
        assert (refused.status, refused.json()["error"]["code"]) == (503, "overloaded")
        relay._held.clear()
    wire = await rig.wire()
    await wire.send(rig.request(PATHS[0], rig.chat(script="late")))
    await rig.eventually(lambda: relay._held.total() > 0)
    wire.abort()
    half = await rig.wire()
    await half.send(rig.request(PATHS[0], rig.chat())[:-5])
    await rig.eventually(lambda: relay._held.total() > 0)
    half.abort()
    for body in (
        rig.chat(),
        rig.chat(stream=True),
        b"{}",
        rig.chat(script="reset"),
        rig.chat(script="status"),
    ):
        await rig.call(PATHS[0], body)
    await rig.eventually(lambda: relay._held.total() == 0 and not relay.exchanges)


async def test_an_engine_known_to_be_down_is_not_asked(rig: Rig):
    await rig.stop_engine()
    rig.gateway.engine.close()
    await rig.eventually(lambda: not rig.gateway.readiness.engine)
    answer = await rig.call(PATHS[0], rig.chat())
    assert (answer.status, answer.json()["error"]["code"]) == (503, "engine_unavailable")
    assert "rlu-receipt" not in answer.headers
