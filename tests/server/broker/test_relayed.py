"""A key request by way of the relay: the broker's own answers come back, and nothing else is passed on."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.broker_room import BrokerRoom, snp_now
from rlu_attestation.errors import RluError
from rlu_attestation.models import Software
from rlu_server import settings as configuration
from rlu_server.broker import asking, protocol
from rlu_server.broker.sealing import Header
from rlu_server.broker.serving import BrokerServer
from rlu_server.models.manifest import File, Manifest
from rlu_server.outreach.relay import Broker, Plan, Relay

WEIGHTS = Manifest((File("a", 1, bytes(32)),))


class Way:
    """A broker, and the relay in front of it."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.state.mkdir()
        self.room = BrokerRoom(directory, now=time.time(), manifest=WEIGHTS.sha256)
        self.broker = BrokerServer(self.room.desk, ("127.0.0.1", 0), None, lambda *told: None)
        self.broker.start()
        self.events: list[tuple[str, str]] = []
        plan = Plan(
            broker=Broker(f"http://127.0.0.1:{self.broker.port}"),
            events=lambda *event: self.events.append(event),
        )
        self.relay = Relay(plan, "127.0.0.1:0")
        self.relay.start()

    def ask(self) -> bytes:
        weights = {"broker": f"http://127.0.0.1:{self.relay.port}/broker"}
        settings = configuration.load(None, {}, {"state_dir": str(self.state), "weights": weights})
        header = Header(self.room.key.kid, os.urandom(32), 1 << 20, WEIGHTS)
        return asking.ask(header, Software("rlu", "0.1.0"), snp_now, asking.post_to(settings, time.time))

    def post(self, path: str, kind: str, content: bytes = b"") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.relay.port, timeout=60)
        try:
            connection.request("POST", path, content, {"Content-Type": kind})
            with connection.getresponse() as response:
                return response.status, response.read()
        finally:
            connection.close()


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    made = Way(tmp_path)
    yield made
    made.relay.close()
    made.broker.close()
    made.room.close()


def test_the_key_arrives_and_what_left_is_told(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    assert way.ask() == way.room.key.key
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    crossings = [one["destination"] for one in told if one.get("job") == protocol.JOB]
    # Each question as its asker notes it, and as the relay does.
    assert crossings.count(f"127.0.0.1:{way.broker.port}") == 2
    assert crossings.count(f"127.0.0.1:{way.relay.port}") == 2


def test_a_refusal_comes_back_with_the_brokers_reason(way: Way) -> None:
    way.room.vault.revoke(way.room.key.kid, "leaked", 1)
    with pytest.raises(RluError) as caught:
        way.ask()
    assert (caught.value.code, caught.value.exit_code) == ("broker.key.revoked", 10)
    assert "leaked" in caught.value.message


def test_nothing_else_is_passed_on(way: Way) -> None:
    told = len(way.room.told)
    for path, kind, status in (
        ("/broker/v1/challenge", "text/plain", 400),
        ("/broker/v1/release", protocol.CHALLENGE_TYPE, 400),
        ("/broker/v1/other", protocol.REQUEST_TYPE, 404),
        ("/broker/../v1/challenge", protocol.CHALLENGE_TYPE, 404),
        ("/v1/challenge", protocol.CHALLENGE_TYPE, 404),
        ("/v1/tokenreview", "application/json", 404),
    ):
        assert way.post(path, kind)[0] == status, path
    assert len(way.room.told) == told


def test_a_broker_that_is_away(way: Way) -> None:
    way.broker.close()
    assert way.post("/broker/v1/challenge", protocol.CHALLENGE_TYPE) == (
        502,
        b'{"code": "relay.unreachable"}',
    )
    assert way.events[-1] == ("relay_failed", "relay.unreachable")
