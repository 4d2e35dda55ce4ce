"""The two ends of the handing over of an encrypted model, in one process and one directory: turns, refusals, restarts of either."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sealed import SECRET, settings_of

from fakes.broker_room import BrokerRoom
from rlu_server.broker.errors import SealBroken
from rlu_server.broker.sealed_files import seal
from rlu_server.supervisor import handover
from rlu_server.supervisor.errors import ModelRefused, StartFailed, Unavailable
from rlu_server.supervisor.handover import ENGINE_FACTS, AskedWeights, Handover
from rlu_server.supervisor.runtime import Runtime
from rlu_server.supervisor.weights import SHARED, Weights
from waiting import until


class Volumes:
    """What both containers see, and the two ends."""

    def __init__(self, room: BrokerRoom, directory: Path) -> None:
        self.room = room
        self.runtime = Runtime(directory, mounted=False, given=True, shared=True)
        self.events: list[tuple[str, dict[str, Any]]] = []
        for name in (ENGINE_FACTS, SHARED):
            (directory / name).mkdir()

    @property
    def sealed(self) -> Path:
        return self.room.directory / "sealed"

    def engine(self, **changes: Any) -> AskedWeights:
        return AskedWeights(settings_of(self.room, **changes), self.runtime, self.sealed, 1)

    @contextlib.asynccontextmanager
    async def attestor(self, **changes: Any) -> AsyncIterator[None]:
        settings = settings_of(self.room, **changes)
        made = Handover(settings, self.runtime, [str(self.sealed)], lambda *told: self.events.append(told))
        running = asyncio.create_task(made.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def said(self, name: str) -> int:
        return sum(1 for event, _ in self.events if event == name)

    def weights(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.runtime.path / SHARED).glob("*/model.safetensors")]


@pytest.fixture
def volumes(room: BrokerRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Volumes:
    monkeypatch.setattr(handover, "LOOK_S", 0.02)
    (tmp_path / "run").mkdir()
    return Volumes(room, tmp_path / "run")


async def test_opened_for_a_turn_and_wiped_when_it_is_over(volumes: Volumes) -> None:
    engine = volumes.engine()
    async with volumes.attestor():
        for turn in (1, 2):
            await asyncio.to_thread(engine.hold)
            assert (engine.place / "model.safetensors").read_bytes() == SECRET
            await asyncio.to_thread(engine.let_go)
            await until(lambda turn=turn: volumes.said("weights.wiped") == turn, lambda: volumes.events)
            assert volumes.weights() == []
            assert (engine.place / "config.json").is_file(), "engines read it while they serve"
    assert [event for event, _ in volumes.room.told] == ["broker_released"] * 2


async def test_kept(volumes: Volumes) -> None:
    engine = volumes.engine(after_loading="keep")
    async with volumes.attestor(after_loading="keep"):
        for _ in range(2):
            await asyncio.to_thread(engine.hold)
            await asyncio.to_thread(engine.let_go)
        assert volumes.weights() == [SECRET]
        engine.close()
        # The engine's container ended: its word is gone, but what is kept is kept until ours ends.
    assert len(volumes.room.told) == 1


async def test_a_refusal_arrives_with_its_reason_and_the_next_turn_asks_again(volumes: Volumes) -> None:
    volumes.room.vault.revoke(volumes.room.key.kid, "leaked", 1)
    engine = volumes.engine()
    async with volumes.attestor():
        for _ in range(2):
            with pytest.raises(ModelRefused) as caught:
                await asyncio.to_thread(engine.hold)
            assert "this key is revoked: leaked [broker.key.revoked]" in str(caught.value)
        await until(lambda: volumes.said("weights.refused") == 2, lambda: volumes.events)
    assert volumes.weights() == []
    assert list((volumes.runtime.path / ENGINE_FACTS).iterdir()) == []


async def test_a_header_that_is_gone_a_moment_later_ends_nothing(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = volumes.engine()
    async with volumes.attestor():
        await asyncio.to_thread(engine.hold)
        await asyncio.to_thread(engine.let_go)
        await until(lambda: volumes.said("weights.wiped") == 1, lambda: volumes.events)
        read, times = handover.read_header, []

        def once(sealed: Path) -> Any:
            times.append(sealed)
            if len(times) > 1:
                raise SealBroken("weights.header", "it was replaced in between")
            return read(sealed)

        monkeypatch.setattr(handover, "read_header", once)
        holding = asyncio.ensure_future(asyncio.to_thread(engine.hold))
        try:
            await until(holding.done, lambda: volumes.events)
        finally:
            engine.abandon()
        assert holding.result() is None
        assert volumes.weights() == [SECRET]
        await asyncio.to_thread(engine.let_go)


async def test_another_model_than_the_attestor_sees_is_refused(volumes: Volumes) -> None:
    engine = volumes.engine()
    shutil.rmtree(volumes.sealed)
    (volumes.room.directory / "m" / "config.json").write_text('{"model_type": "other"}')
    seal(volumes.room.directory / "m", volumes.sealed, volumes.room.key.key, bytes(32))
    async with volumes.attestor():
        with pytest.raises(ModelRefused, match=r"sees another model; restart it \[weights.changed\]"):
            await asyncio.to_thread(engine.hold)
    assert volumes.room.told == [], "nobody was asked for its key"


async def test_an_attestor_that_is_started_again_opens_it_again(volumes: Volumes) -> None:
    engine = volumes.engine()
    async with volumes.attestor():
        await asyncio.to_thread(engine.hold)
    shutil.rmtree(volumes.runtime.path / SHARED)
    (volumes.runtime.path / SHARED).mkdir()
    async with volumes.attestor():
        await until(lambda: volumes.weights() == [SECRET], lambda: volumes.events)


async def test_an_engine_that_comes_back_has_a_turn_of_its_own(volumes: Volumes) -> None:
    """The word of the one that was killed is still there, and so is the answer to it."""
    async with volumes.attestor():
        await asyncio.to_thread(volumes.engine().hold)
        before = json.loads((volumes.runtime.path / SHARED / "weights1.json").read_text())
        engine = volumes.engine()
        await asyncio.to_thread(engine.hold)
        after = json.loads((volumes.runtime.path / SHARED / "weights1.json").read_text())
        assert before["turn"] != after["turn"]
        assert after["state"] == "open"
        assert volumes.weights() == [SECRET]
        # What is there for the turn before is taken over, not opened again.
        assert len(volumes.room.told) == 1
        await asyncio.to_thread(engine.let_go)
        await until(lambda: volumes.said("weights.wiped") == 1, lambda: volumes.events)
    assert volumes.weights() == []


async def test_what_this_machine_does_not_let_it_do_is_a_refusal_too(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(weights: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Weights, "_give_to_engine", full)
    async with volumes.attestor():
        with pytest.raises(Unavailable, match="could not be opened: weights: No space left"):
            await asyncio.to_thread(volumes.engine().hold)
    assert volumes.weights() == []


async def test_a_defect_is_told_and_a_refusal_and_the_next_turn_is_served(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits hears of it at once; it would wait for minutes, at each start again."""

    def defect(weights: Any) -> None:
        raise KeyError("code")

    engine = volumes.engine()
    async with volumes.attestor():
        with monkeypatch.context() as patch:
            patch.setattr(Weights, "_give_to_engine", defect)
            holding = asyncio.ensure_future(asyncio.to_thread(engine.hold))
            try:
                await until(holding.done, lambda: volumes.events)
            finally:
                engine.abandon()
            with pytest.raises(StartFailed, match="could not be opened: KeyError"):
                holding.result()
        assert volumes.weights() == []
        assert ("weights.failed", {"reason": "KeyError"}) in volumes.events
        engine.resume()
        await asyncio.to_thread(engine.hold)
        assert volumes.weights() == [SECRET]


