"""`rlu auth` and `rlu relay` as an operator meets them: what is fetched is checked, and what cannot be followed says so."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fakes.issuer import Issuer
from rlu_server.cli import auth, relay

runner = CliRunner()


class Web:
    """An issuer's web server; redirects where it is told to."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes, str] = (200, b"", "")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, content, location = outer.answer
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/jwks"


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_a_key_set_is_put_in_place_when_it_is_good(web: Web, tmp_path: Path):
    out = tmp_path / "jwks.json"
    asked = ["fetch-jwks", web.url, "--out", str(out), "--json"]
    issuer = Issuer("one", "two")
    web.answer = (200, issuer.jwks(), "")
    found = runner.invoke(auth.app, asked)
    assert (found.exit_code, json.loads(found.stdout)["keys"]) == (0, 2)
    assert (out.read_bytes(), json.loads(found.stdout)["changed"]) == (issuer.jwks(), True)
    assert json.loads(runner.invoke(auth.app, asked).stdout)["changed"] is False
    checked = runner.invoke(auth.app, ["check-jwks", str(out)])
    assert (checked.exit_code, checked.stdout) == (0, "2 keys.\n")
    for answer, code, exit_code in [
        ((200, b'{"keys": []}', ""), "jwks.empty", 30),
        ((200, b"<html>", ""), "jwks.file", 30),
        ((500, issuer.jwks(), ""), "relay.status", 3),
        ((302, b"", web.url), "relay.status", 3),
        ((200, b" " * (1 << 20) + issuer.jwks(), ""), "relay.too_long", 3),
    ]:
        web.answer = answer
        refused = runner.invoke(auth.app, asked)
        assert (refused.exit_code, code in refused.output) == (exit_code, True), refused.output
        assert out.read_bytes() == issuer.jwks()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jwks.json"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["fetch-jwks", "http://login.example.org/jwks", "--out", "x"], "relay.url"),
        (["check-jwks", "/nowhere/jwks.json"], "auth.file"),
    ],
)
def test_command_lines_that_cannot_be_followed(arguments: list[str], code: str):
    refused = runner.invoke(auth.app, arguments)
    assert (refused.exit_code, code in refused.output) == (2, True), refused.output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--listen", "nowhere"], "relay.listen"),
        (["--listen", "unix:relative"], "relay.listen"),
        (["--listen", "127.0.0.1:99999"], "relay.listen"),
        (["--listen", "unix:/nowhere/relay.sock"], "relay.listen"),
        (["--listen", "127.0.0.1:0", "--tls-cert", "x"], "relay.tls"),
        (["--listen", "127.0.0.1:0", "--jwks", "https://login.example.org/jwks"], "relay.jwks"),
        (["--listen", "127.0.0.1:0", "--jwks", "f=http://login.example.org/jwks"], "relay.url"),
        (["--listen", "127.0.0.1:0", "--otlp", "http://collector:4318"], "relay.url"),
        (["--listen", "127.0.0.1:0", "--token-review", "--api-server", "https://api"], "relay.cluster"),
    ],
)
def test_a_relay_that_is_not_started(arguments: list[str], code: str):
    refused = runner.invoke(relay.app, arguments)
    assert (refused.exit_code, code in refused.output) == (2, True), refused.output
