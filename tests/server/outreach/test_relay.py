"""The relay: an API server behind it that speaks TokenReview, key sets kept current, and nothing else to be had."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fakes.collector import Collector
from fakes.issuer import Authority, Issuer
from fakes.reviewing_api_server import ApiServer
from rlu_server.core.auth import reviews
from rlu_server.outreach import listening
from rlu_server.outreach import relay as relaying
from rlu_server.outreach.cluster import Cluster
from rlu_server.outreach.http import BadAddress, target
from rlu_server.outreach.relay import KeySet, Plan, Relay
from waiting import refused, wait_until


@pytest.fixture
def api_server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def outside() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture
def serve() -> Iterator[Callable[..., Relay]]:
    running: list[Relay] = []

    def begin(plan: Plan, listen: str = "127.0.0.1:0", certificate: Any = None) -> Relay:
        relay = Relay(plan, listen, certificate)
        running.append(relay)
        relay.start()
        return relay

    yield begin
    for relay in running:
        relay.close()


def cluster_of(server: ApiServer, directory: Path) -> Cluster:
    token = directory / "token"
    token.write_text(server.own_token + "\n")
    ca = directory / "ca.pem"
    ca.write_bytes(Authority().pem)
    return Cluster(server.url, ca, token)


def ask(relay: Relay, method: str, path: str, content: bytes = b"", **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", relay.port, timeout=60)
    try:
        connection.request(method, path, content, {k.replace("_", "-"): v for k, v in headers.items()})
        with connection.getresponse() as response:
            return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_it_passes_token_reviews_on(api_server: ApiServer, tmp_path: Path, serve: Callable[..., Relay]):
    events: list[tuple[str, str]] = []
    plan = Plan(cluster_of(api_server, tmp_path), events=lambda *event: events.append(event))
    relay = serve(plan)
    token = api_server.token(time.time(), "team-a", "runner")
    question = reviews.question(token, {"rlu"})
    status, answer = ask(relay, "POST", reviews.PATH, question)
    assert (status, answer["status"]["user"], api_server.reviews) == (200, {}, [token])
    api_server.accounts.add("system:serviceaccount:team-a:runner")
    status, answer = ask(relay, "POST", reviews.PATH, question)
    name = reviews.username(json.dumps(answer).encode(), {"rlu"})
    assert (status, name) == (200, "system:serviceaccount:team-a:runner")
    # The kubelet renews our own token; an API server that refuses it is no answer about anybody else's.
    (tmp_path / "token").write_text("stale")
    assert ask(relay, "POST", reviews.PATH, question) == (502, {"code": "relay.status"})
    (tmp_path / "token").unlink()
    assert ask(relay, "POST", reviews.PATH, question) == (502, {"code": "relay.account"})
    assert token not in repr(events)


def test_it_passes_nothing_else_on(api_server: ApiServer, tmp_path: Path, serve: Callable[..., Relay]):
    relay = serve(Plan(cluster_of(api_server, tmp_path)))
    refused = [
        ("POST", reviews.PATH, b'{"kind":"Secret"}', 400),
        ("POST", reviews.PATH, b"x" * 40_000, 400),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", b"{}", 404),
        ("POST", "http://127.0.0.1/v1/tokenreview", b"{}", 404),
        ("POST", "/v1/otlp/traces", b"{}", 404),  # no collector was named
        ("GET", "/api/v1/secrets", b"", 404),
        ("GET", reviews.PATH, b"", 404),
    ]
    for method, path, content, status in refused:
        assert ask(relay, method, path, content)[0] == status, (method, path)
    assert ask(relay, "GET", "/healthz") == (200, {"status": "ok"})
    assert api_server.reviews == []


def test_telemetry_goes_to_the_collector_that_was_named(outside: Collector, serve: Callable[..., Relay]):
    relay = serve(Plan(collector=outside.url))
    kind = "application/x-protobuf"
    assert ask(relay, "POST", "/v1/otlp/traces", b"\x0a\x00", Content_Type=kind) == (200, {})
    path, headers, content = outside.got[0]
    assert (path, headers["Content-Type"], content) == ("/v1/traces", kind, b"\x0a\x00")
    assert ask(relay, "POST", "/v1/otlp/traces", b"x", Content_Type="text/html")[0] == 400
    assert ask(relay, "POST", "/v1/otlp/other", b"x", Content_Type=kind)[0] == 404
    assert ask(relay, "POST", reviews.PATH, reviews.question("t", {"a"}))[0] == 404
    assert len(outside.got) == 1


def test_key_sets_are_kept_current(
    api_server: ApiServer, outside: Collector, tmp_path: Path, serve: Callable[..., Relay]
):
    first, second = Issuer("one"), Issuer("two")
    outside.files["/jwks"] = first.jwks()
    file, own = tmp_path / "corporate.json", tmp_path / "cluster.json"
    events: list[tuple[str, str]] = []
    cluster = cluster_of(api_server, tmp_path)
    serve(
        Plan(
            cluster,
            [KeySet(file, f"{outside.url}/jwks"), KeySet(own, cluster.jwks_url, cluster=True)],
            every_s=0.02,
            events=lambda *event: events.append(event),
        )
    )
    wait_until(lambda: file.exists() and own.exists())
    assert (file.read_bytes(), json.loads(own.read_bytes())) == (
        first.jwks(),
        json.loads(api_server.issuer.jwks()),
    )
    outside.files["/jwks"] = b'{"keys": []}'
    wait_until(lambda: ("jwks_failed", "jwks.empty") in events)
    assert file.read_bytes() == first.jwks()
    outside.files["/jwks"] = second.jwks()
    wait_until(lambda: file.read_bytes() == second.jwks())
    del outside.files["/jwks"]
    wait_until(lambda: ("jwks_failed", "relay.status") in events)
    assert file.read_bytes() == second.jwks()


def test_it_serves_tls_and_unix_sockets(api_server: ApiServer, tmp_path: Path, serve: Callable[..., Relay]):
    authority = Authority()
    address = x509.IPAddress(ip_address("127.0.0.1"))
    _, pem = authority.issue(address, purpose=ExtendedKeyUsageOID.SERVER_AUTH)
    (tmp_path / "tls.pem").write_bytes(pem)
    plan = Plan(events=lambda *_: None)
    relay = serve(plan, certificate=(tmp_path / "tls.pem", tmp_path / "tls.pem"))
    context = ssl.create_default_context(cadata=authority.pem.decode())
    with socket.create_connection(("127.0.0.1", relay.port)) as silent:
        # Somebody who does not shake hands keeps nobody waiting.
        connection = http.client.HTTPSConnection("127.0.0.1", relay.port, timeout=60, context=context)
        connection.request("GET", "/healthz")
        with connection.getresponse() as response:
            assert response.read() == b'{"status":"ok"}'
        connection.close()
        silent.close()
    path = tmp_path / "relay.sock"
    serve(plan, f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.connect(str(path))
        unix.sendall(b"GET /healthz HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: unix.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200")


def test_a_renewed_certificate_is_the_next_handshakes(tmp_path: Path, serve: Callable[..., Relay]):
    """cert-manager replaces the files; nobody restarts the relay for it."""
    address = x509.IPAddress(ip_address("127.0.0.1"))
    first, second = Authority(), Authority()
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"

    def put(authority: Authority) -> None:
        _, pem = authority.issue(address, purpose=ExtendedKeyUsageOID.SERVER_AUTH)
        for file in (certificate, key):
            (tmp_path / "new").write_bytes(pem)
            (tmp_path / "new").replace(file)

    def connect(authority: Authority) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cadata=authority.pem.decode())
        connection = http.client.HTTPSConnection("127.0.0.1", relay.port, timeout=60, context=context)
        connection.connect()
        return connection

    def healthy(connection: http.client.HTTPSConnection) -> bool:
        connection.request("GET", "/healthz")
        with connection.getresponse() as response:
            return response.read() == b'{"status":"ok"}'

    put(first)
    relay = serve(Plan(events=lambda *_: None), certificate=(certificate, key))
    with contextlib.closing(connect(first)) as before:
        certificate.write_bytes(b"half of it")
        with contextlib.closing(connect(first)) as meanwhile:
            assert healthy(meanwhile)
        put(second)
        with contextlib.closing(connect(second)) as after:
            assert healthy(after)
        assert healthy(before)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "ftp://example.org",
        "https://",
        "https://u:p@example.org/",
        "https://a:b/",
        "x",
        "",
    ],
)
def test_addresses_that_are_not_to_be_used(url: str):
    with pytest.raises(BadAddress) as caught:
        target(url)
    assert caught.value.code == "relay.url"


def test_the_cluster_around_a_pod(tmp_path: Path):
    around = Cluster.around(
        {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT_HTTPS": "6443"}, tmp_path
    )
    assert around == Cluster("https://[fd00::1]:6443", tmp_path / "ca.crt", tmp_path / "token")
    with pytest.raises(BadAddress):
        Cluster.around({})


HEAD_WITHOUT_END = (b"POST /v1/tokenreview HTTP/1.1\r\nX: ", b"x")
CONTENT_WITHOUT_END = (b"POST /v1/tokenreview HTTP/1.1\r\nContent-Length: 9999\r\n\r\n", b"x")
HELLO_WITHOUT_END = (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0")
"""The beginning of a ClientHello of 512 bytes."""


@pytest.mark.parametrize("sent", [HEAD_WITHOUT_END, CONTENT_WITHOUT_END, HELLO_WITHOUT_END])
def test_a_byte_now_and_then_keeps_no_place(
    serve: Callable[..., Relay], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: tuple[bytes, bytes]
):
    """Each byte begins the idle time anew: as many such clients as there are places would keep everybody out."""
    monkeypatch.setattr(listening, "REQUEST_S", 0.3)
    certificate = None
    if sent is HELLO_WITHOUT_END:
        address = x509.IPAddress(ip_address("127.0.0.1"))
        _, pem = Authority().issue(address, purpose=ExtendedKeyUsageOID.SERVER_AUTH)
        (tmp_path / "tls.pem").write_bytes(pem)
        certificate = (tmp_path / "tls.pem", tmp_path / "tls.pem")
    cluster = Cluster("https://127.0.0.1:9", tmp_path / "ca", tmp_path / "token")
    relay = serve(Plan(cluster, events=lambda *_: None), certificate=certificate)
    with socket.create_connection(("127.0.0.1", relay.port)) as client:
        client.sendall(sent[0])
        client.settimeout(0.05)
        for _ in range(200):  # of a thread that is never ended, ten seconds
            try:
                client.sendall(sent[1])
                if client.recv(4096) == b"":
                    return
            except TimeoutError:
                continue
            except OSError:
                return
    pytest.fail("it kept its place")


class Slow:
    """A collector that answers when it is let to; for `with`."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(60)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Slow:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def asked(self) -> socket.socket:
        """A connection on which a whole request has arrived."""
        connection, _ = self._listener.accept()
        connection.settimeout(60)
        got = b""
        while not got.endswith(b"\r\n\r\n{}"):
            more = connection.recv(4096)
            assert more
            got += more
        return connection


