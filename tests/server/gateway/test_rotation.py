"""A rotation under load: the real gateway and the real attestor on a software TPM, requests all the time, streams across the change.

Every request is answered, every response has its receipt, every receipt verifies under the key of its session, and the log of the old key
ends where the new instance says.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fakes import rig as rigs
from fakes.attestor_process import AttestorProcess, Deployment
from fakes.rig import Response, Rig
from rlu_attestation import continuity, cose, jose
from rlu_attestation.encoding import unb64u
from rlu_attestation.instance import InstanceClaims, issuer, ueid
from rlu_attestation.merkle import leaf_hash
from rlu_attestation.statements import Receipt, SessionStatement
from rlu_server.attestor import asking
from rlu_server.attestor.slots import continuity_of
from rlu_server.gateway.measurements import key_measurements

PATH = "/v1/chat/completions"
BOOK = {
    "default": {"events": 4},
    "scripts": {"long": {"events": 40, "interval_ms": 50}},
}


@dataclass
class Load:
    """Clients that never stop asking, each in a conversation of its own or in none."""

    rig: Rig
    responses: list[Response] = field(default_factory=list)
    stopping: bool = False

    async def client(self, number: int) -> None:
        while not self.stopping:
            # Half of the clients stay in one session each, the others open one after another.
            conversation = f"c{number}" if number % 2 else f"c{number}-{len(self.responses)}"
            found = await self.rig.call(PATH, self.rig.chat(), headers={"session-id": conversation})
            self.responses.append(found)

    async def stream(self) -> None:
        self.responses.append(
            await self.rig.call(PATH, self.rig.chat(stream=True, script="long"), headers={"session-id": "s"})
        )


class RealAttestor:
    """Stands where the rig's fake attestor would."""

    def __init__(self, process: AttestorProcess) -> None:
        self.process = process

    async def start(self) -> None:
        await asyncio.to_thread(self.process.start)

    async def stop(self) -> None:
        await asyncio.to_thread(self.process.stop)


async def key_of(rig: Rig) -> dict[str, str]:
    jwk: dict[str, str] = (await rig.call("/.well-known/rlu-configuration", None, method="GET")).json()["jwk"]
    return jwk


async def rotate(directory: Path) -> asking.Outcome:
    asked = asking.Asked("rotate", "test")
    asking.ask(directory, asked)
    while True:
        outcome = asking.answered(directory, asked)
        if outcome is not None:
            return outcome
        await asyncio.sleep(0.02)


async def signed(rig: Rig, document: dict[str, Any], keys: dict[str, Any], kind: Any) -> Any:
    statement, receipt = unb64u(document["statement"]), cose.parse_inclusion(unb64u(document["receipt"]))
    receipt.verify(keys[receipt.issuer], leaf_hash(statement))
    parsed = kind.parse(statement)
    assert parsed.issuer == receipt.issuer
    return parsed


@pytest.mark.tpm
async def test_no_request_is_lost(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    process = AttestorProcess(deployment)
    monkeypatch.setattr(rigs, "FakeAttestor", lambda socket: RealAttestor(process))
    state = deployment.state / "attestation"
    async with Rig(deployment.runtime, {}, BOOK) as rig:
        old = await key_of(rig)
        load = Load(rig)
        running = [asyncio.create_task(load.client(number)) for number in range(6)]
        streams = [asyncio.create_task(load.stream()) for _ in range(3)]
        await rig.eventually(lambda: len(load.responses) >= 30 and rig.gateway.relay.exchanges)
        outcome = await rotate(state)
        assert outcome.code is None, outcome
        before = len(load.responses)
        await rig.eventually(lambda: len(load.responses) >= before + 60)
        load.stopping = True
        await asyncio.gather(*running, *streams)
        new = await key_of(rig)
        assert new != old
        metrics = await rig.metrics()
        assert "rlu_key_age_seconds" in metrics
        assert "rlu_key_rotation_due_seconds" in metrics

        keys = {issuer(jose.thumbprint(jwk)): jose.public_key(jwk) for jwk in (old, new)}
        assert {r.status for r in load.responses} == {200}
        assert all(r.complete for r in load.responses)
        by_issuer: dict[str, int] = {}
        for response in load.responses:
            receipt = await signed(
                rig,
                (await rig.call(response.headers["rlu-receipt"], None, method="GET")).json(),
                keys,
                Receipt,
            )
            assert receipt.status == "complete"
            assert receipt.response.size == len(response.content)
            session = await signed(
                rig,
                (await rig.call(f"/v1/rlu/sessions/{response.session}", None, method="GET")).json(),
                keys,
                SessionStatement,
            )
            assert session.issuer == receipt.issuer, "a session stays with the key that opened it"
            by_issuer[receipt.issuer] = by_issuer.get(receipt.issuer, 0) + 1
        assert len(by_issuer) == 2, "both keys signed"
        assert min(by_issuer.values()) > 5

        # The sessions of the old key are closed under it; then it goes, and the new one names its last head.
        summaries = (await rig.call("/v1/rlu/sessions", None, method="GET")).json()["sessions"]
        for summary in summaries:
            if summary["state"] == "open":
                await rig.call(f"/v1/rlu/sessions/{summary['session']}", None, method="DELETE")
        await rig.eventually(lambda: "key.retired" in process.events())
        assert not [
            e for e in rig.events if e["event"] in ("receipt_lost", "attestor_lost", "attestor_untrusted")
        ]
        await check_log(rig, state, old, new)


async def check_log(rig: Rig, state: Path, old: dict[str, str], new: dict[str, str]) -> None:
    """What `rlu log audit` checks when it follows one instance to the next."""
    found = (await rig.call("/v1/rlu/attestation?nonce=AAAAAAAAAAAAAAAA", None, method="GET")).json()
    claims = InstanceClaims.parse(jose.jws_parse(found["attestation"]["statement"]).payload)
    assert claims.predecessor is not None
    final = cose.parse_head(claims.predecessor.head)
    final.verify(jose.public_key(old))
    text = continuity_of(state / "continuity", ueid(jose.thumbprint(new)))
    assert text is not None
    word, handed = continuity.verify(text)
    assert word.issuer == claims.predecessor.issuer
    path = f"/v1/rlu/log/consistency?old_size={handed.tree_size}&issuer={word.issuer}"
    receipt = cose.parse_consistency(unb64u((await rig.call(path, None, method="GET")).json()["receipt"]))
    assert receipt.verify(jose.public_key(old), handed.root) == final.root


def test_what_is_measured_of_the_key() -> None:
    day = 86400
    found = {m.name: m.samples[0].value for m in key_measurements(0, 90, 80 * day)}
    assert found == {"key_age_seconds": 80 * day, "key_rotation_due_seconds": 10 * day}
    late = {m.name: m.samples[0].value for m in key_measurements(0, 90, 91 * day)}
    assert late["key_rotation_due_seconds"] == -day
    assert [m.name for m in key_measurements(0, 0, day)] == ["key_age_seconds"]
