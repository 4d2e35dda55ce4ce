"""The broker over HTTP, and the instance's side against it: keys, refusals with their reasons, and what an instance does not believe."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fakes.broker_room import BrokerRoom, snp_now
from fakes.issuer import Authority
from rlu_attestation.errors import RluError
from rlu_attestation.models import Software
from rlu_server import settings as configuration
from rlu_server.broker import asking, protocol
from rlu_server.broker.errors import NotReleased
from rlu_server.broker.sealing import Header
from rlu_server.broker.serving import BrokerServer
from rlu_server.models.manifest import File, Manifest
from rlu_server.settings import Settings

WEIGHTS = Manifest((File("a", 1, bytes(32)),))
SOFTWARE = Software("rlu", "0.1.0")


@pytest.fixture
def room(tmp_path: Path) -> Iterator[BrokerRoom]:
    made = BrokerRoom(tmp_path, now=time.time(), manifest=WEIGHTS.sha256)
    yield made
    made.close()


@pytest.fixture
def served(room: BrokerRoom, tmp_path: Path) -> Iterator[BrokerServer]:
    authority = Authority("Vendor's CA")
    name = x509.IPAddress(ip_address("127.0.0.1"))
    _, pem = authority.issue(name, purpose=ExtendedKeyUsageOID.SERVER_AUTH)
    (tmp_path / "tls.pem").write_bytes(pem)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    certificate = (tmp_path / "tls.pem", tmp_path / "tls.pem")
    server = BrokerServer(room.desk, ("127.0.0.1", 0), certificate, lambda *told: room.told.append(told))
    server.start()
    yield server
    server.close()


def settings_of(directory: Path, server: BrokerServer, **changes: Any) -> Settings:
    weights = {"broker": f"https://127.0.0.1:{server.port}/", "ca_file": str(directory / "ca.pem")}
    overrides = {
        "state_dir": str(directory),
        "weights": {**weights, **changes},
        "attestation": {"key": "sev-snp"},
    }
    return configuration.load(None, {}, overrides)


def ask(
    room: BrokerRoom,
    settings: Settings,
    collect: asking.Collect = snp_now,
    weights: Manifest = WEIGHTS,
) -> bytes:
    header = Header(room.key.kid, bytes(32), 1 << 20, weights)
    return asking.ask(header, SOFTWARE, collect, asking.post_to(settings, time.time))


def test_an_instance_gets_its_key(room: BrokerRoom, served: BrokerServer, tmp_path: Path) -> None:
    assert ask(room, settings_of(tmp_path, served)) == room.key.key
    crossings = [json.loads(line) for line in (tmp_path / "egress.jsonl").read_text().splitlines()]
    assert [(one["job"], one["destination"], one["result"]) for one in crossings] == [
        ("weights", f"127.0.0.1:{served.port}", "sent")
    ] * 2


def test_a_refusal_says_why(room: BrokerRoom, served: BrokerServer, tmp_path: Path) -> None:
    with pytest.raises(NotReleased) as caught:
        ask(room, settings_of(tmp_path, served), weights=Manifest((File("b", 1, bytes(32)),)))
    assert caught.value.code == "broker.model.other"
    assert "another model" in caught.value.message
    last = json.loads((tmp_path / "egress.jsonl").read_text().splitlines()[-1])
    assert last["result"] == "status.403"


def test_stale_evidence_is_named(room: BrokerRoom, served: BrokerServer, tmp_path: Path) -> None:
    kept = snp_now(bytes(32))
    with pytest.raises(NotReleased) as caught:
        ask(room, settings_of(tmp_path, served), lambda root: kept)
    assert caught.value.code == "broker.evidence.rejected"
    assert caught.value.failures == ("sev-snp.binding.mismatch",)
    assert "sev-snp.binding.mismatch" in caught.value.message


def test_a_vault_that_is_damaged(room: BrokerRoom, served: BrokerServer, tmp_path: Path) -> None:
    (room.vault.directory / "policy.toml").write_text("version = 2")
    with pytest.raises(NotReleased) as caught:
        ask(room, settings_of(tmp_path, served))
    assert caught.value.code == "broker.vault"


def test_another_ca(room: BrokerRoom, served: BrokerServer, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(Authority("another").pem)
    with pytest.raises(RluError) as caught:
        ask(room, settings_of(tmp_path, served))
    assert (caught.value.code, caught.value.exit_code) == ("relay.unreachable", 3)


def test_what_an_instance_does_not_send(room: BrokerRoom, tmp_path: Path) -> None:
    for holder, code in (("tpm2", "broker.hardware"), ("gcp-vtpm", "broker.hardware")):
        overrides = {"weights": {"broker": "https://b"}, "attestation": {"key": holder}}
        with pytest.raises(NotReleased) as caught:
            asking.check(configuration.load(None, {}, overrides))
        assert caught.value.code == code
    overrides = {"weights": {"broker": "https://b"}, "attestation": {"insecure_software_key": True}}
    with pytest.raises(NotReleased, match="software key"):
        asking.check(configuration.load(None, {}, overrides))
    with pytest.raises(RluError, match=r"weights\.broker"):
        asking.check(configuration.load(None, {}, {"attestation": {"key": "sev-snp"}}))
    asking.check(
        configuration.load(None, {}, {"weights": {"broker": "https://b"}, "attestation": {"key": "tdx"}})
    )


@pytest.mark.parametrize(
    ("status", "content", "code"),
    [
        (403, b'{"code":"broker.key.revoked","detail":"leaked"}', "broker.key.revoked"),
        (403, b'{"code":"verified","detail":"all is well"}', "broker.answer"),
        (403, b"<html>", "broker.answer"),
        (403, b'{"code":1}', "broker.answer"),
        (503, b'{"code":"broker.x\\n","detail":"d"}', "broker.answer"),
    ],
)
def test_refusals_of_strangers(status: int, content: bytes, code: str) -> None:
    error = asking._refusal(content, status)
    assert (error.code, error.exit_code) == (code, 10)


def exchange(
    port: int, method: str, path: str, content: bytes = b"", **headers: str
) -> tuple[int, str, dict[str, Any]]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
    try:
        connection.request(method, path, content, {k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], json.loads(response.read())
    finally:
        connection.close()


def test_routes(served: BrokerServer) -> None:
    port, release = served.port, protocol.RELEASE_PATH
    status, kind, answer = exchange(port, "POST", protocol.CHALLENGE_PATH)
    assert (status, kind, list(answer)) == (200, protocol.CHALLENGE_TYPE, ["challenge"])
    assert exchange(port, "GET", "/healthz")[0] == 200
    json_type = {"Content_Type": protocol.REQUEST_TYPE}
    for method, path, content, headers, expected in (
        ("GET", "/", b"", {}, (404, "broker.route")),
        ("POST", "/v1/keys", b"", {}, (404, "broker.route")),
        ("POST", release, b"{}", {"Content_Type": "application/json"}, (415, "broker.media_type")),
        ("POST", release, b"{}", json_type, (400, "broker.request")),
        ("POST", protocol.CHALLENGE_PATH, b"x", {}, (400, "broker.length")),
    ):
        status, kind, answer = exchange(port, method, path, content, **headers)
        assert (status, answer["code"], kind) == (*expected, protocol.PROBLEM_TYPE)
        assert answer["status"] == status


def test_requests_are_bounded(served: BrokerServer) -> None:
    status, _, answer = exchange(
        served.port,
        "POST",
        protocol.RELEASE_PATH,
        b"",
        Content_Type=protocol.REQUEST_TYPE,
        Content_Length=str(protocol.MAX_REQUEST + 1),
    )
    assert (status, answer["code"]) == (400, "broker.length")
