"""Instance statements: fresh for a nonce, standing for none, one quote for a crowd."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fakes.attestor_process import POSTURE
from fakes.attestor_room import running_room
from rlu_attestation import jose
from rlu_attestation.instance import InstanceClaims, binding, claims_bytes, profile_digest
from rlu_attestation.merkle import Tree, leaf_hash
from rlu_server.attestor import attesting, facts, messages, server
from waiting import until


def claims_of(statement: str) -> InstanceClaims:
    return InstanceClaims.parse(jose.jws_parse(statement).payload)


async def test_the_statement_says_what_the_facts_say(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.connect()
        room.deployment.write_posture("engine", {"network": "namespace"})
        welcome = await gateway.hello(spki=b"\x07" * 32)
        parsed = jose.jws_parse(welcome.statement)
        jose.verify_es256(jose.public_key(welcome.jwk), parsed.signing_input, parsed.signature)
        claims = claims_of(welcome.statement)
        assert claims.tls.spki_sha256 == b"\x07" * 32
        assert claims.model_name == "demo"
        assert claims.model_manifest == b"\x01" * 32
        assert (claims.engine.name, claims.engine.version) == ("vllm", "0.32.0")
        assert claims.lock == {"attestor": POSTURE, "engine": {"network": "namespace"}, "gateway": POSTURE}
        assert (claims.region, claims.boundary, claims.site) == ("eu-central-1", "laptop", "desk")
        assert (claims.key_hardware, claims.oemboot, claims.dbgstat) == ("none", False, "enabled")
        assert claims.nonce is None
        assert claims.expires_at - claims.issued_at == 7200
        assert welcome.profile_digest == profile_digest(claims.to_json())


async def test_a_process_without_posture_is_said_to_be_unmeasured(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        (room.deployment.runtime / "facts" / "engine.json").unlink()
        gateway = await room.connect()
        assert claims_of((await gateway.hello()).statement).lock["engine"] == facts.UNMEASURED


async def test_no_nonce_gets_the_standing_statement_until_it_is_due(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.connect()
        welcome = await gateway.hello()

        async def standing() -> messages.Attestation:
            request = messages.Attest(id=gateway.next_id(), nonce=None)
            return await gateway.ask(request, messages.Attestation)

        assert (await standing()).statement == welcome.statement
        room.now += 3600
        renewed = await standing()
        assert claims_of(renewed.statement).issued_at == room.now
        assert (await standing()).statement == renewed.statement
        assert "statement.renewed" in room.event_names()


async def test_it_is_renewed_on_schedule_though_nobody_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "EXPIRY_CHECK_S", 0.02)
    monkeypatch.setattr(server, "DRIFT_CHECK_S", 0.02)
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        session = (await gateway.open(ttl_s=9000)).session
        room.now += 3599
        await asyncio.sleep(0.2)
        assert "statement.renewed" not in room.event_names()
        room.platform.failing = True
        room.now += 1
        await until(lambda: "statement.renewal_failed" in room.event_names())
        room.platform.failing = False
        await until(lambda: "statement.renewed" in room.event_names())
        await asyncio.sleep(0.1)  # some looks more
        assert room.event_names().count("statement.renewed") == 1
        await gateway.head()  # nothing unasked was sent in between
        assert room.ledger.find(session, next(iter(room.server.connections)).gateway).id == session


async def test_a_crowd_of_nonces_shares_one_quote(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        quotes = len(room.platform.roots)
        room.platform.gate.clear()
        nonces = [bytes([i]) * 16 for i in range(40)]
        ids = [gateway.send(messages.Attest(id=1000 + i, nonce=nonce)) for i, nonce in enumerate(nonces)]
        await gateway.head()  # all of them have arrived
        room.platform.gate.set()
        claims = []
        for request_id in ids:
            answer = await gateway.answer(request_id)
            assert isinstance(answer, messages.Attestation)
            claims.append(claims_of(answer.statement))
        assert [c.nonce for c in claims] == nonces
        assert 1 <= len(room.platform.roots) - quotes <= 2
        trees = set()
        for start, end in ((0, 40), (0, 1), (1, 40)):
            tree = Tree()
            for found in claims[start:end]:
                tree.append(leaf_hash(binding(claims_bytes(found.to_json()))))
            trees.add(tree.root())
        assert set(room.platform.roots[quotes:]) <= trees


async def test_sessions_are_signed_between_the_statements_of_a_crowd(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        room.platform.gate.clear()
        crowd = [gateway.send(messages.Attest(id=1000 + i, nonce=bytes(16))) for i in range(60)]
        opening = gateway.send(gateway.opening())
        await gateway.head()  # all of them have arrived
        room.platform.gate.set()
        order = [(await gateway.receive()).id for _ in range(61)]
        assert order.index(opening) <= 3
        assert set(order) == {*crowd, opening}


async def test_too_many_at_once_are_overloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attesting, "MAX_WAITING", 5)
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        room.platform.gate.clear()
        ids = [gateway.send(messages.Attest(id=1000 + i, nonce=bytes(16))) for i in range(30)]
        await gateway.head()  # all of them have arrived
        room.platform.gate.set()
        answers = [await gateway.answer(i) for i in ids]
        codes = {a.code for a in answers if isinstance(a, messages.Failure)}
        assert codes == {"overloaded"}


async def test_a_failing_signer_fails_the_statement(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        gateway = await room.greeted()
        room.platform.failing = True
        request = messages.Attest(id=50, nonce=bytes(16))
        assert (await gateway.ask(request, messages.Failure)).code == "signer_unavailable"
        other = await room.connect()
        hello = messages.Hello(
            id=1, gateway_version="1", tls_origin="plaintext", tls_spki_sha256=None, posture={}
        )
        assert (await other.ask(hello, messages.Failure)).code == "signer_unavailable"
        room.platform.failing = False
        await gateway.ask(messages.Attest(id=51, nonce=bytes(16)), messages.Attestation)
        await other.hello()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("instance.json", "{}"),
        ("instance.json", "not json"),
        ("instance.json", '{"model":{"name":"m","manifest_sha256":"short"}}'),
        ("instance.json", "[" * 2000),
        ("engine.json", '{"nested":{"not":"flat"}}'),
        ("engine.json", '{"float":1.5}'),
        ("attestor.json", "[]"),
        ("attestor.json", '{"text":"' + "x" * 129 + '"}'),
        ("engine.json", " " * 70_000),
    ],
    ids=lambda value: value[:24],
)
async def test_facts_of_another_form_refuse(tmp_path: Path, name: str, text: str) -> None:
    async with running_room(tmp_path) as room:
        (room.deployment.runtime / "facts" / name).write_text(text)
        gateway = await room.connect()
        hello = messages.Hello(
            id=1, gateway_version="1", tls_origin="plaintext", tls_spki_sha256=None, posture={}
        )
        failure = await gateway.ask(hello, messages.Failure)
        assert failure.code == "facts.malformed"