TELEMETRY = b"POST /v1/otlp/traces HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def test_a_stop_lets_requests_end_that_are_in_flight(
    serve: Callable[..., Relay], monkeypatch: pytest.MonkeyPatch
):
    """And nothing else: who is connected and asks nothing keeps nobody waiting."""
    monkeypatch.setattr(relaying, "DRAIN_S", 600.0)
    with Slow() as collector:
        relay = serve(Plan(collector=collector.url, events=lambda *_: None))
        address = ("127.0.0.1", relay.port)
        with socket.create_connection(address, 60) as asking, socket.create_connection(address, 60) as idle:
            idle.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            assert idle.recv(4096).startswith(b"HTTP/1.1 200")
            asking.sendall(TELEMETRY)
            with collector.asked() as asked:
                closing = threading.Thread(target=relay.close)
                closing.start()
                wait_until(lambda: refused(("127.0.0.1", relay.port)))
                while idle.recv(4096):
                    pass
                assert closing.is_alive()
                asked.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
                answer = b"".join(iter(lambda: asking.recv(4096), b""))
            closing.join(60)
            assert not closing.is_alive()
    head, _, content = answer.partition(b"\r\n\r\n")
    assert (head[:12], content) == (b"HTTP/1.1 200", b"done")
    assert b"Connection: close" in head


