"""Kubernetes' client as we ask with it, over TLS: what is answered, what is refused, and who is not who it should be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rlu_server.adapters.tls import MemoryTls
from rlu_server.cluster.client import ask, client_of
from rlu_server.outreach.cluster import Cluster
from rlu_server.outreach.http import Unreachable


class Handler(BaseHTTPRequestHandler):
    """The path is the status; whoever shows another token is not known. No content of it is text."""

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == "Bearer who-asks"
        self.send_response(int(self.path[1:]) if known else 401)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"\xff\xfe")

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    tls = MemoryTls(("localhost",))
    (tmp_path / "ca.pem").write_bytes(tls.certificate_pem)
    (tmp_path / "token").write_text("who-asks\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = tls.context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        url = f"https://localhost:{server.server_address[1]}"
        yield Cluster(url, tmp_path / "ca.pem", tmp_path / "token")
        server.shutdown()
        thread.join()


def test_what_is_answered(cluster: Cluster) -> None:
    assert ask(client_of(cluster), "GET", "/200") == (200, b"\xff\xfe")
    for status in (401, 403, 404, 409, 500, 503):
        assert ask(client_of(cluster), "GET", f"/{status}") == (status, b"")


def test_the_token_is_read_anew(cluster: Cluster) -> None:
    client = client_of(cluster)
    cluster.token_file.write_text("another")
    assert ask(client, "GET", "/200") == (401, b"")
    cluster.token_file.write_text("who-asks")
    assert ask(client, "GET", "/200")[0] == 200
    cluster.token_file.unlink()
    with pytest.raises(Unreachable) as absent:
        ask(client, "GET", "/200")
    assert absent.value.code == "relay.account"


def test_a_server_of_another_ca_is_not_asked(cluster: Cluster) -> None:
    cluster.ca_file.write_bytes(MemoryTls(("localhost",)).certificate_pem)
    with pytest.raises(Unreachable) as stranger:
        ask(client_of(cluster), "GET", "/200")
    assert stranger.value.code == "relay.unreachable"


def test_nobody_there(cluster: Cluster) -> None:
    away = Cluster("https://localhost:1", cluster.ca_file, cluster.token_file)
    with pytest.raises(Unreachable) as nobody:
        ask(client_of(away), "GET", "/200")
    assert nobody.value.code == "relay.unreachable"
