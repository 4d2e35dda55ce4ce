"""Random schedules of clients, faults and restarts, by seed; afterwards nothing is left over and nothing is missing."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from fakes.rig import Rig
from rlu_attestation.statements import Receipt
from rlu_server.attestor import messages

PATHS = ("/v1/chat/completions", "/v1/responses", "/v1/messages")
SCRIPTS = (
    "split",
    "joined",
    "cached",
    "slow",
    "late",
    "status",
    "close",
    "error_event",
    "garbage",
    "reset",
    "stall",
)


@pytest.fixture
def overrides() -> dict[str, object]:
    return {"response_timeout_s": 0.8, "drain_timeout_s": 5.0}


async def client(rig: Rig, chance: random.Random, announced: list[str]) -> None:
    """One client: a few requests on one connection, some of which it abandons. Notes the receipts it was told of."""
    wire = await rig.wire()
    try:
        for _ in range(chance.randint(1, 4)):
            path = chance.choice(PATHS)
            body: dict[str, Any] = {"model": "scripted", "metadata": {"script": chance.choice(SCRIPTS)}}
            body["input" if path == "/v1/responses" else "messages"] = [{"role": "user", "content": "x"}]
            if chance.random() < 0.7:
                body["stream"] = True
            headers = {"session-id": str(chance.randint(0, 3))} if chance.random() < 0.8 else {}
            request = rig.request(path, body, who=chance.choice(["alice", "bob", "carol"]), headers=headers)
            cut = chance.randint(1, len(request))
            await wire.send(request[:cut])
            if chance.random() < 0.1:
                return
            await wire.send(request[cut:])
            if chance.random() < 0.25:
                await asyncio.sleep(chance.random() * 0.4)
                return
            response = await wire.response()
            if "rlu-receipt" in response.headers:
                announced.append(response.headers["rlu-receipt"])
            if not response.complete or response.headers.get("connection") == "close":
                return
    except (AssertionError, ConnectionError):
        pass  # the gateway may end a connection at any time
    finally:
        wire.abort()


async def trouble(rig: Rig, chance: random.Random) -> None:
    """Things that happen to the gateway's neighbours."""
    for _ in range(4):
        await asyncio.sleep(chance.random() * 0.5)
        kind = chance.choice(["attestor", "signer", "engine", "slow"])
        if kind == "attestor":
            await rig.attestor.stop()
            await asyncio.sleep(chance.random() * 0.3)
            await rig.attestor.start()
        elif kind == "signer":
            rig.attestor.failing = True
            await asyncio.sleep(chance.random() * 0.3)
            rig.attestor.failing = False
        elif kind == "engine":
            await rig.stop_engine()
            rig.gateway.engine.close()
            await asyncio.sleep(chance.random() * 0.3)
            await rig.start_engine()
        else:
            rig.attestor.delay_s = 0.1
            await asyncio.sleep(chance.random() * 0.3)
            rig.attestor.delay_s = 0.0


@pytest.mark.parametrize("seed", range(6))
async def test_nothing_is_left_over_and_nothing_is_missing(rig: Rig, seed: int):
    chance = random.Random(seed)
    announced: list[str] = []
    clients = [asyncio.create_task(client(rig, random.Random(chance.random()), announced)) for _ in range(40)]
    await trouble(rig, chance)
    await asyncio.gather(*clients)
    relay, ledger = rig.gateway.relay, rig.gateway.ledger
    await rig.ready()
    await rig.eventually(lambda: not relay.exchanges and not ledger.recorder.pending)
    assert len(set(announced)) == len(announced), "a number was announced twice"
    assert relay._held.total() == 0
    assert not ledger.recorder._waiters
    assert relay.measures.receipts_lost == 0
    assert sum(relay.measures.receipts.values()) == sum(len(s.logged) for s in rig.attestor.sessions.values())
    for held in ledger.table:
        assert held.in_flight == 0
        assert None not in held.receipts.values()
    for name, session in rig.attestor.sessions.items():
        assert not session.open
        numbers = []
        for seq, logged in session.logged.items():
            receipt = Receipt.parse(logged.statement)
            assert (receipt.session, receipt.seq) == (name, seq)
            numbers.append(seq)
        assert len(set(numbers)) == session.count
    opened = {m.session for m in rig.attestor.received if isinstance(m, messages.BeginExchange)}
    assert opened <= set(rig.attestor.sessions)
    await rig.gateway.drain()
    assert all(s.closed for s in rig.attestor.sessions.values())
    assert not [e for e in rig.events if e["event"] == "internal_error"]
