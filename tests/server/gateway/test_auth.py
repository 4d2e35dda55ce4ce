"""Every way in through the real gateway: tokens, client certificates, the cluster; what changes while it serves; guessing."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fakes import reviewing_api_server as cluster
from fakes.issuer import ISSUER, Authority, Issuer
from fakes.reviewing_api_server import ApiServer
from fakes.rig import Response, Rig, Wire
from rlu_attestation.encoding import unb64u
from rlu_attestation.statements import Receipt
from rlu_server.core.apikeys import mint
from rlu_server.outreach.cluster import Cluster
from rlu_server.outreach.relay import Plan, Relay

CHAT, MESSAGES, SESSIONS = "/v1/chat/completions", "/v1/messages", "/v1/rlu/sessions"
URI = x509.UniformResourceIdentifier
RULES = [{"source": "uri", "pattern": "spiffe://example.org/{tenant}/agent/{principal}"}]


def issuer_section(file: Path, **more: Any) -> dict[str, Any]:
    section = {
        "name": "corporate",
        "issuer": ISSUER,
        "audience": ["rlu"],
        "jwks_file": str(file),
        "tenant": "acme",
    }
    return {**section, **more}


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def call(
    rig: Rig, path: str, headers: dict[str, str], wire: Wire | None = None, **more: Any
) -> Response:
    body = rig.chat(max_tokens=9) if path in (CHAT, MESSAGES) else None
    wire = wire or await rig.wire()
    method = "POST" if body is not None else "GET"
    await wire.send(rig.request(path, body, who=None, method=method, headers=headers, **more))
    return await wire.response()


async def receipt(rig: Rig, answer: Response, headers: dict[str, str]) -> Receipt:
    """The receipt, for the one whose it is."""
    found = await call(rig, answer.headers["rlu-receipt"], headers)
    assert found.status == 200, found.content
    return Receipt.parse(unb64u(found.json()["statement"]))


def code(response: Response) -> str:
    document = response.json()
    return str(document.get("code") or document["error"]["code"])


async def becomes(rig: Rig, event: str, **values: Any) -> None:
    def told() -> bool:
        return any(e["event"] == event and values.items() <= e.items() for e in rig.events)

    await rig.eventually(told)


def replace(path: Path, data: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def issuer() -> Issuer:
    return Issuer("one")


@pytest.fixture
async def rig(tmp_path: Path, issuer: Issuer) -> AsyncIterator[Rig]:
    file = tmp_path / "corporate.json"
    file.write_bytes(issuer.jwks())
    auth = {"issuers": [issuer_section(file)], "administrators": ["acme/dana"], "lockout_after": 4}
    async with Rig(tmp_path, sections={"auth": auth}) as rig:
        yield rig


async def test_a_token_opens_a_session_of_its_principal(rig: Rig, issuer: Issuer):
    token = issuer.token(time.time())
    answer = await call(rig, CHAT, bearer(token))
    assert answer.status == 200
    assert (await receipt(rig, answer, bearer(token))).status == "complete"
    # The same person with another token is the same principal; another person is not, and an API key's tenant is the same.
    again = await call(rig, SESSIONS, {"x-api-key": issuer.token(time.time(), jti="2")})
    assert [one["session"] for one in again.json()["sessions"]] == [answer.session]
    other = await call(rig, SESSIONS, bearer(issuer.token(time.time(), sub="eve")))
    assert other.json() == {"sessions": []}
    by_key = await call(rig, CHAT, bearer(rig.keys["alice"]))
    tenants = {rig.statement(one.session).tenant for one in (answer, by_key)}
    assert len(tenants) == 1


@pytest.mark.parametrize("path", [CHAT, MESSAGES, SESSIONS])
async def test_refusals_have_the_shape_of_their_api(rig: Rig, issuer: Issuer, path: str):
    answer = await call(rig, path, bearer(issuer.token(time.time() - 10_000)))
    assert (answer.status, code(answer)) == (401, "token_expired")
    assert answer.headers["www-authenticate"] == 'Bearer realm="rlu"'
    assert answer.headers["content-type"] == (
        "application/problem+json" if path == SESSIONS else "application/json"
    )
    assert (
        answer.json().get("type")
        == {
            CHAT: None,
            MESSAGES: "error",
            SESSIONS: "urn:rlu:error:token_expired",
        }[path]
    )


async def test_tokens_are_refused_for_what_they_are(rig: Rig, issuer: Issuer):
    now = time.time()
    for token, expected in [
        (issuer.sign(issuer.claims(now), {"alg": "none"}), "token_algorithm"),
        (issuer.sign(issuer.claims(now), {"jku": "https://evil.example"}), "token_header"),
        (issuer.token(now, iss="https://evil.example"), "token_issuer"),
        (issuer.token(now, aud="else"), "token_audience"),
        (Issuer("one").token(now), "token_signature"),
        ("a.b.c", "token_malformed"),
        ("sk-somebody-else's", "key_invalid"),
    ]:
        assert code(await call(rig, CHAT, bearer(token))) == expected, token
    assert token not in json.dumps(rig.events)


async def test_keys_of_an_issuer_change_without_a_restart(rig: Rig, issuer: Issuer, tmp_path: Path):
    file, now = tmp_path / "corporate.json", time.time()
    old = issuer.token(now)
    assert (await call(rig, CHAT, bearer(old))).status == 200
    renewed = Issuer("two")
    new = renewed.token(now)
    assert code(await call(rig, CHAT, bearer(new))) == "token_key_unknown"
    await becomes(rig, "token_key_unknown", code="corporate")
    # A file that cannot be used changes nothing.
    replace(file, b"{}")
    await becomes(rig, "auth_refused", code="jwks.file", file="corporate")
    assert (await call(rig, CHAT, bearer(old))).status == 200
    rig.events.clear()
    replace(file, renewed.jwks())
    await becomes(rig, "auth_loaded", file="corporate")
    # Neither the old yes nor the old no is remembered.
    assert (await call(rig, CHAT, bearer(new))).status == 200
    assert code(await call(rig, CHAT, bearer(old))) == "token_key_unknown"
    file.unlink()
    await becomes(rig, "auth_refused", code="absent", file="corporate")
    answer = await call(rig, CHAT, bearer(new))
    assert (answer.status, code(answer), answer.headers["retry-after"]) == (503, "token_unverifiable", "5")


async def test_without_a_secret_for_pseudonyms_there_are_none(rig: Rig, issuer: Issuer):
    rig.places.keys.unlink()
    await becomes(rig, "keys_loaded", keys=0)
    assert code(await call(rig, CHAT, bearer(issuer.token(time.time())))) == "not_ready"


async def test_the_tenants_administrator_resolves_its_own_pseudonyms(rig: Rig, issuer: Issuer):
    dana, eve = (bearer(issuer.token(time.time(), sub=name)) for name in ("dana", "eve"))
    answers = [
        await call(rig, CHAT, who) for who in (eve, bearer(rig.keys["alice"]), bearer(rig.keys["bob"]))
    ]
    pseudonyms = [rig.statement(answer.session).principal for answer in answers]
    found = [await call(rig, f"/v1/rlu/tenant/pseudonyms/{one}", dana) for one in pseudonyms]
    assert [one.json().get("principal") for one in found] == ["eve", "alice", None]
    # Another tenant's is one that does not exist.
    assert (found[2].status, code(found[2])) == (404, "pseudonym_not_found")
    assert code(await call(rig, "/v1/rlu/tenant/pseudonyms/x", dana)) == "pseudonym_not_found"
    listed = (await call(rig, "/v1/rlu/tenant/keys", dana)).json()["keys"]
    assert {one["principal"]: one["last_used"] is not None for one in listed} == {
        "alice": True,
        "carol": False,
    }
    assert all(one["last_used"] is None or one["last_used"] % 60 == 0 for one in listed)
    for who in (eve, bearer(rig.keys["alice"]), bearer(rig.keys["bob"])):
        for path in (f"/v1/rlu/tenant/pseudonyms/{pseudonyms[0]}", "/v1/rlu/tenant/keys"):
            refusal = await call(rig, path, who)
            assert (refusal.status, code(refusal)) == (403, "not_administrator")


# --- guessing ---------------------------------------------------------------------------------------------------------


async def test_guessing_waits_and_neighbours_do_not(rig: Rig):
    authenticator, now = rig.gateway.entrance.authenticator, time.monotonic()
    authenticator._monotonic = lambda: now  # a wait does not end because the machine is slow
    good = bearer(rig.keys["alice"])
    assert (await call(rig, CHAT, good)).status == 200
    key_id = rig.keys["alice"].split("_")[1]
    # With the id of a real key, and with one that does not exist: nothing tells them apart.
    for number, known in enumerate((key_id, "0" * 16, key_id, "1" * 16)):
        answer = await call(rig, CHAT, bearer(f"rlu_{known}_{number:043d}"))
        assert (answer.status, code(answer)) == (401, "key_invalid")
    await becomes(rig, "locked_out")
    for path in (CHAT, MESSAGES, SESSIONS):
        answer = await call(rig, path, bearer("rlu_" + "2" * 16 + "_x"))
        assert (answer.status, code(answer)) == (429, "locked_out")
        assert int(answer.headers["retry-after"]) in (1, 2)
    # A key that was good from here goes on; one that was not waits, or guessing would go on.
    assert (await call(rig, CHAT, good)).status == 200
    assert code(await call(rig, CHAT, bearer(rig.keys["bob"]))) == "locked_out"
    now += 2.0
    assert (await call(rig, CHAT, bearer(rig.keys["bob"]))).status == 200, "the wait never ends"


async def test_revocation_and_expiry_need_no_restart(rig: Rig):
    wire = await rig.wire()
    assert (await call(rig, CHAT, bearer(rig.keys["alice"]), wire)).status == 200
    record, fresh = mint(b"\x07" * 8, b"\x07" * 32, "acme", "alice", 0)
    rig.records[:] = [*(one for one in rig.records if one.principal != "alice"), record]
    rig.write_keys()
    await rig.eventually(lambda: record.id in rig.gateway.relay.keys)
    # On the very same connection.
    assert code(await call(rig, CHAT, bearer(rig.keys["alice"]), wire)) == "key_invalid"
    assert (await call(rig, CHAT, bearer(fresh), wire)).status == 200


# --- client certificates ----------------------------------------------------------------------------------------------


@pytest.fixture
def authority() -> Authority:
    return Authority()


@asynccontextmanager
async def certified(directory: Path, authority: Authority, **more: Any) -> AsyncIterator[Rig]:
    (directory / "ca.pem").write_bytes(authority.pem)
    section = {"mode": "optional", "ca_file": str(directory / "ca.pem"), "rules": RULES, **more}
    async with Rig(directory, tls=True, sections={"auth": {"certificates": section}}) as rig:
        yield rig


async def connect(rig: Rig, pem: bytes | None, directory: Path) -> Wire:
    context = ssl.create_default_context(cafile=str(rig.places.certificate))
    if pem is not None:
        (directory / "client.pem").write_bytes(pem)
        context.load_cert_chain(directory / "client.pem")
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", rig.gateway.port, ssl=context, server_hostname="localhost"
    )
    wire = Wire(reader, writer)
    rig.wires.append(wire)
    return wire


async def refused(rig: Rig, pem: bytes | None, directory: Path) -> bool:
    """TLS 1.3 tells a client after its handshake."""
    try:
        wire = await connect(rig, pem, directory)
        await wire.send(rig.request(SESSIONS, None, who=None, method="GET"))
        return await wire.closed()
    except (ssl.SSLError, ConnectionError):
        return True


async def test_a_certificate_is_a_credential(tmp_path: Path, authority: Authority):
    async with certified(tmp_path, authority) as rig:
        _, pem = authority.issue(URI("spiffe://example.org/acme/agent/dana"))
        wire = await connect(rig, pem, tmp_path)
        answer = await call(rig, CHAT, {}, wire)
        assert answer.status == 200
        # SDKs send some key whatever one does; this word means the certificate.
        named = await call(rig, SESSIONS, bearer("certificate"), wire)
        assert [one["session"] for one in named.json()["sessions"]] == [answer.session]
        assert (await call(rig, CHAT, bearer(rig.keys["alice"]), wire)).status == 200
        assert code(await call(rig, CHAT, bearer(rig.keys["bob"]), wire)) == "credentials_conflict"
        # A wrong key is wrong, whoever shows it.
        assert code(await call(rig, CHAT, bearer("rlu_x_y"), wire)) == "key_invalid"
        # Without a certificate the word means nothing.
        plain = await connect(rig, None, tmp_path)
        assert code(await call(rig, CHAT, {}, plain)) == "key_missing"
        assert code(await call(rig, CHAT, bearer("certificate"), plain)) == "key_invalid"
        assert (await call(rig, CHAT, bearer(rig.keys["bob"]), plain)).status == 200


async def test_certificates_that_name_nobody_or_are_not_ours(tmp_path: Path, authority: Authority):
    async with certified(tmp_path, authority) as rig:
        _, stranger = authority.issue(URI("spiffe://elsewhere.org/acme/agent/dana"))
        wire = await connect(rig, stranger, tmp_path)
        assert code(await call(rig, CHAT, {}, wire)) == "certificate_unknown"
        assert (await call(rig, CHAT, bearer(rig.keys["bob"]), wire)).status == 200
        _, forged = Authority().issue(URI("spiffe://example.org/acme/agent/dana"))
        assert await refused(rig, forged, tmp_path)
        _, expired = authority.issue(URI("spiffe://example.org/acme/agent/dana"), life=timedelta(minutes=-30))
        assert await refused(rig, expired, tmp_path)
        server_only = x509.oid.ExtendedKeyUsageOID.SERVER_AUTH
        _, misused = authority.issue(URI("spiffe://example.org/acme/agent/dana"), purpose=server_only)
        assert await refused(rig, misused, tmp_path)


async def test_required_means_required(tmp_path: Path, authority: Authority):
    async with certified(tmp_path, authority, mode="required") as rig:
        assert await refused(rig, None, tmp_path)
        _, pem = authority.issue(URI("spiffe://example.org/acme/agent/dana"))
        assert (await call(rig, CHAT, {}, await connect(rig, pem, tmp_path))).status == 200


async def test_revocation_and_other_cas_need_no_restart(tmp_path: Path, authority: Authority):
    crl = tmp_path / "crl.pem"
    crl.write_bytes(authority.revoke())
    async with certified(tmp_path, authority, crl_file=str(crl)) as rig:
        certificate, pem = authority.issue(URI("spiffe://example.org/acme/agent/dana"))
        wire = await connect(rig, pem, tmp_path)
        assert (await call(rig, CHAT, {}, wire)).status == 200
        rig.events.clear()
        replace(crl, authority.revoke(certificate.serial_number))
        await becomes(rig, "auth_loaded", file="crl")
        assert code(await call(rig, CHAT, {}, wire)) == "certificate_revoked"
        replace(crl, Authority().revoke())
        await becomes(rig, "auth_refused", code="auth.crl", file="crl")
        assert code(await call(rig, CHAT, {}, wire)) == "certificate_revoked"
        crl.unlink()
        await becomes(rig, "auth_refused", code="absent", file="crl")
        assert code(await call(rig, CHAT, {}, wire)) == "certificate_unverifiable"

        # Another CA: what the old one signed counts no more, not even on connections that are open.
        other = Authority("Another")
        crl.write_bytes(other.revoke())
        rig.events.clear()
        replace(tmp_path / "ca.pem", other.pem)
        await becomes(rig, "auth_loaded", file="ca")
        assert code(await call(rig, CHAT, {}, wire)) == "key_missing"
        assert await refused(rig, pem, tmp_path)
        _, fresh = other.issue(URI("spiffe://example.org/acme/agent/dana"))
        await becomes(rig, "auth_loaded", file="crl")
        assert (await call(rig, CHAT, {}, await connect(rig, fresh, tmp_path))).status == 200


# --- the cluster ------------------------------------------------------------------------------------------------------

RUNNER = "system:serviceaccount:team-a:runner"


@pytest.fixture
def api_server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture
def relay(api_server: ApiServer, tmp_path: Path) -> Iterator[Path]:
    """A running relay; its socket."""
    (tmp_path / "token").write_text(api_server.own_token)
    (tmp_path / "api-ca.pem").write_bytes(Authority().pem)
    plan = Plan(Cluster(api_server.url, tmp_path / "api-ca.pem", tmp_path / "token"), events=lambda *_: None)
    running = Relay(plan, f"unix:{tmp_path}/r.sock")
    running.start()
    yield tmp_path / "r.sock"
    running.close()


@asynccontextmanager
async def reviewed(directory: Path, socket: Path, **more: Any) -> AsyncIterator[Rig]:
    section = {
        "name": "cluster",
        "issuer": cluster.ISSUER,
        "audience": ["rlu"],
        "review": True,
        "tenant_claim": ["kubernetes.io", "namespace"],
        "tenants": ["team-a"],
    }
    auth = {"issuers": [{**section, **more}], "relay": f"unix:{socket}", "review_ttl_s": 0}
    async with Rig(directory, sections={"auth": auth}) as rig:
        yield rig


async def test_the_cluster_is_asked_while_the_request_waits(
    tmp_path: Path, api_server: ApiServer, relay: Path
):
    async with reviewed(tmp_path, relay) as rig:
        api_server.accounts.add(RUNNER)
        token = api_server.token(time.time(), "team-a", "runner")
        answer = await call(rig, CHAT, bearer(token))
        assert answer.status == 200
        assert (await receipt(rig, answer, bearer(token))).status == "complete"
        models = await call(rig, "/v1/models", bearer(token))
        assert models.status == 200
        own = await call(rig, SESSIONS, bearer(token))
        assert [one["session"] for one in own.json()["sessions"]] == [answer.session]
        asked = len(api_server.reviews)
        # The account is deleted; its token would still be good by its signature.
        api_server.accounts.clear()
        for path in (CHAT, MESSAGES, SESSIONS, "/v1/models"):
            refusal = await call(rig, path, bearer(token))
            assert (refusal.status, code(refusal)) == (401, "token_refused"), path
        # One no serves for a moment.
        assert len(api_server.reviews) - asked < 4
        assert token not in json.dumps(rig.events)


async def test_requests_with_one_token_share_one_question(tmp_path: Path, api_server: ApiServer, relay: Path):
    async with reviewed(tmp_path, relay) as rig:
        api_server.accounts.add(RUNNER)
        headers = bearer(api_server.token(time.time(), "team-a", "runner"))
        authenticator = rig.gateway.entrance.authenticator
        api_server.may_answer.clear()
        calls = [asyncio.create_task(call(rig, CHAT, headers)) for _ in range(6)]
        await rig.eventually(lambda: sum(len(p._waiting) for p in authenticator._asking.values()) == 6)
        api_server.may_answer.set()
        assert [(await one).status for one in calls] == [200] * 6
        assert len(api_server.reviews) == 1


async def test_a_large_body_waits_outside(tmp_path: Path, api_server: ApiServer, relay: Path):
    async with reviewed(tmp_path, relay) as rig:
        api_server.accounts.add(RUNNER)
        api_server.may_answer.clear()
        body = rig.chat("x" * 3_000_000)
        wire = await rig.wire()
        headers = bearer(api_server.token(time.time(), "team-a", "runner"))
        sending = asyncio.create_task(wire.send(rig.request(CHAT, body, who=None, headers=headers)))
        (connection,) = rig.gateway.relay.connections
        await rig.eventually(lambda: connection._transport and not connection._transport.is_reading())
        api_server.may_answer.set()
        await sending
        answer = await wire.response()
        assert answer.status == 200
        request = (await receipt(rig, answer, headers)).request
        assert request is not None
        assert request.size == len(json.dumps(body).encode())


async def test_signatures_are_checked_before_the_cluster_is_asked(
    tmp_path: Path, api_server: ApiServer, relay: Path
):
    file = tmp_path / "cluster.json"
    file.write_bytes(api_server.issuer.jwks())
    async with reviewed(tmp_path, relay, jwks_file=str(file)) as rig:
        api_server.accounts.update({RUNNER, "system:serviceaccount:team-b:runner"})
        genuine = api_server.issuer
        api_server.issuer = Issuer("cluster")
        forged = api_server.token(time.time(), "team-a", "runner")
        api_server.issuer = genuine
        assert code(await call(rig, CHAT, bearer(forged))) == "token_signature"
        assert api_server.reviews == []
        assert (
            await call(rig, CHAT, bearer(api_server.token(time.time(), "team-a", "runner")))
        ).status == 200
        other = api_server.token(time.time(), "team-b", "runner")
        assert code(await call(rig, CHAT, bearer(other))) == "token_claims"
        mistaken = api_server.token(time.time(), "team-a", "runner", aud=["vault"])
        assert code(await call(rig, CHAT, bearer(mistaken))) == "token_refused"


async def test_without_an_answer_nobody_comes_in(tmp_path: Path, api_server: ApiServer, relay: Path):
    async with reviewed(tmp_path, relay) as rig:
        api_server.accounts.add(RUNNER)
        token = api_server.token(time.time(), "team-a", "runner")
        api_server.status = 500
        answer = await call(rig, CHAT, bearer(token))
        assert (answer.status, code(answer), answer.headers["retry-after"]) == (
            503,
            "token_unverifiable",
            "5",
        )
        await becomes(rig, "relay_failed")
        await becomes(rig, "token_unverifiable", code="cluster")
        api_server.status = 201
        assert (await call(rig, CHAT, bearer(token))).status == 200


async def test_a_client_that_leaves_while_it_waits(tmp_path: Path, api_server: ApiServer):
    asked, may_end = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await may_end.wait()
        writer.close()

    server = await asyncio.start_unix_server(silent, str(tmp_path / "r.sock"))
    try:
        async with reviewed(tmp_path, tmp_path / "r.sock") as rig:
            wire = await rig.wire()
            token = api_server.token(time.time(), "team-a", "runner")
            await wire.send(rig.request(CHAT, rig.chat(), who=None, headers=bearer(token)))
            await asyncio.wait_for(asked.wait(), 60)
            wire.abort()
            await rig.eventually(lambda: not rig.gateway.relay.connections)
            may_end.set()
            await becomes(rig, "token_unverifiable", code="cluster")
            # Nobody is told, and nothing is counted as if somebody had been.
            assert not any(event["event"] == "request_refused" for event in rig.events)
    finally:
        may_end.set()
        server.close()
        await server.wait_closed()
