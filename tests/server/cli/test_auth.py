"""`rlu auth` and `rlu relay` as an operator meets them: what is fetched is checked, and what cannot be followed says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fakes.issuer import Issuer
from fakes.web_service import Request, Response, WebService
from rlu_server.cli import auth, relay

runner = CliRunner()


class Web(WebService):
    """An issuer's web server; redirects where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: tuple[int, bytes, str] = (200, b"", "")

    @property
    def jwks(self) -> str:
        """Address of its key set."""
        return f"{self.url}/jwks"

    def respond(self, request: Request) -> Response:
        status, content, location = self.answer
        return Response(status, content, {"Location": location} if location else {})


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as made:
        yield made


def test_a_key_set_is_put_in_place_when_it_is_good(web: Web, tmp_path: Path):
    out = tmp_path / "jwks.json"
    asked = ["fetch-jwks", web.jwks, "--out", str(out), "--json"]
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
        ((302, b"", web.jwks), "relay.status", 3),
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
