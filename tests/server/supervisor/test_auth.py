"""Every way in through the locked gateway, with `rlu relay` as a process beside it; what is withdrawn is withdrawn without a restart."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from deployment import Up, make_settings, running

from fakes import reviewing_api_server as cluster
from fakes.issuer import ISSUER, Authority, Issuer
from fakes.reviewing_api_server import ApiServer
from ports import free_port
from rlu_attestation import canonical, jose
from rlu_attestation.encoding import b64u
from rlu_server.settings import Settings
from rlu_server.supervisor import prepare, runtime
from rlu_server.supervisor.errors import Misconfigured

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]})


class Operator:
    """The operator's files, outside of everything that is ours."""

    def __init__(self, directory: Path, api_server: ApiServer, transport: str) -> None:
        self.directory = directory
        directory.mkdir()
        self.issuer, self.authority, self.relays = Issuer("one"), Authority(), Authority("Relays")
        self.write("jwks.json", self.issuer.jwks())
        self.write("ca.pem", self.authority.pem)
        self.write("crl.pem", self.authority.revoke())
        self.write("relay-ca.pem", self.relays.pem)
        self.write("api-token", api_server.own_token.encode())
        address = x509.IPAddress(ip_address("127.0.0.1"))
        _, pem = self.relays.issue(address, purpose=ExtendedKeyUsageOID.SERVER_AUTH)
        self.write("relay.pem", pem)
        (directory / "socket").mkdir()
        self.listen = f"unix:{directory}/socket/relay.sock"
        if transport == "https":
            self.listen = f"127.0.0.1:{free_port()}"
        self.relay = self.listen if transport == "unix" else f"https://{self.listen}"
        tls = ["--tls-cert", "relay.pem", "--tls-key", "relay.pem"] if transport == "https" else []
        command = ["relay", "--listen", self.listen, *tls, "--token-review", "--api-server", api_server.url]
        self.command = [
            *command,
            "--api-ca",
            "ca.pem",
            "--api-token",
            "api-token",
            "--cluster-jwks",
            "cluster.json",
        ]

    def write(self, name: str, data: bytes) -> None:
        new = self.directory / f".{name}"
        new.write_bytes(data)
        new.replace(self.directory / name)

    def settings(self, home: Path) -> Settings:
        at = str(self.directory)
        auth: dict[str, Any] = {
            "issuers": [
                {
                    "name": "corporate",
                    "issuer": ISSUER,
                    "audience": ["rlu"],
                    "jwks_file": f"{at}/jwks.json",
                    "tenant": "t",
                },
                {
                    "name": "cluster",
                    "issuer": cluster.ISSUER,
                    "audience": ["rlu"],
                    "jwks_file": f"{at}/cluster.json",
                    "review": True,
                    "tenant_claim": ["kubernetes.io", "namespace"],
                    "tenants": ["t"],
                },
            ],
            "certificates": {
                "mode": "optional",
                "ca_file": f"{at}/ca.pem",
                "crl_file": f"{at}/crl.pem",
                "rules": [{"source": "dns", "pattern": "{principal}.agents.example.org", "tenant": "t"}],
            },
            "relay": self.relay,
            "relay_ca_file": f"{at}/relay-ca.pem",
            "administrators": ["t/p"],
        }
        made = make_settings(home).model_dump(exclude_unset=True)
        return Settings.model_validate({**made, "auth": auth})


def ask(up: Up, bearer: str | None, certificate: Path | None = None) -> tuple[int, str]:
    """Status, and the code of a refusal."""
    context = ssl.create_default_context(cafile=str(up.place.path / "gateway" / "gateway.crt"))
    if certificate is not None:
        context.load_cert_chain(certificate)
    connection = http.client.HTTPSConnection(
        "localhost", up.deployment.settings.gateway.port, timeout=60, context=context
    )
    try:
        sent = {"Content-Type": "application/json"}
        if bearer is not None:
            sent["Authorization"] = f"Bearer {bearer}"
        connection.request("POST", "/v1/chat/completions", BODY, sent)
        with connection.getresponse() as response:
            answer = json.loads(response.read())
            return response.status, answer.get("error", {}).get("code", "")
    finally:
        connection.close()


