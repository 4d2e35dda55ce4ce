"""The verifier's client against a server over real TLS: what it asks, what it pins, and what it refuses."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.deployment import AT, NONCE, RESPONSE, SESSION
from fakes.server import API_KEY, Answer, FakeServer, make_certificate
from rlu_attestation import client as module
from rlu_attestation.client import Client
from rlu_attestation.errors import Malformed, RluError, Unreachable, Untrusted
from rlu_attestation.verdict import Result, Verdict
from rlu_attestation.verifier import Context, verify


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeServer]:
    with FakeServer(tmp_path) as running:
        yield running


def verdict(server: FakeServer, client: Client, bundle: object) -> Verdict:
    return verify(
        Context(
            bundle=bundle,  # type: ignore[arg-type]
            policy=server.deployment.policy(),
            at=AT,
            nonce=NONCE,
            channel=client.spki_sha256,
            plaintext=client.plaintext,
        )
    )


def test_a_fresh_attestation(server: FakeServer) -> None:
    with Client(server.url) as client:
        bundle = client.attestation(NONCE)
    assert client.spki_sha256 == server.deployment.instance_claims().tls.spki_sha256 == bundle.channel
    assert bundle.nonce == NONCE
    found = verdict(server, client, bundle)
    assert (found.result, found.covers) == (Result.VERIFIED, ("instance",))
    assert "authorization" not in server.seen[0].headers


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_session_with_a_probe_from_start_to_end(server: FakeServer, keep_alive: bool) -> None:
    server.keep_alive = keep_alive
    with Client(server.url) as client:
        bundle = client.session(client.attestation(NONCE), NONCE, API_KEY, "hello")
    found = verdict(server, client, bundle)
    assert (found.result, found.failures) == (Result.VERIFIED, ())
    assert found.covers == ("instance", "session", "receipts", "close")
    assert bundle.exchanges[0].response == RESPONSE
    probe = next(seen for seen in server.seen if seen.path == "/v1/chat/completions")
    assert probe.headers["rlu-session"] == SESSION
    assert probe.headers["accept-encoding"] == "identity"
    assert probe.content == bundle.exchanges[0].request
    sent = json.loads(probe.content)
    assert (sent["model"], sent["messages"]) == ("demo", [{"role": "user", "content": "hello"}])
    assert [seen.path for seen in server.seen][-1] == "/v1/rlu/log/head"


def test_a_session_without_a_probe_is_closed_unused(server: FakeServer) -> None:
    with Client(server.url) as client:
        bundle = client.session(client.attestation(NONCE), NONCE, API_KEY, None)
    assert verdict(server, client, bundle).covers == ("instance", "session", "close")
    assert not any("chat" in seen.path for seen in server.seen)


def test_bytes_changed_on_the_way_are_found(server: FakeServer) -> None:
    def swap(seen: object) -> Answer:
        answer = server.complete(seen)  # type: ignore[arg-type]
        answer.content = answer.content.replace(b"hello", b"HELLO")
        return answer

    server.answers["/v1/chat/completions"] = swap
    with Client(server.url) as client:
        bundle = client.session(client.attestation(NONCE), NONCE, API_KEY, "hello")
    assert verdict(server, client, bundle).step("receipt.response", "exchange 1").code == (
        "receipt.response.mismatch"
    )


def test_another_tls_key_later_is_refused_before_anything_is_sent(server: FakeServer, tmp_path: Path) -> None:
    server.keep_alive = False
    other, _ = make_certificate(tmp_path, "other")
    with Client(server.url) as client:
        bundle = client.attestation(NONCE)
        server.present(other)
        with pytest.raises(Untrusted) as refusal:
            client.session(bundle, NONCE, API_KEY, None)
    assert refusal.value.code == "channel.changed"
    assert not any("authorization" in seen.headers for seen in server.seen)


def test_plain_http_has_no_channel(tmp_path: Path) -> None:
    with FakeServer(tmp_path, plaintext=True) as server, Client(server.url) as client:
        bundle = client.attestation(NONCE)
        assert client.plaintext
        assert bundle.channel is None
        assert verdict(server, client, bundle).step("channel").code == "channel.plaintext"


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(Unreachable) as refusal:
            Client(f"https://127.0.0.1:{port}").attestation(NONCE)
    assert refusal.value.code == "server.unreachable"
    assert refusal.value.exit_code == 3


def test_no_such_host() -> None:
    with pytest.raises(Unreachable) as refusal:
        Client("https://host.invalid").attestation(NONCE)
    assert refusal.value.code == "server.unreachable"


def test_something_else_than_tls(tmp_path: Path) -> None:
    with FakeServer(tmp_path, plaintext=True) as server, pytest.raises(Unreachable) as refusal:
        Client(server.url.replace("http:", "https:")).attestation(NONCE)
    assert refusal.value.code == "server.unreachable"


@pytest.mark.parametrize(
    ("name", "answer", "code"),
    [
        ("not-a-bundle", Answer(200, b"{}"), "bundle.encoding"),
        ("garbage", Answer(200, b"\xff"), "bundle.encoding"),
        ("refused", Answer(503, b'{"code":"signer_unavailable","detail":"Later."}'), "server.refused"),
        ("redirect", Answer(302, b"", {"Location": "https://elsewhere.invalid/"}), "server.refused"),
        ("cut", Answer(200, b"{}", length=100), "server.protocol"),
        ("too-long", Answer(200, b" " * (4 * 1024 * 1024 + 1)), "server.answer"),
        ("bad-chunks", Answer(200, b"zz\r\n", {"Transfer-Encoding": "chunked"}), "server.protocol"),
    ],
)
def test_an_answer_that_is_no_attestation(server: FakeServer, name: str, answer: Answer, code: str) -> None:
    server.answers["/v1/rlu/attestation"] = answer
    if "chunked" in answer.headers.values():
        server.keep_alive = False
    with Client(server.url) as client, pytest.raises(RluError) as refusal:
        client.attestation(NONCE)
    assert refusal.value.code == code, name


def test_the_longest_answer(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(server.url) as client:
        bundle = client.attestation(NONCE)
    server.answers["/v1/rlu/attestation"] = Answer(200, bundle.encode())
    monkeypatch.setattr(module, "MAX_ANSWER", len(bundle.encode()))
    with Client(server.url) as client:
        assert client.attestation(NONCE).statement == bundle.statement
        monkeypatch.setattr(module, "MAX_ANSWER", len(bundle.encode()) - 1)
        with pytest.raises(Malformed) as refusal:
            client.attestation(NONCE)
    assert refusal.value.code == "server.answer"


def test_a_refusal_repeats_the_servers_code_and_words(server: FakeServer) -> None:
    with Client(server.url) as client:
        bundle = client.attestation(NONCE)
        with pytest.raises(Unreachable) as refusal:
            client.session(bundle, NONCE, "rlu_another_key", None)
    assert refusal.value.message == "the server answered 401 (api_key_invalid): No such key."


@pytest.mark.parametrize(
    ("path", "answer", "kind", "code"),
    [
        ("/v1/rlu/sessions", Answer(201, b"x"), Malformed, "server.answer"),
        ("/v1/rlu/sessions", Answer(201, b"[]"), Malformed, "statement.claims"),
        ("/v1/rlu/sessions", Answer(200, b"{}"), Unreachable, "server.refused"),
        (f"/v1/rlu/sessions/{SESSION}", Answer(200, b"{}"), Malformed, "statement.claims"),
        ("/v1/rlu/log/head", Answer(200, b'{"head":"x"}'), Malformed, "encoding.base64url"),
        ("/v1/chat/completions", Answer(200, b"{}"), Untrusted, "receipt.absent"),
        (
            "/v1/chat/completions",
            Answer(200, b"{}", {"RLU-Receipt": "/v1/rlu/receipts/AAAAAAAAAAAAAAAAAAAAAA/1"}),
            Untrusted,
            "receipt.absent",
        ),
        (
            "/v1/chat/completions",
            Answer(200, b"{}", {"RLU-Receipt": f"/v1/rlu/receipts/{SESSION}/1/../../x"}),
            Untrusted,
            "receipt.absent",
        ),
        (
            "/v1/chat/completions",
            Answer(429, b'{"error":{"code":"slow_down"}}'),
            Unreachable,
            "server.refused",
        ),
        ("/v1/rlu/log/cosignatures", Answer(200, b"null"), Malformed, "server.answer"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for(
    server: FakeServer, path: str, answer: Answer, kind: type[RluError], code: str
) -> None:
    server.answers[path] = answer
    with Client(server.url) as client:
        bundle = client.attestation(NONCE)
        with pytest.raises(kind) as refusal:
            client.session(bundle, NONCE, API_KEY, "hello")
    assert refusal.value.code == code


def test_a_server_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with Client(url) as client, pytest.raises(Unreachable) as refusal:
            client.attestation(NONCE)
    assert refusal.value.code == "server.timeout"


def test_a_server_that_trickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading
    import time

    monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.3)
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as slow:

        def trickle() -> None:
            connection, _ = slow.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while not done.is_set():
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return
                    time.sleep(0.05)

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            with (
                Client(f"http://127.0.0.1:{slow.getsockname()[1]}") as client,
                pytest.raises(Unreachable) as refusal,
            ):
                client.attestation(NONCE)
        finally:
            done.set()
            thread.join()
    assert refusal.value.code == "server.timeout"


def test_an_answer_that_has_not_ended_by_the_deadline() -> None:
    """However fast the bytes come."""

    class Endless:
        sock = None
        status = 200
        headers = None

        def getresponse(self) -> Endless:
            return self

        def read1(self, size: int) -> bytes:
            return b" "

    with pytest.raises(TimeoutError):
        module._read(Endless(), deadline=0.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "https://",
        "https://host:99999",
        "https://host:0",
        "https://host/?x=1",
        "https://user@host",
        "https://[::1",
    ],
)
def test_what_is_not_a_servers_root(url: str) -> None:
    with pytest.raises(RluError) as refusal:
        Client(url)
    assert refusal.value.code == "server.url"
    assert refusal.value.exit_code == 2
