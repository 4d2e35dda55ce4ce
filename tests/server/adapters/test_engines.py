"""Several engines behind one gateway: who gets a request, who gets it again, and when an engine is believed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fakes.rig import Response, Rig
from rlu_server.attestor import messages
from scripted import load_book

CHAT = "/v1/chat/completions"
BOOK: dict[str, Any] = {
    "default": {"events": 3},
    "scripts": {
        "reset": {"fault": {"kind": "reset"}},
        "close": {"events": 9, "interval_ms": 5, "fault": {"kind": "close", "after": 2}},
        "slow": {"events": 400, "interval_ms": 20},
    },
}
SOUND = {"default": {"events": 3}, "scripts": {"slow": {"events": 400, "interval_ms": 20}}}


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Rig]:
    async with Rig(tmp_path, {}, BOOK, sections={"engine": {"replicas": 2}}) as rig:
        await rig.eventually(lambda: all(one.probed for one in rig.gateway.readiness.engines))
        yield rig


@pytest.fixture
async def models(tmp_path: Path) -> AsyncIterator[Rig]:
    sections = {"further_engines": [{"path": "/models/small", "name": "small"}]}
    async with Rig(tmp_path, {}, BOOK, sections=sections) as rig:
        yield rig


async def talk(rig: Rig, conversation: str, **more: Any) -> Response:
    return await rig.call(CHAT, rig.chat(**more), headers={"session-id": conversation})


def had(rig: Rig, name: str) -> list[bytes]:
    """What clients asked of an engine."""
    seen = rig.engines[name].seen
    return [one.body for one in seen if one.method == "POST" and b'"cache_salt":"a/b"' not in one.body]


def forget(rig: Rig) -> None:
    for engine in rig.engines.values():
        engine.seen.clear()


async def home(rig: Rig, conversation: str) -> tuple[str, str]:
    """Where a conversation is, and where it is not."""
    forget(rig)
    assert (await talk(rig, conversation)).status == 200
    here, there = sorted(rig.engines, key=lambda name: -len(had(rig, name)))
    assert (len(had(rig, here)), len(had(rig, there))) == (1, 0)
    forget(rig)
    return here, there


async def test_a_conversation_stays_with_one_engine_and_all_are_used(pair: Rig) -> None:
    homes = {}
    for number in range(12):
        name = f"conversation {number}"
        homes[name], _ = await home(pair, name)
    assert set(homes.values()) == {"engine", "engine2"}
    for name, engine in homes.items():
        assert (await home(pair, name))[0] == engine


async def test_an_explicit_session_stays_with_one_engine(pair: Rig) -> None:
    first = await talk(pair, "a")
    forget(pair)
    for _ in range(4):
        response = await pair.call(CHAT, pair.chat(), headers={"RLU-Session": first.session})
        assert response.session == first.session
    assert sorted(len(had(pair, name)) for name in pair.engines) == [0, 4]


async def test_a_busy_engine_is_passed_over(pair: Rig) -> None:
    here, there = await home(pair, "c")
    wires = []
    for _ in range(12):
        wire = await pair.wire()
        await wire.send(
            pair.request(CHAT, pair.chat(stream=True, script="slow"), headers={"session-id": "c"})
        )
        wires.append(wire)
    await pair.eventually(lambda: len(had(pair, here)) + len(had(pair, there)) == 12)
    assert len(had(pair, there)) >= 3
    assert len(had(pair, here)) >= 8


async def test_one_goes_away_and_the_other_goes_on(pair: Rig) -> None:
    here, there = await home(pair, "d")
    session = (await talk(pair, "d")).session
    await pair.kill_engine(here)
    forget(pair)
    response = await talk(pair, "d")
    assert (response.status, response.session) == (200, session)
    assert len(had(pair, there)) == 1
    assert pair.gateway.readiness.missing() == [], "one engine is enough to go on"
    await pair.start_engine(here)
    await pair.eventually(lambda: all(one.probed for one in pair.gateway.readiness.engines))
    assert (await home(pair, "d"))[0] == here, "it comes home"


async def test_a_request_without_a_byte_goes_to_the_other_engine(pair: Rig) -> None:
    here, there = await home(pair, "e")
    pair.engines[there].book = load_book(SOUND)
    body = json.dumps(pair.chat(script="reset")).encode()
    response = await pair.call(CHAT, body, headers={"session-id": "e"})
    assert response.status == 200
    assert len(had(pair, there)) == 1
    receipt = await pair.receipt(response)
    assert (receipt.status, receipt.model) == ("complete", "scripted")
    pair.check_commitments(receipt, body, had(pair, there)[0], response.content)
    assert pair.gateway.relay.measures.engine_retries >= 1
    [told, *_] = [event for event in pair.events if event["event"] == "engine_retried"]
    assert (told["code"], told["engine"], told["level"]) == ("engine_lost", here, "warning")


async def test_it_goes_there_once(pair: Rig) -> None:
    await home(pair, "f")
    response = await talk(pair, "f", script="reset")
    assert (response.status, response.json()["error"]["code"]) == (502, "engine_lost")
    assert sum(len(had(pair, name)) for name in pair.engines) == 2
    receipt = await pair.receipt(response)
    assert (receipt.status, receipt.reason) == ("failed", "engine_lost")
    assert receipt.forwarded is not None, "engines had it"


async def test_an_engine_that_ended_a_fresh_connection_does_not_get_it_again(tmp_path: Path) -> None:
    async with Rig(tmp_path, {}, BOOK) as rig:
        await rig.last_look()
        rig.gateway.engine.close()
        forget(rig)
        response = await talk(rig, "f", script="reset")
        assert (response.status, response.json()["error"]["code"]) == (502, "engine_lost")
        assert len(had(rig, "engine")) == 1
        await rig.ready()
        forget(rig)
        response = await talk(rig, "f", script="reset")  # on a connection of the prober's, kept idle
        assert (response.status, response.json()["error"]["code"]) == (502, "engine_lost")
        assert len(had(rig, "engine")) == 2


async def test_a_request_with_bytes_is_not_asked_again(pair: Rig) -> None:
    here, there = await home(pair, "g")
    response = await talk(pair, "g", script="close", stream=True)
    assert b"engine_lost" in response.content
    assert (len(had(pair, here)), len(had(pair, there))) == (1, 0)
    assert (await pair.receipt(response)).status == "partial"


async def test_with_nobody_left_it_is_refused(pair: Rig) -> None:
    for name in pair.engines:
        await pair.kill_engine(name)
    await pair.eventually(lambda: not any(one.proving for one in pair.gateway.readiness.engines))
    response = await talk(pair, "h")
    assert (response.status, response.json()["error"]["code"]) == (503, "engine_unavailable")
    assert pair.gateway.readiness.missing() == ["engine_unavailable"]


async def test_an_engine_that_was_replaced_unnoticed_gets_nothing_before_it_is_proven(tmp_path: Path) -> None:
    """The new one ignores salts: not one request of a client may reach it, whenever it comes."""
    async with Rig(tmp_path, {}, BOOK) as rig:
        await rig.last_look()
        assert (await talk(rig, "i")).status == 200
        await rig.stop_engine()
        rig.gateway.engine.close()  # no connection is left whose end would tell
        rig.engines["engine"].book = load_book(BOOK)
        reply = rig.engine.reply

        def ignorant(method: bytes, target: bytes, body: bytes) -> Any:
            return reply(method, target, body.replace(b'"cache_salt":"a/b"', b'"cache_salt":"a_b"'))

        rig.engine.reply = ignorant  # type: ignore[method-assign]
        forget(rig)
        await rig.start_engine()
        response = await talk(rig, "i")
        assert (response.status, response.json()["error"]["code"]) == (503, "salt_unproven")
        assert had(rig, "engine") == []
        assert rig.gateway.readiness.missing() == ["salt_unproven"]


async def test_requests_wait_while_an_engine_is_proven_again(tmp_path: Path) -> None:
    """Restarted in less than the period of the prober, it serves as soon as it is back, and proved itself in between."""
    async with Rig(tmp_path, {}, BOOK) as rig:
        await rig.last_look()
        for _ in range(3):
            assert (await talk(rig, "j")).status == 200
            await rig.kill_engine("engine")
            forget(rig)
            await rig.start_engine()
            answers = await asyncio.gather(*(talk(rig, f"j{n}") for n in range(5)))
            assert [answer.status for answer in answers] == [200] * 5
            asked = [b'"cache_salt":"a/b"' in one.body for one in rig.engine.seen if one.method == "POST"]
            assert asked.index(False) >= 5, "five routes take salts, and all were tried before a request came"


async def test_each_model_has_its_engine_and_receipts_say_so(models: Rig) -> None:
    for model, engine in (("scripted", "engine"), ("small", "engine2")):
        forget(models)
        response = await models.call(CHAT, {**models.chat(), "model": model})
        assert response.status == 200, response.content
        assert response.json()["model"] == model
        assert [json.loads(body)["model"] for body in had(models, engine)] == [model]
        assert (await models.receipt(response)).model == model
    missing = await models.call(CHAT, {**models.chat(), "model": "other"})
    assert (missing.status, missing.json()["error"]["code"]) == (404, "model_not_found")


async def test_one_model_away_does_not_stop_the_other(models: Rig) -> None:
    await models.kill_engine("engine2")
    await models.eventually(lambda: not models.gateway.readiness.engines[1].proving)
    assert (await talk(models, "k")).status == 200
    away = await models.call(CHAT, {**models.chat(), "model": "small"})
    assert (away.status, away.json()["error"]["code"]) == (503, "engine_unavailable")
    assert "rlu-receipt" not in away.headers, "nothing was asked of anybody"


async def test_not_ready_before_every_model_was(tmp_path: Path) -> None:
    sections = {"further_engines": [{"path": "/models/small", "name": "small"}]}
    async with Rig(tmp_path, {}, BOOK, sections=sections) as rig:
        gateway = rig.gateway
        await gateway.stop()
        await rig.kill_engine("engine2")
        rig.gateway = rig.make_gateway()
        await rig.gateway.start()
        await rig.eventually(lambda: rig.gateway.readiness.probed)
        assert rig.gateway.readiness.missing() == ["engine_unavailable"]
        await rig.start_engine("engine2")
        await rig.ready()
        await rig.kill_engine("engine2")
        await rig.eventually(lambda: not rig.gateway.readiness.engines[1].alive)
        assert rig.gateway.readiness.missing() == []


async def test_who_leaves_before_an_engine_had_the_request_leaves_nothing_behind(tmp_path: Path) -> None:
    """While the only engine is looked at, who comes and goes must not fill memory, and nothing is said to have been forwarded."""
    async with Rig(tmp_path, {}, BOOK) as rig:
        await rig.last_look()
        engines = rig.gateway.engine
        standing = engines.replicas[0].standing
        standing.probed, standing.proving = False, True  # a look that takes its time
        forget(rig)
        for _ in range(3):
            wire = await rig.wire()
            await wire.send(rig.request(CHAT, rig.chat(text="x" * 100_000)))
            await rig.eventually(lambda: any(engines._waiting.values()))
            wire.abort()
            await rig.eventually(lambda: not rig.gateway.relay.exchanges)
            assert not any(engines._waiting.values()), "what nobody waits for is not kept"
        await rig.eventually(lambda: len(records(rig)) == 3)
        for record in records(rig):
            assert (record.status, record.reason) == ("aborted", "client_disconnected")
            assert record.forwarded is None, "no engine had it"
        assert had(rig, "engine") == []


async def test_requests_wait_for_a_proof_that_nobody_asked_for(tmp_path: Path) -> None:
    """The prober found another start by itself, as at the start of a gateway or worker: that is no reason to refuse."""
    async with Rig(tmp_path, {}, BOOK) as rig:
        (prober,) = rig.gateway.probers
        prober._period_s = 1000.0
        replica = rig.gateway.engine.replicas[0]
        go_on, honours = asyncio.Event(), prober.honours_salts

        async def slowly(generation: Any) -> Any:
            await go_on.wait()
            return await honours(generation)

        prober.honours_salts = slowly  # type: ignore[method-assign]
        replica.standing.probed, replica.proven, replica.seen = False, None, None
        look = asyncio.ensure_future(prober.look())
        await rig.eventually(lambda: replica.seen is not None)
        asked = asyncio.ensure_future(talk(rig, "m"))
        await rig.eventually(lambda: any(rig.gateway.engine._waiting.values()) or asked.done())
        go_on.set()
        assert (await asked).status == 200
        await look
        assert not replica.standing.proving


async def test_an_engine_that_turns_out_unfit_was_not_given_what_waited(tmp_path: Path) -> None:
    async with Rig(tmp_path, {}, BOOK) as rig:
        await rig.last_look()
        engines = rig.gateway.engine
        replica = engines.replicas[0]
        replica.standing.probed, replica.standing.proving = False, True
        forget(rig)
        asked = asyncio.ensure_future(talk(rig, "l"))
        await rig.eventually(lambda: any(engines._waiting.values()))
        replica.seen = replica.engine.generation()
        engines.unproven(replica, alive=True)
        response = await asked
        assert (response.status, response.json()["error"]["code"]) == (503, "salt_unproven")
        receipt = await rig.receipt(response)
        assert (receipt.status, receipt.reason, receipt.forwarded) == ("failed", "salt_unproven", None)
        assert had(rig, "engine") == []


def records(rig: Rig) -> list[messages.RecordReceipt]:
    return [one for one in rig.attestor.received if isinstance(one, messages.RecordReceipt)]
