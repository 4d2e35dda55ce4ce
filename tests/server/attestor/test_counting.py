"""Tallies of a running attestor: every entry counted once, across batches, failures, segments and starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fakes.attestor_process import AttestorProcess
from fakes.attestor_room import Room, running_room
from rlu_attestation.encoding import unb64u
from rlu_attestation.log.tally import Tally
from rlu_attestation.merkle import leaf_hash
from rlu_server.attestor import composition, facts, messages
from rlu_server.attestor.counting import Counting
from rlu_server.attestor.journal import Journal
from rlu_server.attestor.ledger import Ledger
from rlu_server.attestor.tiles import TiledTree
from waiting import until


def tallies(lines: list[dict[str, Any]]) -> list[Tally]:
    """In the log, each under its leaf, each beginning where the one before ended."""
    found = []
    for line in lines:
        statement = unb64u(line["statement"])
        assert leaf_hash(statement) == unb64u(line["leaf"])
        tally = Tally.parse(statement)
        assert tally.next == line["index"]
        before = found[-1] if found else None
        assert (tally.number, tally.first) == (
            (1, 0) if before is None else (before.number + 1, before.next + 1)
        )
        assert tally.since == (None if before is None else before.issued_at)
        found.append(tally)
    return found


def begin(room: Room) -> None:
    room.ledger.counting.begin(lambda: room.attesting.key, room.now, b"p" * 32)


async def tally(room: Room, number: int) -> Tally:
    """An hour later there are so many."""
    room.now += 3600
    room.server.attestor.count()  # as the clock does each second
    # The log has it a moment before it counts as logged.
    await until(lambda: room.ledger.counting.snapshot().number >= number, room.stream.getvalue)
    return tallies(room.lines("tally"))[number - 1]


async def test_what_happened_is_counted(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        begin(room)
        gateway = await room.greeted()
        opened = await gateway.open(ttl_s=90_000)
        await gateway.open(ttl_s=90_000)
        await gateway.record(opened.session, await gateway.begin(opened.session))
        await gateway.close_session(opened.session)
        await gateway.ask(messages.Attest(id=gateway.next_id(), nonce=b"n" * 16), messages.Attestation)
        first = await tally(room, 1)
        (profile,) = first.profiles
        assert (first.sessions, first.closes, first.receipts["complete"]) == (2, 1, 1)
        assert (profile.sessions, profile.renewed, profile.asked) == (2, 1, 1)
        assert profile.stated is not None
        assert (profile.stated.region, profile.stated.hardware, profile.stated.models) == (
            "eu-central-1",
            "cpu",
            ("demo",),
        )
        assert (first.key_hardware, first.policy, first.refused) == ("none", b"p" * 32, {})

        room.server.roster.drift = "policy.pcrs"
        room.ledger.counting.drifted("policy.pcrs")
        answer = await gateway.answer(gateway.send(gateway.opening()))
        assert isinstance(answer, messages.Failure)
        second = await tally(room, 2)
        assert (second.refused, second.drift) == ({"drift": 1}, {"policy.pcrs": 1})
        assert (second.sessions, second.first, second.next) == (0, 5, 5)
        third = await tally(room, 3)
        assert (third.refused, third.drift) == ({}, {})


async def test_a_tally_that_could_not_be_signed_is_made_again(tmp_path: Path) -> None:
    async with running_room(tmp_path) as room:
        begin(room)
        gateway = await room.greeted()
        await gateway.open(ttl_s=90_000)
        room.scripted.failing = True
        room.now += 3600
        await until(lambda: "signer.failed" in room.event_names(), room.stream.getvalue)
        room.scripted.failing = False
        await until(lambda: room.lines("tally"), room.stream.getvalue)
        await gateway.open(ttl_s=90_000)
        second = await tally(room, 2)
        assert (second.sessions, second.profiles[0].sessions) == (1, 1)


async def test_segments_carry_what_was_counted(tmp_path: Path) -> None:
    """A log read back from its last segment goes on counting where the tally before ended."""
    async with running_room(tmp_path, segment_leaves=4) as room:
        begin(room)
        gateway = await room.greeted()
        for _ in range(3):
            await gateway.open(ttl_s=90_000)
        room.now += 3600
        room.server.attestor.count()
        await until(lambda: room.ledger.counting.snapshot().number == 1, room.stream.getvalue)
        for _ in range(5):
            await gateway.open(ttl_s=90_000)
        await until(lambda: room.journal.sealed == 8, room.stream.getvalue)
        profile = room.attesting.profile(_hello(room))
        jwk = room.attesting.jwk
    journal = Journal(room.deployment.state / "log", room.issuer, jwk)
    try:
        again = Ledger(room.issuer, bytes, b"b" * 32, TiledTree(journal.tiles, journal.sealed))
        for batch in journal.batches:
            again.replay(batch)
        again.counting.begin(lambda: room.attesting.key, room.now, None)
        assert again.counting.last_is_due(again.signed_size)
        found = again.counting.tally(again.stamp(room.now), again.tree.size, [])
    finally:
        journal.close()
    assert (found.number, found.first, found.next, found.sessions) == (2, 4, 9, 5)
    assert [(one.profile, one.sessions) for one in found.profiles] == [(profile, 5)]


def _hello(room: Room) -> messages.Hello:
    (gateway,) = room.server.gateways
    assert gateway.hello is not None
    return gateway.hello


@pytest.mark.tpm
async def test_a_stop_leaves_nothing_uncounted(attestor_process: AttestorProcess) -> None:
    gateway = await attestor_process.connect()
    await gateway.hello()
    opened = await gateway.open()
    attestor_process.stop()
    attestor_process.start()
    gateway = await attestor_process.connect()
    await gateway.hello()
    await gateway.close_session(opened.session)
    attestor_process.stop()
    lines = [json.loads(line) for line in attestor_process.deployment.log.read_text().splitlines()]
    first, second = tallies([line for line in lines if line["kind"] == "tally"])
    assert (first.sessions, first.closes, second.sessions, second.closes) == (1, 0, 0, 1)
    assert (first.start_count + 1, first.key_hardware) == (second.start_count, "tpm2")
    assert [line["kind"] for line in lines[-2:]] == ["tally", "head"]
    attestor_process.start()  # the fixture stops it


async def test_leaves_that_cannot_be_counted_stop_the_tallies_and_nothing_else(tmp_path: Path) -> None:
    """What is kept beside sealed leaves was damaged on the disk."""
    async with running_room(tmp_path, segment_leaves=256) as room:
        gateway = await room.greeted()
        for _ in range(257):
            await gateway.open(ttl_s=90_000)
        await until(lambda: room.journal.sealed == 256, room.stream.getvalue)
        meta = room.journal.tiles / "meta.bin"
        meta.write_bytes(b"\x09" + meta.read_bytes()[1:])
        begin(room)
        room.now += 3600
        room.server.attestor.count()
        await until(lambda: "log.tally_failed" in room.event_names(), room.stream.getvalue)
        assert room.lines("tally") == []
        assert '"code":"statement.claims"' in room.stream.getvalue().replace(" ", "")
        await gateway.open(ttl_s=90_000)
        room.server.attestor.count(last=True)
        assert room.event_names().count("log.tally_failed") == 1


async def test_files_that_are_gone_stop_the_tallies_too(tmp_path: Path) -> None:
    async with running_room(tmp_path, segment_leaves=256) as room:
        gateway = await room.greeted()
        for _ in range(257):
            await gateway.open(ttl_s=90_000)
        await until(lambda: room.journal.sealed == 256, room.stream.getvalue)
        (room.journal.tiles / "meta.bin").unlink()
        begin(room)
        room.now += 3600
        room.server.attestor.count()
        assert '"code":"log.damaged"' in room.stream.getvalue().replace(" ", "")
        await gateway.open(ttl_s=90_000)


def test_a_code_that_a_tally_cannot_hold_is_other() -> None:
    counting = Counting(TiledTree())
    for code in ("drift", "A sentence.", "x" * 65, *(f"c{n}" for n in range(100))):
        counting.refused(code)
    counting.begin(lambda: facts.Key({}, "none", 0, 1, None), 0, None)
    made = counting.tally(composition.Stamp("urn:rlu:instance:x", 5, bytes(16)), 0, [])
    assert made is not None
    assert Tally.parse(made.encode()).refused == made.refused
    assert (len(made.refused), made.refused["drift"], sum(made.refused.values())) == (63, 1, 103)
