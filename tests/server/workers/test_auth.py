"""Every way in is open at every worker, and the hub knows who came in where."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any

from cryptography import x509

from fakes.fleet import Fleet
from fakes.issuer import ISSUER, Authority, Issuer
from fakes.rig import Wire

CHAT, TENANT = "/v1/chat/completions", "/v1/rlu/tenant"


async def test_tokens_and_certificates_at_every_worker(tmp_path: Path):
    issuer, authority = Issuer("one"), Authority()
    (tmp_path / "jwks.json").write_bytes(issuer.jwks())
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    corporate = {"name": "corporate", "issuer": ISSUER, "audience": ["rlu"], "tenant": "acme"}
    rules = [{"source": "dns", "pattern": "{principal}.agents.example.org", "tenant": "acme"}]
    auth: dict[str, Any] = {
        "issuers": [{**corporate, "jwks_file": str(tmp_path / "jwks.json")}],
        "certificates": {"mode": "optional", "ca_file": str(tmp_path / "ca.pem"), "rules": rules},
        "administrators": ["acme/alice"],
    }
    _, pem = authority.issue(x509.DNSName("erin.agents.example.org"))
    (tmp_path / "client.pem").write_bytes(pem)
    async with Fleet(tmp_path, {}, tls=True, sections={"auth": auth}) as fleet:
        wires = await fleet.wire_each()
        sessions = []
        for number, wire in enumerate(wires):
            headers = {"Authorization": f"Bearer {issuer.token(time.time(), sub=f'dana-{number}')}"}
            answer = await fleet.ask(wire, CHAT, fleet.chat(), who=None, headers=headers)
            assert answer.status == 200, answer.content
            sessions.append(answer.session)
        context = ssl.create_default_context(cafile=str(fleet.places.certificate))
        context.load_cert_chain(tmp_path / "client.pem")
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", fleet.gateway.port, ssl=context, server_hostname="localhost"
        )
        certified = Wire(reader, writer)
        fleet.wires.append(certified)
        answer = await fleet.ask(certified, CHAT, fleet.chat(), who=None)
        assert answer.status == 200, answer.content
        sessions.append(answer.session)
        # Our own routes are the hub's, which is told who is at the other end of a worker's connection.
        own = await fleet.ask(certified, "/v1/rlu/sessions", None, who=None, method="GET")
        assert [one["session"] for one in own.json()["sessions"]] == [answer.session]
        names = []
        for session in sessions:
            path = f"{TENANT}/pseudonyms/{fleet.statement(session).principal}"
            names.append((await fleet.ask(wires[0], path, None, method="GET")).json().get("principal"))
        assert names == ["dana-0", "dana-1", "erin"]
        keys = (await fleet.ask(wires[0], f"{TENANT}/keys", None, method="GET")).json()["keys"]
        assert {one["principal"]: one["last_used"] is not None for one in keys} == {
            "alice": True,
            "carol": False,
        }