def test_a_stop_does_not_wait_for_ever(serve: Callable[..., Relay], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(relaying, "DRAIN_S", 0.05)
    events: list[tuple[str, str]] = []
    with Slow() as collector:
        relay = serve(Plan(collector=collector.url, events=lambda *event: events.append(event)))
        with socket.create_connection(("127.0.0.1", relay.port), 60) as asking:
            asking.sendall(TELEMETRY)
            with collector.asked():
                relay.close()
                assert events[-1] == ("relay_requests_cut", "1")


def test_a_stop_is_hurried(serve: Callable[..., Relay], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(relaying, "DRAIN_S", 600.0)
    events: list[tuple[str, str]] = []
    with Slow() as collector:
        relay = serve(Plan(collector=collector.url, events=lambda *event: events.append(event)))
        with socket.create_connection(("127.0.0.1", relay.port), 60) as asking:
            asking.sendall(TELEMETRY)
            with collector.asked():
                closing = threading.Thread(target=relay.close)
                closing.start()
                wait_until(lambda: refused(("127.0.0.1", relay.port)))
                assert closing.is_alive()
                relay.hurry()
                closing.join(60)
                assert not closing.is_alive()
                assert events[-1] == ("relay_requests_cut", "1")


def test_a_request_that_arrived_before_the_stop_is_answered(
    serve: Callable[..., Relay], monkeypatch: pytest.MonkeyPatch
):
    """Although nobody had begun to read it."""
    relay = serve(Plan(events=lambda *_: None))
    took, may = threading.Event(), threading.Event()
    waiting = listening.Listener.waiting

    def late(listener: listening.Listener, connection: socket.socket) -> Any:
        took.set()
        assert may.wait(60)
        return waiting(listener, connection)

    monkeypatch.setattr(listening.Listener, "waiting", late)
    with socket.create_connection(("127.0.0.1", relay.port), 60) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert took.wait(60)
        closing = threading.Thread(target=relay.close)
        closing.start()
        wait_until(lambda: refused(("127.0.0.1", relay.port)))
        may.set()
        answer = b"".join(iter(lambda: client.recv(4096), b""))
        closing.join(60)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" in answer
