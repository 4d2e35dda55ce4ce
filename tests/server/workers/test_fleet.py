"""Several workers are one gateway: sessions, numbers, receipts, limits and isolation, as with one process; and what dies is made good."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fakes.fleet import Fleet, Processes, alive, command
from fakes.rig import Response, Wire
from rlu_attestation.commitment import Tag, commit
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.statements import Receipt
from rlu_server.attestor import messages

PATH = "/v1/chat/completions"
BOOK = {
    "default": {"events": 4},
    "scripts": {
        "slow": {"events": 40, "interval_ms": 25},
        "endless": {"events": 5000, "interval_ms": 25},
    },
}


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with Fleet(tmp_path, {"drain_timeout_s": 5.0}, BOOK) as fleet:
        yield fleet


async def test_a_session_goes_on_at_another_worker(fleet: Fleet):
    loaded = [event.get("worker") for event in fleet.gateway.events() if event["event"] == "keys_loaded"]
    assert sorted(loaded, key=str) == [0, 1, None], "each process says for itself which keys it has"
    first, second = await fleet.wire_each()
    answer = await fleet.ask(first, PATH, fleet.chat())
    assert answer.status == 200
    other = await fleet.ask(second, PATH, fleet.chat(), headers={"RLU-Session": answer.session})
    assert other.status == 200
    assert other.seq == answer.seq + 1
    assert (await fleet.receipt(other)).status == "complete"


async def test_one_conversation_on_all_workers_is_one_session_with_every_number_once(tmp_path: Path):
    async with Fleet(tmp_path, {}, BOOK, workers=3) as fleet:
        wires = await fleet.wire_each()

        async def turns(wire: Wire) -> list[Response]:
            return [
                await fleet.ask(wire, PATH, fleet.chat(), headers={"session-id": "one"}) for _ in range(8)
            ]

        answers = [a for found in await asyncio.gather(*map(turns, wires)) for a in found]
        assert {a.status for a in answers} == {200}
        assert len({a.session for a in answers}) == 1
        assert sorted(a.seq for a in answers) == list(range(1, 25))
        receipts = [await fleet.receipt(a) for a in answers]
        assert sorted(r.seq for r in receipts) == list(range(1, 25))
        assert {r.status for r in receipts} == {"complete"}


async def test_a_session_opened_through_one_worker_is_closed_through_another(fleet: Fleet):
    first, second = await fleet.wire_each()
    made = await fleet.ask(first, "/v1/rlu/sessions", {"nonce": b64u(b"n" * 32)})
    assert made.status == 201, made.content
    session = made.json()["session"]
    headers = {"RLU-Session": session}
    body = json.dumps(fleet.chat("what passed", stream=True)).encode()
    used = await fleet.ask(second, PATH, body, headers=headers)
    # At once, and by the other way: the receipt waits for its signature.
    fetched = await fleet.ask(first, used.headers["rlu-receipt"], None, method="GET")
    receipt = fleet.signed(fetched.json(), Receipt)
    key = unb64u(made.json()["commitment_key"])
    for content, tag, data in (
        (receipt.request, Tag.REQUEST, body),
        (receipt.response, Tag.RESPONSE, used.content),
    ):
        digest = hashlib.sha256(data).digest()
        assert content.commitment == commit(key, tag, unb64u(session), 1, len(data), digest)
    closed = await fleet.ask(first, f"/v1/rlu/sessions/{session}", None, method="DELETE")
    assert closed.status == 200, closed.content
    refused = await fleet.ask(second, PATH, fleet.chat(), headers=headers)
    assert (refused.status, refused.json()["error"]["code"]) == (410, "session_closed")


async def test_closing_a_session_ends_what_another_worker_does_in_it(fleet: Fleet):
    first, second = await fleet.wire_each()
    made = await fleet.ask(first, "/v1/rlu/sessions", {"nonce": b64u(b"n" * 32)})
    session = made.json()["session"]
    stream = fleet.chat(stream=True, script="endless")
    await second.send(fleet.request(PATH, stream, headers={"RLU-Session": session}))
    await second.until(b"data: ")
    closed = await fleet.ask(first, f"/v1/rlu/sessions/{session}", None, method="DELETE")
    assert closed.status == 200, closed.content
    cut = await second.response()
    assert b'"code":"session_closed"' in cut.content
    receipt = await fleet.receipt(cut)
    assert (receipt.status, receipt.reason) == ("partial", "session_closed")


async def test_what_is_another_tenants_does_not_exist_whichever_worker_is_asked(fleet: Fleet):
    first, second = await fleet.wire_each()
    mine = await fleet.ask(first, PATH, fleet.chat())
    for wire in (first, second):
        used = await fleet.ask(wire, PATH, fleet.chat(), who="bob", headers={"RLU-Session": mine.session})
        assert (used.status, used.json()["error"]["code"]) == (404, "session_not_found")
        read = await fleet.ask(wire, mine.headers["rlu-receipt"], None, who="bob", method="GET")
        assert (read.status, read.json()["code"]) == (404, "session_not_found")
        own = await fleet.ask(wire, PATH, fleet.chat(), who="bob")
        assert own.session != mine.session


async def test_one_tenants_salt_is_the_same_everywhere_and_nobody_elses(fleet: Fleet):
    fleet.engine.seen.clear()
    for wire in await fleet.wire_each():
        for who in ("alice", "carol", "bob"):
            assert (await fleet.ask(wire, PATH, fleet.chat(who), who=who)).status == 200
    salts: dict[str, set[str]] = {}
    for seen in fleet.engine.seen:
        if b'"messages"' in seen.body and b'"a/b"' not in seen.body:
            document = json.loads(seen.body)
            salts.setdefault(document["messages"][0]["content"], set()).add(document["cache_salt"])
    assert {who: len(found) for who, found in salts.items()} == {"alice": 1, "carol": 1, "bob": 1}
    assert salts["alice"] == salts["carol"] != salts["bob"]


async def test_a_worker_that_is_killed_leaves_signed_receipts_and_is_replaced(fleet: Fleet):
    wires = await fleet.wire_each()
    for wire in wires:
        await wire.send(fleet.request(PATH, fleet.chat(stream=True, script="endless")))
        await wire.until(b"data: ")
    victim = fleet.worker_pids()[0]
    fleet.kill(victim)
    ends = [asyncio.create_task(wire.response()) for wire in wires]
    done, still = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    cut = done.pop().result()
    assert not cut.complete
    receipt = await fleet.receipt(cut)
    assert (receipt.status, receipt.reason, receipt.http_status) == ("failed", "worker_lost", 0)
    assert (receipt.request, receipt.forwarded, receipt.response) == (None, None, None)
    # The other's stream goes on, the session too, and in a moment there are two workers again.
    going = wires[ends.index(*still)]
    before = len(going.received)
    await fleet.eventually(lambda: len(going.received) > before)
    await fleet.eventually(lambda: len(fleet.worker_pids()) == 2 and victim not in fleet.worker_pids())
    after = [await fleet.ask(wire, PATH, fleet.chat()) for wire in await fleet.wire_each()]
    assert {a.status for a in after} == {200}
    assert [a.session for a in after] == [cut.session] * 2
    assert [a.seq for a in after] == [3, 4]
    assert [e["worker"] for e in fleet.gateway.events() if e["event"] == "worker_lost"] in ([0], [1])
    assert {(await fleet.receipt(a)).status for a in after} == {"complete"}
    still.pop().cancel()


async def test_all_end_with_the_hub(fleet: Fleet):
    children = fleet.gateway.children
    hub = children[0]
    wire = (await fleet.wire_each())[0]
    await wire.send(fleet.request(PATH, fleet.chat(stream=True, script="endless")))
    await wire.until(b"data: ")
    fleet.kill(hub)
    assert await fleet.gateway.ended() == 128 + signal.SIGKILL
    assert await wire.closed()
    await fleet.eventually(lambda: not any(alive(pid) for pid in children))


async def test_all_end_with_the_master(fleet: Fleet):
    children = fleet.gateway.children
    assert len(children) == 3
    fleet.gateway.tell(signal.SIGKILL)
    await fleet.gateway.ended()
    await fleet.eventually(lambda: not any(alive(pid) for pid in children))


async def test_drain_lets_what_runs_finish_on_every_worker(fleet: Fleet):
    wires = await fleet.wire_each()
    idle = await fleet.wire()
    for wire in wires:
        await wire.send(fleet.request(PATH, fleet.chat(stream=True, script="slow")))
        await wire.until(b"data: ")
    fleet.gateway.tell(signal.SIGTERM)
    answers = [await wire.response() for wire in wires]
    assert all(a.content.endswith(b"data: [DONE]\n\n") for a in answers)
    assert await idle.closed()
    assert await fleet.gateway.ended() == 0
    closes = [m for m in fleet.attestor.received if isinstance(m, messages.CloseSession)]
    assert {m.session for m in closes} >= {a.session for a in answers}
    assert {m.reason for m in closes} == {"drain"}
    records = [m for m in fleet.attestor.received if isinstance(m, messages.RecordReceipt)]
    assert {m.status for m in records} == {"complete"}


async def test_drain_cuts_what_takes_too_long(tmp_path: Path):
    async with Fleet(tmp_path, {"drain_timeout_s": 0.2}, BOOK) as fleet:
        wires = await fleet.wire_each()
        for wire in wires:
            await wire.send(fleet.request(PATH, fleet.chat(stream=True, script="endless")))
            await wire.until(b"data: ")
        fleet.gateway.tell(signal.SIGTERM)
        for wire in wires:
            assert b'"code":"draining"' in (await wire.response()).content
        assert await fleet.gateway.ended() == 0
        records = [m for m in fleet.attestor.received if isinstance(m, messages.RecordReceipt)]
        assert [m.reason for m in records if m.status == "partial"] == ["draining"] * 2


async def test_a_revoked_key_is_refused_by_every_worker(fleet: Fleet):
    wires = await fleet.wire_each()
    fleet.records[0] = msgspec.structs.replace(fleet.records[0], revoked=1)
    fleet.write_keys()
    for wire in wires:
        for path, body, method in ((PATH, fleet.chat(), "POST"), ("/v1/rlu/sessions", None, "GET")):
            answer = await fleet.ask(wire, path, body, method=method)
            while answer.status in (200, 201):
                await asyncio.sleep(0.05)
                answer = await fleet.ask(wire, path, body, method=method)
            assert answer.status == 401
            assert b"key_revoked" in answer.content


async def test_metrics_are_of_all_workers(fleet: Fleet):
    before = await counted(fleet, "rlu_requests_total", 'route="/v1/completions",status="200"')
    wires = await fleet.wire_each()
    for wire in wires:
        for _ in range(3):
            answer = await fleet.ask(wire, "/v1/completions", {"model": "scripted", "prompt": "x"})
            assert answer.status == 200
    while await counted(fleet, "rlu_requests_total", 'route="/v1/completions",status="200"') < before + 6:
        await asyncio.sleep(0.05)
    assert await counted(fleet, "rlu_connections", "") >= 2


async def test_an_attestor_that_is_away_is_away_for_every_worker(fleet: Fleet):
    wires = await fleet.wire_each()
    await fleet.attestor.stop()
    for wire in wires:
        answer = await fleet.ask(wire, PATH, fleet.chat())
        assert (answer.status, answer.json()["error"]["code"]) == (503, "signer_unavailable")
    await fleet.attestor.start()
    for wire in wires:
        while (await fleet.ask(wire, PATH, fleet.chat())).status != 200:
            await asyncio.sleep(0.05)


async def test_tls_is_of_one_key(tmp_path: Path):
    async with Fleet(tmp_path, {}, BOOK, tls=True) as fleet:
        wires = await fleet.wire_each()
        shown = {wire.writer.get_extra_info("ssl_object").getpeercert(True) for wire in wires}
        assert len(shown) == 1
        for wire in wires:
            answer = await fleet.ask(wire, PATH, fleet.chat())
            statement = fleet.statement(answer.session)
            spki = x509.load_der_x509_certificate(*shown).public_key()
            encoded = spki.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            assert statement.channel.spki_sha256 == hashlib.sha256(encoded).digest()
        files = [p for p in tmp_path.rglob("*") if p.is_file()]
        assert not any(b"PRIVATE KEY" in p.read_bytes() for p in files)


async def test_limits_are_of_all_workers_and_a_dead_one_gives_its_part_back(tmp_path: Path):
    limits = "[tenants.acme]\nconcurrent_requests = 2\n"
    async with Fleet(tmp_path, {}, BOOK, limits=limits) as fleet:
        wires = await fleet.wire_each()
        for wire in wires:
            await wire.send(fleet.request(PATH, fleet.chat(stream=True, script="endless")))
            await wire.until(b"data: ")
        for wire in await fleet.wire_each():
            refused = await fleet.ask(wire, PATH, fleet.chat(), who="carol")
            assert (refused.status, refused.json()["error"]["code"]) == (429, "limit_concurrent")
            assert refused.headers["retry-after"]
            assert (await fleet.ask(wire, PATH, fleet.chat(), who="bob")).status == 200
        fleet.kill(fleet.worker_pids()[0])
        await fleet.eventually(
            lambda: len([e for e in fleet.gateway.events() if e["event"] == "worker_ready"]) == 3
        )
        answers = [await fleet.call(PATH, fleet.chat(), who="carol")]
        while answers[-1].status != 200:
            await asyncio.sleep(0.05)
            answers.append(await fleet.call(PATH, fleet.chat(), who="carol"))


async def test_memory_for_content_is_of_all_workers(tmp_path: Path):
    size = 1 << 20
    async with Fleet(tmp_path, {"max_body_bytes": size}, BOOK) as fleet:
        # A tenant gets half of sixteen bodies; one worker alone sees seven.
        wires = await fleet.wire_each(7)
        head = fleet.request(PATH, b"").replace(b"Content-Length: 0", b"Content-Length: %d" % size)
        for wire in wires:
            await wire.send(head + bytes(size - 1000))
        ends = [asyncio.create_task(wire.response()) for wire in wires]
        done, waiting = await asyncio.wait(ends, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
        for _ in range(500):
            if done:
                break
            # What the others hold is known a little later, and judged when more arrives.
            for wire in wires:
                await wire.send(b"x")
            done, waiting = await asyncio.wait(ends, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
        refused = done.pop().result()
        assert (refused.status, refused.json()["error"]["code"]) == (503, "overloaded")
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for wire in wires:
            wire.abort()
        while (await fleet.call(PATH, fleet.chat())).status != 200:
            await asyncio.sleep(0.05)


async def test_a_kept_response_is_continued_and_read_through_other_workers(tmp_path: Path):
    book = {"default": {"turns": [{"text": "Good morning."}]}}
    async with Fleet(tmp_path, {}, book) as fleet:
        first, second = await fleet.wire_each()
        made = await fleet.ask(first, "/v1/responses", {"model": "scripted", "input": "one", "store": True})
        name = made.json()["id"]
        more = {"model": "scripted", "input": "two", "previous_response_id": name}
        continued = await fleet.ask(second, "/v1/responses", more)
        assert continued.status == 200, continued.content
        assert "previous_response_id" in (await fleet.receipt(continued)).rewritten
        for wire in (first, second):
            read = await fleet.ask(wire, f"/v1/responses/{name}", None, method="GET")
            assert read.content == made.content
            other = await fleet.ask(wire, f"/v1/responses/{name}", None, method="GET", who="bob")
            assert (other.status, other.json()["error"]["code"]) == (404, "response_not_found")
        assert (await fleet.ask(second, f"/v1/responses/{name}", None, method="DELETE")).status == 200
        gone = await fleet.ask(first, f"/v1/responses/{name}", None, method="GET")
        assert gone.status == 404


async def test_after_everything_each_number_of_each_session_has_one_record(tmp_path: Path):
    """Conversations wander over workers, clients leave in the middle, a worker is killed; then the gateway drains."""
    async with Fleet(tmp_path, {"drain_timeout_s": 10.0}, BOOK, workers=3) as fleet:
        chance = random.Random(7)

        async def client(number: int) -> None:
            for turn in range(12):
                headers = {"session-id": f"conversation-{chance.randrange(4)}"}
                wire = await fleet.wire()
                leaves = chance.random() < 0.3
                body = fleet.chat(f"{number}/{turn}", stream=True, script="slow" if leaves else None)
                try:
                    await wire.send(fleet.request(PATH, body, headers=headers))
                    if leaves:
                        await wire.until(b"data: ")
                    else:
                        await wire.response()
                except (AssertionError, ConnectionError):
                    pass  # its worker was killed
                except asyncio.TimeoutError as error:
                    raise AssertionError(f"{wire.received!r}\n{fleet.log}") from error
                wire.abort()

        clients = [asyncio.create_task(client(number)) for number in range(6)]
        done = fleet.attestor.received
        await fleet.eventually(lambda: sum(isinstance(m, messages.RecordReceipt) for m in done) > 20, 30)
        fleet.kill(chance.choice(fleet.worker_pids()))
        await asyncio.gather(*clients)
        fleet.gateway.tell(signal.SIGTERM)
        assert await fleet.gateway.ended() == 0, fleet.log
        assert "internal_error" not in fleet.log
        records: dict[str, list[int]] = {}
        for message in fleet.attestor.received:
            if isinstance(message, messages.RecordReceipt):
                records.setdefault(message.session, []).append(message.seq)
        assert len(records) >= 4
        for name, session in fleet.attestor.sessions.items():
            assert sorted(records[name]) == list(range(1, session.last_seq + 1))
            assert (session.open, session.closed) == (set(), True)


async def test_a_port_that_is_taken_is_not_shared(tmp_path: Path):
    async with Fleet(tmp_path, {}, BOOK):
        other = Processes(command(tmp_path / "rlu.toml"), tmp_path / "b.log")
        await other.start()
        assert await other.ended() == 2
        assert "cannot use" in (tmp_path / "b.log").read_text()


async def counted(fleet: Fleet, name: str, labels: str) -> float:
    text = await fleet.metrics()
    line = f"{name}{{{labels}}} " if labels else f"{name} "
    return sum(float(found.removeprefix(line)) for found in text.splitlines() if found.startswith(line))
