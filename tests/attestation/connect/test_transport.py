"""Transports under the real SDKs: what passes, what waits, and what a session goes through in the course of a run."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from fakes.connected import MODEL, ConnectedServer
from fakes.connected_clients import CHAT, MESSAGES, RESPONSES, User
from fakes.server import API_KEY, Answer, _json, make_certificate
from rlu_attestation.connect import AsyncVerifyingTransport, VerifyingTransport, session
from rlu_attestation.connect.errors import Misuse

ASKED: Any = [{"role": "user", "content": "hello"}]
SAID = "hello yourself, whoever you are"
TOOL: Any = {"metadata": {"script": "tool"}}


def options(server: ConnectedServer) -> dict[str, Any]:
    return {"policy": server.deployment.policy(), "clock": server.clock}


# --- the SDKs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [httpx2, httpx], ids=["httpx2", "httpx"])
def test_the_openai_sdk(server: ConnectedServer, library: Any) -> None:
    transport = VerifyingTransport(server.url, **options(server))
    with (
        library.Client(transport=transport) as http,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key=API_KEY, http_client=http) as sdk,
    ):
        assert [model.id for model in sdk.models.list()] == [MODEL]
        whole = sdk.chat.completions.create(model=MODEL, messages=ASKED)
        assert whole.choices[0].message.content == SAID
        with sdk.chat.completions.create(model=MODEL, messages=ASKED, stream=True) as stream:
            assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == SAID
        with sdk.responses.create(model=MODEL, input="x", stream=True, **TOOL) as events:
            kinds = [event.type for event in events]
        assert kinds.count("response.function_call_arguments.done") == 2
        assert kinds[-1] == "response.completed"
        assert sdk.embeddings.create(model=MODEL, input="x", encoding_format="float").data
    (opened,) = server.sessions.values()
    assert (len(opened.logged), opened.closed) == (4, True)


@pytest.mark.parametrize("library", [httpx2, httpx], ids=["httpx2", "httpx"])
def test_the_openai_sdk_in_an_event_loop(server: ConnectedServer, library: Any) -> None:
    async def ask(sdk: openai.AsyncOpenAI) -> str:
        stream = await sdk.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def ask_at_once() -> list[str]:
        transport = AsyncVerifyingTransport(server.url, **options(server))
        async with (
            library.AsyncClient(transport=transport) as http,
            openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=API_KEY, http_client=http) as sdk,
        ):
            return await asyncio.gather(*(ask(sdk) for _ in range(5)))

    assert asyncio.run(ask_at_once()) == [SAID] * 5
    (opened,) = server.sessions.values()
    assert (len(opened.logged), opened.closed) == (5, True)


def test_the_anthropic_sdk(server: ConnectedServer) -> None:
    transport = VerifyingTransport(server.url, **options(server))
    with (
        httpx2.Client(transport=transport) as http,
        anthropic.Anthropic(base_url=server.url, api_key=API_KEY, http_client=http) as sdk,
    ):
        whole = sdk.messages.create(model=MODEL, messages=ASKED, max_tokens=9)
        assert [block.text for block in whole.content if block.type == "text"] == [SAID]
        with sdk.messages.stream(model=MODEL, messages=ASKED, max_tokens=9, extra_body=TOOL) as stream:
            message = stream.get_final_message()
        assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
        assert sdk.messages.count_tokens(model=MODEL, messages=ASKED).input_tokens > 0


def test_the_anthropic_sdk_in_an_event_loop(server: ConnectedServer) -> None:
    async def ask() -> str:
        transport = AsyncVerifyingTransport(server.url, **options(server))
        async with (
            httpx2.AsyncClient(transport=transport) as http,
            anthropic.AsyncAnthropic(base_url=server.url, api_key=API_KEY, http_client=http) as sdk,
            sdk.messages.stream(model=MODEL, messages=ASKED, max_tokens=9) as stream,
        ):
            return await stream.get_final_text()

    assert asyncio.run(ask()) == SAID


def swapped(data: bytes) -> bytes:
    return data.replace(b"hel", b"Hel", 1)


def test_the_sdks_raise_what_was_found(server: ConnectedServer) -> None:
    server.on_wire = swapped

    def http() -> httpx2.Client:
        return httpx2.Client(transport=VerifyingTransport(server.url, **options(server)))

    def gpt(client: httpx2.Client) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{server.url}/v1", api_key=API_KEY, http_client=client)

    with http() as client, pytest.raises(openai.APIError, match="other bytes") as chat:
        list(gpt(client).chat.completions.create(model=MODEL, messages=ASKED, stream=True))
    assert chat.value.code == "receipt.response.mismatch"
    with http() as client, pytest.raises(openai.APIError, match="other bytes"):
        list(gpt(client).responses.create(model=MODEL, input="x", stream=True))
    with http() as client, pytest.raises(openai.InternalServerError, match="other bytes"):
        gpt(client).chat.completions.create(model=MODEL, messages=ASKED)
    with http() as client:
        claude = anthropic.Anthropic(base_url=server.url, api_key=API_KEY, http_client=client)
        with pytest.raises(anthropic.APIStatusError, match="other bytes"):
            list(claude.messages.create(model=MODEL, messages=ASKED, max_tokens=9, stream=True))
    # None of them tried again by itself.
    assert len(server.prompts) == 4


# --- what passes and what waits ---------------------------------------------------------------------------------------


def test_the_text_passes_while_its_end_waits(server: ConnectedServer) -> None:
    server.gate.clear()
    transport = VerifyingTransport(server.url, api_key=API_KEY, **options(server))
    body = {"model": MODEL, "input": "x", "stream": True, **TOOL}
    with (
        httpx2.Client(transport=transport) as http,
        http.stream("POST", server.url + RESPONSES, json=body) as response,
    ):
        pieces: Iterator[bytes] = response.iter_raw()
        seen = b""
        while b"function_call_arguments.delta" not in seen:
            seen += next(pieces)
        assert b"Let me l" in seen
        assert b"arguments.done" not in seen
        arrived = threading.Event()

        def read() -> None:
            nonlocal seen
            for piece in pieces:
                seen += piece
                if b"arguments.done" in piece:
                    arrived.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert not arrived.wait(0.2)
        server.gate.set()
        assert arrived.wait(60)
        reader.join()
    assert seen.endswith(b"\n\n")
    assert seen.count(b"response.output_item.done") >= 4


def test_the_bytes_are_those_that_the_server_sent(server: ConnectedServer, user: User) -> None:
    sent: list[bytes] = []
    server.on_wire = lambda data: sent.append(data) or data  # type: ignore[func-returns-value]
    for path in (CHAT, RESPONSES, MESSAGES):
        for stream in (False, True):
            for script in ("", "tool"):
                reply = user.ask(path, stream=stream, script=script, input="x")
                assert (reply.status, reply.content) == (200, sent[-1])


def test_only_what_is_needed_is_sent(server: ConnectedServer) -> None:
    transport = VerifyingTransport(server.url, **options(server))
    with httpx2.Client(transport=transport) as http:
        headers = {
            "x-api-key": API_KEY,
            "x-codex-turn-metadata": "/home/me/secret-project",
            "cookie": "a=b",
            "anthropic-version": "2023-06-01",
            "accept-encoding": "gzip",
        }
        http.post(
            server.url + MESSAGES + "?beta=true", json={"model": MODEL, "messages": []}, headers=headers
        )
    (prompt,) = server.prompts
    assert prompt.path == MESSAGES
    assert prompt.headers["anthropic-version"] == "2023-06-01"
    assert prompt.headers["accept-encoding"] == "identity"
    assert prompt.headers["authorization"] == f"Bearer {API_KEY}"
    assert not prompt.headers.keys() & {"x-codex-turn-metadata", "cookie", "x-api-key"}


def test_an_error_of_the_engine_is_proven_and_passed_on(server: ConnectedServer, user: User) -> None:
    reply = user.ask(script="refuses")
    assert reply.status == 500
    assert b"Internal server error" in reply.content
    assert "unproven" not in user.events()


def test_an_error_in_a_stream_is_passed_on_and_ends_it(server: ConnectedServer, user: User) -> None:
    reply = user.ask(stream=True, script="error")
    assert b"Internal server error" in reply.content.rstrip().rpartition(b"data: ")[2]
    assert b"[DONE]" not in reply.content
    assert "unproven" not in user.events()


def test_a_refusal_has_no_receipt_and_is_passed_on(server: ConnectedServer, user: User) -> None:
    user.ask()
    server.answers[CHAT] = _json(404, {"error": {"code": "model_not_found", "message": "not here"}})
    reply = user.ask()
    assert (reply.status, reply.code) == (404, "model_not_found")


@pytest.mark.parametrize("path", ["/v1/files", "/v1/rlu/sessions", "/v1/models/../files", "/metrics", "/"])
def test_a_route_that_is_not_relayed(server: ConnectedServer, user: User, path: str) -> None:
    reply = user.ask(path)
    assert (reply.status, reply.code) == (404, "connect.route")
    assert server.seen == []


def test_models_are_asked_for_over_the_attested_channel(server: ConnectedServer, user: User) -> None:
    reply = user.ask("/v1/models", method="GET")
    assert json.loads(reply.content)["data"][0]["id"] == MODEL
    assert user.events() == ["verified"]


# --- misuse -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["https://elsewhere.test", "http://localhost:{port}", "https://localhost:1"])
def test_a_request_for_another_server(server: ConnectedServer, url: str) -> None:
    transport = VerifyingTransport(server.url, api_key=API_KEY, **options(server))
    target = url.format(port=server.url.rpartition(":")[2])
    with httpx2.Client(transport=transport) as http:
        reply = http.post(target + CHAT, json={})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "connect.origin")
    assert server.seen == []


def test_one_transport_has_one_key(server: ConnectedServer) -> None:
    transport = VerifyingTransport(server.url, **options(server))
    body = {"model": MODEL, "messages": ASKED}
    with httpx2.Client(transport=transport) as http:

        def code(key: str) -> Any:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            reply = http.post(server.url + CHAT, json=body, headers=headers)
            return reply.status_code if reply.status_code == 200 else reply.json()["error"]["code"]

        assert [code(""), code(API_KEY), code("another"), code(API_KEY)] == [
            "connect.key",
            200,
            "connect.key",
            200,
        ]


@pytest.mark.parametrize(
    "url", ["localhost:1", "ftp://x", "https://", "https://x:0", "https://u@x", "https://x?q"]
)
def test_an_address_that_is_none(server: ConnectedServer, url: str) -> None:
    with pytest.raises(Misuse) as refused:
        VerifyingTransport(url, **options(server))
    assert refused.value.code == "server.url"


# --- a run ------------------------------------------------------------------------------------------------------------


def test_a_wrong_key_is_said_to_be_one(server: ConnectedServer) -> None:
    with User(server, options={"api_key": "wrong"}) as user:
        reply = user.ask()
        assert (reply.status, reply.code) == (503, "server.refused")
        assert b"key_invalid" in reply.content
        assert reply.headers["x-should-retry"] == "false"
    assert user.events() == ["unreachable"]


def test_a_server_that_is_not_there(server: ConnectedServer) -> None:
    with User(server) as user:
        server._http.socket.close()
        reply = user.ask()
        assert (reply.status, reply.code) == (503, "server.unreachable")
        assert "x-should-retry" not in reply.headers


def test_the_nonce_is_ours_and_fresh(server: ConnectedServer) -> None:
    transport = VerifyingTransport(server.url, api_key=API_KEY, **options(server))
    with httpx2.Client(transport=transport) as http:
        http.post(server.url + CHAT, json={"model": MODEL, "messages": ASKED})
        opened = transport.guard.session
        assert opened is not None
        assert opened.verdict.freshness == "verifier"
        assert opened.verdict.covers == ("instance", "session")
        assert opened.statement.nonce == opened.signed.claims.nonce
        # A minute before the policy's hour since the statement was made, 10 s ago, is over.
        assert opened.renew_at == server.deployment.at - 10 + 3600 - 60
        assert [opened.due(opened.renew_at - 1), opened.due(opened.renew_at)] == [False, True]


def test_a_session_is_renewed_before_it_runs_out(server: ConnectedServer, user: User) -> None:
    assert user.ask().status == 200
    server.deployment.at += 3000
    assert user.ask().status == 200
    assert len(server.sessions) == 1
    server.deployment.at += 600  # the policy accepts statements of an hour
    assert user.ask(stream=True).status == 200
    first, second = server.sessions.values()
    assert (first.closed, second.closed) == (True, False)
    assert user.events() == ["verified", "verified", "closed"]
    attestations = [seen for seen in server.seen if seen.path.startswith("/v1/rlu/attestation")]
    assert len({seen.path for seen in attestations}) == 2  # each with a nonce of its own


def test_a_session_has_so_many_exchanges(
    server: ConnectedServer, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "MAX_EXCHANGES", 2)
    for _ in range(5):
        assert user.ask().status == 200
    assert [len(opened.made) for opened in server.sessions.values()] == [2, 2, 1]


@pytest.mark.parametrize("stream", [False, True])
def test_a_session_that_the_server_has_ended(server: ConnectedServer, user: User, stream: bool) -> None:
    assert user.ask(stream=stream).status == 200
    (first,) = server.sessions.values()
    first.closed = True
    assert user.ask(stream=stream).status == 200
    assert user.events() == ["verified", "verified"]


def test_a_server_that_ends_every_session(server: ConnectedServer, user: User) -> None:
    server.answers[CHAT] = _json(410, {"error": {"code": "session_closed", "message": "closed"}})
    reply = user.ask()
    assert (reply.status, reply.code) == (410, "session_closed")
    assert len(server.sessions) == 2


def test_the_gateway_restarts_with_another_key(server: ConnectedServer, user: User, tmp_path: Path) -> None:
    server.keep_alive = False
    assert user.ask(stream=True).status == 200
    certificate, spki = make_certificate(tmp_path, "restarted")
    server.present(certificate)
    tls = type(server.deployment.instance_claims().tls)("gateway-memory", spki)
    server.deployment.claims["tls"] = tls
    assert user.ask(stream=True).status == 200
    assert user.events()[:2] == ["verified", "verified"]
    assert len(server.prompts) == 2


def test_many_at_once_open_one_session(server: ConnectedServer) -> None:
    transport = VerifyingTransport(server.url, api_key=API_KEY, **options(server))
    found: list[int] = []
    with httpx2.Client(transport=transport) as http:

        def ask() -> None:
            body = {"model": MODEL, "messages": ASKED, "stream": True}
            found.append(http.post(server.url + CHAT, json=body).status_code)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [200] * 6
    assert len(server.sessions) == 1


def test_who_leaves_in_the_middle_has_the_receipt_counted(server: ConnectedServer) -> None:
    with User(server) as user:
        body = {"model": MODEL, "messages": ASKED, "stream": True}
        with user.client.stream("POST", server.url + CHAT, json=body) as response:
            next(response.iter_raw())
        assert user.ask().status == 200
    assert (user.told[-1].event, user.told[-1].receipts) == ("closed", 2)


def test_waivers_are_always_shown(tmp_path: Path) -> None:
    with ConnectedServer(tmp_path, software_key=True) as server:
        with User(server) as user:
            assert user.ask().code == "key.hardware.software"
        loose = server.deployment.policy(minimum_source={}, pcrs=None, ek_roots=(), registrars=())
        given = {"policy": loose, "insecure_accept_software_key": True}
        with User(server, options=given) as user:
            assert user.ask().status == 200, user.told
            assert user.told[0].event == "waived"
            assert user.told[0].line().startswith("rlu connect: WAIVED (key.hardware.software)")


def test_plain_http_is_refused_unless_waived(tmp_path: Path) -> None:
    with ConnectedServer(tmp_path, plaintext=True) as server:
        with User(server) as user:
            assert user.ask().code == "channel.plaintext"
            assert server.prompts == []
        policy = server.deployment.policy(
            channel_origins=frozenset({"plaintext"}),
            waivers={"channel": "a test", "session.channel": "a test"},
        )
        with User(server, options={"policy": policy}) as user:
            assert user.ask().status == 200
            assert user.told[0].waivers == ("channel.plaintext",)


def test_what_the_policy_requires_beyond_the_session_is_shown_later(server: ConnectedServer) -> None:
    policy = server.deployment.policy(require=frozenset({"instance", "session", "receipts", "close"}))
    with User(server, options={"policy": policy}) as user:
        assert user.ask().status == 200
    assert user.events() == ["verified", "closed"]


def test_an_answer_to_ourselves_is_bounded(server: ConnectedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlu_attestation.connect import target

    monkeypatch.setattr(target, "MAX_ANSWER", 1000)
    server.answers["/v1/rlu/attestation"] = Answer(200, b"x" * 1001)
    with User(server) as user:
        assert user.ask().code == "server.answer"
