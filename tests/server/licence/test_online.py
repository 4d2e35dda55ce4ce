"""Asking the vendor: the command against a server of his over TLS, with and without a proxy; what goes wrong changes nothing."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.deployment import Deployment
from fakes.terminal import Ran, rlu
from fakes.vendor import DAY, Proxy, Vendor, WebServer
from rlu_server.licence.document import Answer, Question
from rlu_server.licence.place import place_of
from rlu_server.settings import load

VENDOR = Vendor()
STATEMENT = Deployment(software_key=True).attestation()[0]
NOW = int(time.time())


class Site:
    """A node's settings, and the vendor's server."""

    def __init__(self, directory: Path, server: WebServer, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.server = server
        self._capsys = capsys
        self.config = directory / "rlu.toml"
        self.statement = directory / "statement.jws"
        self.statement.write_text(STATEMENT + "\n")
        VENDOR.install(directory, not_before=NOW - DAY, expires_at=NOW + 90 * DAY)
        self.configure()

    def configure(self, **changes: Any) -> None:
        fields = {
            "validation_url": self.server.url,
            "ca_file": str(self.server.ca_file),
            "proxy": "",
        } | changes
        lines = "".join(f'{name} = "{value}"\n' for name, value in fields.items())
        self.config.write_text(
            f'state_dir = "{self.directory}"\n[licence]\nfile = "{self.directory / "licence.jws"}"\n'
            f'vendor_keys = ["{self.directory / "vendor.pub.pem"}"]\n{lines}'
        )

    def validate(self, *options: object) -> Ran:
        return rlu(
            self._capsys,
            "licence",
            "validate",
            "--config",
            self.config,
            "--statement",
            self.statement,
            *options,
        )

    def journal(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.directory / "egress.jsonl").read_text().splitlines()]

    def answer(self) -> Answer | None:
        place = place_of(load(self.config, {}))
        assert place is not None
        return place.find().answer


def answering(**changes: Any) -> Callable[[bytes], bytes]:
    def answer(content: bytes) -> bytes:
        question = Question.parse(content)
        digest = hashlib.sha256(question.statement.encode()).digest()
        made = Answer(question.licence, "good", int(time.time()), digest)
        return (replace(made, **changes).sign(VENDOR.key) + "\n").encode()

    return answer


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Site]:
    with WebServer(tmp_path, answering()) as server:
        yield Site(tmp_path, server, capsys)


def test_id_and_statement_and_nothing_else(site: Site) -> None:
    ran = site.validate("--json")
    assert (ran.code, ran.json["status"]) == (0, "good")
    assert site.server.contents == [Question("A-17", STATEMENT).encode()]
    head = site.server.requests[0].partition(b"\r\n\r\n")[0].decode()
    names = sorted(line.partition(":")[0] for line in head.split("\r\n")[1:])
    assert names == ["Accept-Encoding", "Content-Length", "Content-Type", "Host"]
    kept = site.answer()
    assert kept is not None
    assert kept.status == "good"
    (line,) = site.journal()
    content = site.server.contents[0]
    assert (line["job"], line["result"], line["sent"]) == ("licence", "sent", len(content))
    assert line["destination"] == f"127.0.0.1:{site.server.port}"
    assert line["sha256"] == hashlib.sha256(content).hexdigest()
    assert line["received"] > 0


def test_withdrawn_and_taken_back(site: Site) -> None:
    site.server.answer = answering(status="withdrawn")
    assert site.validate().code == 10
    kept = site.answer()
    assert kept is not None
    assert kept.status == "withdrawn"
    site.server.answer = answering()
    assert site.validate().code == 0
    kept = site.answer()
    assert kept is not None
    assert kept.status == "good"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"licence": "B-1"}, "licence.answer.other"),
        ({"statement": bytes(32)}, "licence.answer.other"),
        ({"issued_at": NOW - 2 * DAY}, "licence.answer.time"),
        ({"issued_at": NOW + 2 * DAY}, "licence.answer.time"),
    ],
)
def test_answers_that_are_not_taken(site: Site, changes: dict[str, Any], code: str) -> None:
    site.server.answer = answering(status="withdrawn", **changes)
    ran = site.validate("--json")
    assert (ran.code, ran.json["code"]) == (10, code)
    assert site.answer() is None


def test_an_older_answer(site: Site) -> None:
    assert site.validate().code == 0
    site.server.answer = answering(status="withdrawn", issued_at=NOW - 100)
    assert site.validate("--json").json["code"] == "licence.answer.time"
    kept = site.answer()
    assert kept is not None
    assert kept.status == "good"


@pytest.mark.parametrize(
    ("content", "code"), [(b"\xff", "encoding"), (b"{}", "encoding"), (b"a.b.c", "encoding")]
)
def test_what_is_no_answer(site: Site, content: bytes, code: str) -> None:
    site.server.answer = lambda _: content
    ran = site.validate("--json")
    assert (ran.code, ran.json["code"]) == (30, f"licence.answer.{code}")
    assert site.answer() is None


def test_somebody_elses_answer(site: Site) -> None:
    other = Vendor()
    site.server.answer = lambda content: Answer("A-17", "withdrawn", NOW, bytes(32)).sign(other.key).encode()
    assert site.validate("--json").json["code"] == "licence.answer.key"


def test_no_answer_changes_nothing(site: Site) -> None:
    site.server.status = b"500 Internal Server Error"
    ran = site.validate("--json")
    assert (ran.code, ran.json["code"]) == (3, "relay.status")
    assert site.journal()[0]["result"] == "relay.status"
    assert site.answer() is None
    assert (rlu(site._capsys, "licence", "show", "--config", site.config)).code == 0


def test_through_a_proxy(site: Site) -> None:
    destination = f"127.0.0.1:{site.server.port}"
    with Proxy(destination) as proxy:
        site.configure(proxy=proxy.url)
        assert site.validate().code == 0
        assert proxy.asked == [f"CONNECT {destination}"]
        assert site.journal()[0]["proxy"] == proxy.url
        proxy.allowed = "elsewhere:443"
        ran = site.validate("--json")
        assert (ran.code, ran.json["code"]) == (3, "relay.unreachable")
    assert len(site.server.requests) == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"validation_url": ""}, "licence.validation_url"),
        ({"validation_url": "http://vendor.example/"}, "relay.url"),
        ({"proxy": "https://127.0.0.1:1"}, "relay.proxy"),
        ({"proxy": "http://127.0.0.1"}, "relay.proxy"),
        ({"ca_file": "/nowhere.pem"}, "licence.file"),
    ],
)
def test_nothing_is_sent(site: Site, changes: dict[str, Any], code: str) -> None:
    site.configure(**changes)
    ran = site.validate("--json")
    assert (ran.code, ran.json["code"]) == (2, code)
    assert site.server.requests == []
