"""Rotation in moments seldom met: told to end while keys change, crashed, or somebody still waits for the old key."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fakes.attestor_room import Room
from rlu_server.attestor import asking, messages, rotation
from rlu_server.attestor.instances import Instances
from rlu_server.attestor.journal import Journal
from rlu_server.attestor.platform import Evidence
from rlu_server.attestor.rotation import Rotation
from rlu_server.attestor.slots import FileSlots
from rlu_server.settings import load
from waiting import PATIENCE_S, until


class Gated:
    """A collector that keeps its calls waiting from a number on."""

    kind = "gated"

    def __init__(self) -> None:
        self.calls = 0
        self.waits = frozenset[int]()
        """Numbers of the calls that wait at `gate`."""
        self.waiting = 0
        self.gate = threading.Event()

    def collect(self, root: bytes) -> Evidence:
        self.calls += 1
        if self.calls in self.waits:
            self.waiting += 1
            assert self.gate.wait(PATIENCE_S)
        return lambda proof: b"evidence"


class Rotating:
    """A room whose instances a rotation keeps going."""

    def __init__(self, directory: Path) -> None:
        self.collector = Gated()
        self.room = room = Room(directory, collectors=(self.collector,))
        state = room.deployment.state
        settings = load(
            None, {}, {"state_dir": str(state), "attestation": {"insecure_software_key": True, "rotate_days": 0}}
        )  # fmt: skip
        room.ledger.counting.begin(lambda: room.attesting.key, room.now, None)
        self.instances = Instances(
            settings,
            room.deployment.runtime / "facts",
            None,
            (self.collector,),
            lambda: room.now,
            room.events,
        )
        slots = FileSlots(state / "attestation", state / "attestation" / "key.pem")
        self.rotation = Rotation(
            room.server, self.instances, slots, settings.attestation, lambda: room.now, room.events
        )

    def journals(self) -> set[Journal]:
        """Those that are open."""
        return {going.instance.committer.journal for going in self.rotation._going.values()}

    async def drained(self) -> None:
        """It ends, and does not wait for what nobody will bring."""
        draining = asyncio.create_task(self.rotation.drain())
        done, _ = await asyncio.wait((draining,), timeout=PATIENCE_S)
        draining.cancel()
        assert done, "it did not end"


@asynccontextmanager
async def rotating(directory: Path) -> AsyncIterator[Rotating]:
    it = Rotating(directory)
    await it.room.committer.sign_head()
    await it.room.server.start()
    try:
        yield it
    finally:
        it.collector.gate.set()
        it.room.server.stop_listening()
        await it.room.server.close_connections()
        await it.drained()
        it.room.committer.close()
        for journal in it.journals():
            journal.close()


async def test_told_to_end_before_every_gateway_has_its_welcome(tmp_path: Path) -> None:
    """The new instance signs already, and is not the current one yet."""
    async with rotating(tmp_path) as it:
        gateway = await it.room.greeted()
        it.collector.waits = frozenset({it.collector.calls + 2})  # the first is the new key's trial
        turning = asyncio.create_task(it.rotation.rotate())
        await until(lambda: it.collector.waiting)
        assert it.room.server.roster.leaving is None
        turning.cancel()
        await asyncio.gather(turning, return_exceptions=True)
        await it.drained()
        it.collector.gate.set()
        assert (await gateway.head()).tree_size == 0  # nothing had been taken from the old one


async def test_told_to_end_while_the_old_log_is_ended(tmp_path: Path) -> None:
    """Its last tally is being signed: it is signed before we end."""
    async with rotating(tmp_path) as it:
        gateway = await it.room.greeted()
        session = (await gateway.open()).session
        await it.rotation.rotate()
        await gateway.close_session(session)
        old = it.room.server.roster.leaving
        assert old is not None
        await until(lambda: old.committer.idle)
        it.room.scripted.gate.clear()
        looking = asyncio.create_task(it.rotation._look())
        await until(lambda: old.committer._busy)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        draining = asyncio.create_task(it.rotation.drain())
        await asyncio.sleep(0)
        it.room.scripted.gate.set()
        await draining
        text = old.committer.journal._path.read_text().splitlines()
        assert [json.loads(line)["kind"] for line in text][-2:] == ["tally", "head"]


@pytest.mark.parametrize("failing", [False, True])
async def test_told_to_end_while_a_tally_is_being_signed(tmp_path: Path, failing: bool) -> None:
    """What came behind it is counted too; and where it cannot be signed, the end does not wait for it."""
    async with rotating(tmp_path) as it:
        gateway = await it.room.greeted()
        await gateway.open()
        it.room.now += 3600
        it.room.scripted.gate.clear()
        it.room.server.attestor.count()
        await until(lambda: it.room.committer._busy)
        late = [gateway.send(gateway.opening()) for _ in range(2)]
        await until(lambda: it.room.committer.waiting == len(late))
        it.room.server.stop_listening()
        it.room.scripted.failing = failing
        draining = asyncio.create_task(it.drained())
        await asyncio.sleep(0)
        it.room.scripted.gate.set()
        await draining
        kinds = [json.loads(line)["kind"] for line in it.room.journal._path.read_text().splitlines()]
        answers = [await gateway.answer(request) for request in late]
    if failing:
        assert kinds[-2:] == ["session", "head"]
        assert {answer.code for answer in answers if isinstance(answer, messages.Failure)} == {
            "signer_unavailable"
        }
    else:
        assert kinds[-7:] == ["tally", "head", "session", "session", "head", "tally", "head"]


async def test_an_answer_that_cannot_be_written_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given as soon as there is room for it."""
    monkeypatch.setattr(rotation, "LOOK_S", 0.01)
    async with rotating(tmp_path) as it:
        directory = it.room.deployment.state / "attestation"
        asked = asking.Asked("retire", "a")
        asking.ask(directory, asked)
        (directory / "answered.json").mkdir()  # no room
        running = asyncio.create_task(it.rotation.run())
        await until(lambda: "log.write_failed" in it.room.event_names() or running.done())
        assert isinstance(await (await it.room.greeted()).open(), messages.SessionOpened)
        assert not running.done()
        (directory / "answered.json").rmdir()
        found: list[asking.Outcome | None] = []
        await until(lambda: found.append(asking.answered(directory, asked)) or found[-1])
        assert found[-1] is not None
        assert found[-1].code == "rotation.none"
        assert it.room.event_names().count("log.write_failed") == 1, "told once"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_key_that_cannot_be_forgotten_yet_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is needed for the next rotation, which waits until it is free."""
    monkeypatch.setattr(rotation, "LOOK_S", 0.01)
    async with rotating(tmp_path) as it:
        obstacle = it.room.deployment.state / "attestation" / "key.previous.pem"
        obstacle.mkdir()
        running = asyncio.create_task(it.rotation.run())
        await it.rotation.rotate()
        await until(lambda: "key.retired" in it.room.event_names() or running.done())
        assert "key.removal_failed" in it.room.event_names()
        with pytest.raises(IsADirectoryError):
            await it.rotation.rotate()
        assert isinstance(await (await it.room.greeted()).open(), messages.SessionOpened)
        obstacle.rmdir()
        await it.rotation.rotate()
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_who_waits_for_a_statement_of_the_old_key_gets_it_before_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "LOOK_S", 0.01)
    async with rotating(tmp_path) as it:
        gateway = await it.room.greeted()
        it.collector.waits = frozenset({it.collector.calls + 1})
        asked = gateway.send(messages.Attest(id=gateway.next_id(), nonce=b"n" * 16))
        await until(lambda: it.collector.waiting)
        await it.rotation.rotate()
        looks = 0
        look = it.rotation._look

        async def counted() -> None:
            nonlocal looks
            looks += 1
            await look()

        monkeypatch.setattr(it.rotation, "_look", counted)
        running = asyncio.create_task(it.rotation.run())
        await until(lambda: looks >= 3)
        it.collector.gate.set()
        assert isinstance(await gateway.answer(asked), messages.Attestation)
        await until(lambda: "key.retired" in it.room.event_names())
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_the_start_is_in_the_old_log_before_it_counts_as_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the old log looks like a restored copy after a crash in between, and nothing starts any more."""
    known: list[bool] = []
    started = Journal.started
    async with rotating(tmp_path) as it:
        old = it.room.journal

        def noted(journal: Journal) -> None:
            lines = map(json.loads, old._path.read_text().split("\n")[:-1])
            known.append(any(line["kind"] == "start" for line in lines))
            started(journal)

        monkeypatch.setattr(Journal, "started", noted)
        await it.rotation.rotate()
    assert known == [True]