async def test_weights_that_cannot_be_wiped_end_it(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the end of the container that wipes them then (`test_alone.py`)."""

    def broken(weights: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    engine = volumes.engine()
    made = Handover(settings_of(volumes.room), volumes.runtime, [str(volumes.sealed)], lambda *told: None)
    running = asyncio.create_task(made.run())
    await asyncio.to_thread(engine.hold)
    with monkeypatch.context() as patch:
        patch.setattr(Weights, "_wipe", broken)
        await asyncio.to_thread(engine.let_go)
        await until(running.done)
    with pytest.raises(OSError, match="Too many open files"):
        running.result()


async def test_nobody_opens(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "TAKEN_S", 0.0)
    with pytest.raises(Unavailable, match="the attestor's container has not begun"):
        await asyncio.to_thread(volumes.engine().hold)
    abandoned = volumes.engine()
    abandoned.abandon()
    with pytest.raises(StartFailed, match="the server is stopping"):
        await asyncio.to_thread(abandoned.hold)
    assert list((volumes.runtime.path / ENGINE_FACTS).iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "{}", '{"header": "x"}', '{"header":"x","turn":"y","path":"/etc"}', "x" * 20_000]
)
async def test_a_word_of_another_form_is_none(volumes: Volumes, text: str) -> None:
    (volumes.runtime.path / ENGINE_FACTS / "weights1.json").write_text(text)
    async with volumes.attestor():
        # A good one after it is served all the same.
        engine = volumes.engine()
        await asyncio.to_thread(engine.hold)
        assert len(volumes.room.told) == 1
