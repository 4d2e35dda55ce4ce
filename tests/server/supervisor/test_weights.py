"""A sealed model under the supervisor: opened into memory for the engines, served, wiped, opened again for a restart, or refused.

The broker is real and on loopback; the machine is a fake SEV-SNP guest to it. The attestor beside has a software key, since no test machine
is one, so that the supervisor's own look at its settings is left out.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployment import running
from sealed import SECRET, settings_of

from fakes.broker_room import BrokerRoom
from rlu_server.broker import asking
from rlu_server.broker.sealed_files import seal
from rlu_server.models import measure
from rlu_server.supervisor import prepare, runtime, weights
from rlu_server.supervisor.errors import Misconfigured, ModelRefused, ServeError, Unavailable
from rlu_server.supervisor.runtime import Runtime
from rlu_server.supervisor.weights import Weights


@pytest.fixture
def place() -> Iterator[Runtime]:
    made = runtime.create(None)
    yield made
    made.remove()


def opened(place: Runtime) -> list[Path]:
    return sorted(place.path.glob("weights*/*"))


async def test_served_and_wiped_and_opened_again_until_revoked(room: BrokerRoom) -> None:
    async with running(room.directory, settings_of(room)) as up:

        async def kill() -> None:
            child = up.server.engines.services[0].child
            assert child is not None
            os.kill(child.pid, signal.SIGKILL)

        assert (await up.ask())[0] == 200
        await up.until(lambda: up.said("weights.wiped") == 1, 60)
        assert [path.name for path in opened(up.place)] == ["config.json"]
        assert ("weights.wiped", {"files": 1, "in_use": 0}) in up.events
        assert up.deployment.manifest_sha256 == measure(room.directory / "m").sha256

        await kill()
        await up.until(lambda: up.said("engine.ready") == 2, 60)
        await up.until(lambda: up.said("weights.wiped") == 2, 60)
        assert (await up.ask())[0] == 200
        assert [event for event, _ in room.told] == ["broker_released"] * 2

        room.vault.revoke(room.key.kid, "leaked", 1)
        await kill()
        await up.until(lambda: up.said("engine.start_failed") >= 1, 60)
        assert ("weights.refused", {"code": "broker.key.revoked"}) in up.events
        assert [path.name for path in opened(up.place)] == ["config.json"]
        path = up.place.path
    assert not path.exists()
    on_disk = [path for path in room.directory.rglob("*") if path.is_file() and path.parent.name != "m"]
    assert not [path for path in on_disk if SECRET[:64] in path.read_bytes()]


def refused(room: BrokerRoom, place: Runtime, **changes: Any) -> ServeError:
    with pytest.raises(ServeError) as caught:
        prepare.deployment(settings_of(room, **changes), place, {}, None)
    assert opened(place) == []
    return caught.value


def test_a_broker_that_refuses(room: BrokerRoom, place: Runtime) -> None:
    room.vault.revoke(room.key.kid, "leaked", 1)
    error = refused(room, place)
    assert isinstance(error, ModelRefused)
    assert "this key is revoked: leaked [broker.key.revoked]" in str(error)


def test_a_broker_that_is_away(room: BrokerRoom, place: Runtime) -> None:
    error = refused(room, place, broker="http://127.0.0.1:9")
    assert isinstance(error, Unavailable)
    assert "[relay.unreachable]" in str(error)


def test_damaged_weights(room: BrokerRoom, place: Runtime) -> None:
    """Nothing of what opened before the damage stays."""
    file = room.directory / "sealed" / "model.safetensors.sealed"
    file.write_bytes(file.read_bytes()[:-1] + b"\0\0"[:1])
    error = refused(room, place)
    assert isinstance(error, ModelRefused)
    assert "[weights.chunk]" in str(error)


def test_without_room(room: BrokerRoom, place: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_available", lambda: 1 << 20)
    error = refused(room, place)
    assert isinstance(error, Unavailable)
    assert "[weights.memory]" in str(error)
    assert room.told == []


def test_this_machine_is_looked_at_first(
    room: BrokerRoom, place: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "check", asking.check)
    error = refused(room, place)
    assert isinstance(error, ModelRefused)
    assert "a software key speaks for no hardware" in str(error)
    assert "[broker.hardware]" in str(error)
    assert isinstance(refused(room, place, broker=""), Misconfigured)
    assert room.told == []


def weights_of(room: BrokerRoom, place: Runtime, **changes: Any) -> Weights:
    return Weights(settings_of(room, **changes), place, room.directory / "sealed", 1, None)


def test_kept(room: BrokerRoom, place: Runtime) -> None:
    held = weights_of(room, place, after_loading="keep")
    for _ in range(2):
        held.hold()
        held.let_go()
    assert (held.place / "model.safetensors").read_bytes() == SECRET
    assert len(room.told) == 1


def test_held_by_several(room: BrokerRoom, place: Runtime) -> None:
    held = weights_of(room, place)
    held.hold()
    held.hold()
    held.let_go()
    assert (held.place / "model.safetensors").read_bytes() == SECRET
    held.let_go()
    assert not (held.place / "model.safetensors").exists()
    assert len(room.told) == 1


def test_held_by_one_start_after_another(room: BrokerRoom, place: Runtime) -> None:
    """What was opened to decide on the first is not opened again for it; a later one, as after a switch of models, is on its own."""
    held = weights_of(room, place)
    held.decide()
    for opened_so_far in (1, 2):
        held.begin()
        assert (held.place / "model.safetensors").read_bytes() == SECRET
        held.let_go()
        assert not (held.place / "model.safetensors").exists()
        assert len(room.told) == opened_so_far


def test_what_is_mapped_is_not_overwritten(room: BrokerRoom, place: Runtime) -> None:
    held = weights_of(room, place)
    events: list[tuple[str, dict[str, str | int]]] = []
    held.on_event = lambda *told: events.append(told)
    held.hold()
    with (held.place / "model.safetensors").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    held.let_go()
    assert mapped[: len(SECRET)] == SECRET
    assert not (held.place / "model.safetensors").exists()
    assert events[-1] == ("weights.wiped", {"files": 1, "in_use": 1})
    mapped.close()


def test_what_nobody_has_is_overwritten(
    room: BrokerRoom, place: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = weights_of(room, place)
    held.hold()
    seen: list[bytes] = []
    genuine = weights.overwrite

    def looked(handle: int) -> None:
        genuine(handle)
        seen.append(os.pread(handle, 1 << 20, 0))

    monkeypatch.setattr(weights, "overwrite", looked)
    held.let_go()
    assert seen == [bytes(len(SECRET))]


async def test_a_start_that_is_cancelled_lets_go(room: BrokerRoom, place: Runtime) -> None:
    held = weights_of(room, place)
    events: list[str] = []
    held.on_event = lambda name, values: events.append(name)

    async def start() -> None:
        async with held.held():
            await asyncio.Event().wait()

    starting = asyncio.create_task(start())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    deadline = time.monotonic() + 60
    while events != ["weights.opened", "weights.wiped"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert not (held.place / "model.safetensors").exists()


def test_a_server_that_stops_ends_the_job(
    room: BrokerRoom, place: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        weights, "JOB", (sys.executable, "-c", "import signal; signal.sigwait([signal.SIGTERM])")
    )
    held = weights_of(room, place)
    failed: list[BaseException] = []

    def hold() -> None:
        try:
            held.hold()
        except ServeError as error:
            failed.append(error)

    thread = threading.Thread(target=hold)
    thread.start()
    deadline = time.monotonic() + 60
    while held._job is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    held.abandon()
    thread.join(60)
    assert not thread.is_alive()
    assert "ended with status -9" in str(failed[0])


def test_another_model_meanwhile(room: BrokerRoom, place: Runtime, tmp_path: Path) -> None:
    """What lies there is not what this server decided to start with."""
    held = weights_of(room, place)
    os.rename(tmp_path / "sealed", tmp_path / "before")
    (tmp_path / "m" / "config.json").write_text('{"model_type": "other"}')
    seal(tmp_path / "m", tmp_path / "sealed", room.key.key, bytes(32))
    with pytest.raises(ModelRefused) as caught:
        held.hold()
    assert "[broker.model.other]" in str(caught.value)
    assert opened(place) == []