async def becomes(up: Up, wanted: tuple[int, str], *credentials: Any) -> None:
    deadline = time.monotonic() + 60
    while (found := await asyncio.to_thread(ask, up, *credentials)) != wanted:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("transport", ["unix", "https"])
async def test_all_ways_in_and_no_way_out(tmp_path: Path, transport: str) -> None:
    with ApiServer() as api_server:
        operator = Operator(tmp_path / "operator", api_server, transport)
        api_server.accounts.add("system:serviceaccount:t:runner")
        log = (tmp_path / "relay.log").open("wb")
        relay = subprocess.Popen(
            [sys.executable, "-c", "from rlu_attestation.cli import main; main()", *operator.command],
            cwd=operator.directory,
            stderr=log,
            stdout=log,
        )
        try:
            async with running(tmp_path, operator.settings(tmp_path)) as up:
                await _checked(up, operator, api_server)
        finally:
            relay.terminate()
            assert relay.wait(60) == 0
            log.close()
        told = (tmp_path / "relay.log").read_text()
        assert '"relay_listening"' in told
        assert "eyJ" not in told


async def _checked(up: Up, operator: Operator, api_server: ApiServer) -> None:
    now = time.time()
    assert await asyncio.to_thread(ask, up, up.api_key) == (200, "")
    token = operator.issuer.token(now)
    assert await asyncio.to_thread(ask, up, token) == (200, "")
    account = api_server.token(now, "t", "runner")
    await becomes(up, (200, ""), account)
    certificate, pem = operator.authority.issue(x509.DNSName("dana.agents.example.org"))
    client = operator.directory / "client.pem"
    client.write_bytes(pem)
    assert await asyncio.to_thread(ask, up, None, client) == (200, "")
    assert await asyncio.to_thread(ask, up, None) == (401, "key_missing")

    # All of it can be taken away while it serves.
    operator.write("crl.pem", operator.authority.revoke(certificate.serial_number))
    operator.write("jwks.json", Issuer("two").jwks())
    await becomes(up, (401, "certificate_revoked"), None, client)
    await becomes(up, (401, "token_key_unknown"), token)
    api_server.accounts.clear()
    assert await asyncio.to_thread(ask, up, api_server.token(now, "t", "runner")) == (401, "token_refused")

    # The gateway is locked as ever: what it reaches beyond its peers is the relay, by socket or by this one port.
    _, attestation, _ = await up.call("GET", f"/v1/rlu/attestation?nonce={b64u(bytes(32))}")
    claims = canonical.decode(jose.jws_parse(attestation["attestation"]["statement"]).payload)
    lock = claims["rlu_lock"]["gateway"]
    assert (lock["read_outside"], lock["udp"], lock["netlink"]) == (False, False, False)
    copies = sorted(path.name for path in (up.place.path / "keys").iterdir())
    assert copies == [
        "apikeys.json",
        "clients-ca.pem",
        "clients-crl.pem",
        "cluster.jwks.json",
        "corporate.jwks.json",
        "relay-ca.pem",
    ]
    config = (up.place.path / "facts" / "rlu.toml").read_text()
    assert str(operator.directory / "jwks.json") not in config


def test_no_start_without_a_secret_for_pseudonyms(tmp_path: Path) -> None:
    with ApiServer() as api_server:
        settings = Operator(tmp_path / "operator", api_server, "unix").settings(tmp_path)
    place = runtime.create(None)
    try:
        with pytest.raises(Misconfigured, match="rlu apikeys init"):
            prepare.deployment(settings, place, {}, None)
    finally:
        place.remove()
