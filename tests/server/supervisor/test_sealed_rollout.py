"""Another version of an encrypted model while the server runs: opened beside the one that serves, switched to, or refused and forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from deployment import Up, running
from sealed import settings_of

from fakes import model_vendor, model_vendor_sealed
from fakes.broker_room import BrokerRoom
from rlu_server.broker.vault import ModelKey
from rlu_server.models import measure
from rlu_server.settings import Settings
from rlu_server.supervisor import prepare, rollout, weights
from rlu_server.supervisor.rollout import Rollout
from rlu_server.updates.job import Job
from rlu_server.updates.opening import source_of
from rlu_server.updates.store import Store
from waiting import until


class Site:
    """A store, and a vendor whose broker has a key for each version."""

    def __init__(self, room: BrokerRoom) -> None:
        self.room, self.home = room, room.directory
        document = settings_of(room).model_dump()
        document["model"].update(
            path=str(self.home / "store" / "current"),
            signature="required",
            signers=[model_vendor.public(self.home)],
        )
        document["update"].update(reserve_bytes=0)
        self.settings = Settings.model_validate(document)
        self.store = Store(self.home / "store")
        self.keys: dict[int, ModelKey] = {}
        self.update(1)

    def update(self, number: int) -> str:
        plain = model_vendor.make(self.home / f"plain-{number}", number, b"weights %d" % number)
        self.keys[number] = ModelKey(os.urandom(32), measure(plain).sha256, f"n{number}")
        self.room.vault.add(self.keys[number])
        offered = model_vendor_sealed.encrypt(plain, self.home / f"sealed-{number}", self.keys[number].key)
        update = self.settings.update.model_copy(update={"source": str(offered)})
        return Job(self.settings, lambda: source_of(update, lambda _: None)).update().version

    def rollout(self, up: Up) -> Rollout:
        def prepared(deployment: Any, directory: Path, opening: Any, progress: Any) -> Any:
            return prepare.with_model(deployment, up.place, directory, opening, progress)

        def told(*event: Any) -> None:
            up.events.append(event)

        return Rollout(up.server, self.store, prepared, told, contextlib.ExitStack())


@pytest.fixture
def site(room: BrokerRoom, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(rollout, "CHECK_S", 0.05)
    return Site(room)


def places(up: Up) -> list[Path]:
    return list(up.place.path.glob("weights*"))


async def test_switched_refused_and_stopped(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(site.home, site.settings) as up:
        watching = asyncio.create_task(site.rollout(up).run())
        try:
            [first] = places(up)
            assert (await up.ask())[0] == 200
            await asyncio.to_thread(site.update, 2)
            await until(lambda: up.said("model.switched"), lambda: up.events)
            assert (await up.ask())[0] == 200
            assert up.server.deployment.manifest_sha256 == site.keys[2].manifest
            # The old one's files are gone, the new one's weights too, now that engines have loaded them.
            [second] = places(up)
            assert second != first
            await until(lambda: up.said("weights.wiped") == 2, lambda: up.events)
            assert not list(second.glob("*.safetensors"))

            # A version whose key is not released: what serves goes on, and nothing of the other stays.
            site.room.vault.revoke(site.keys[1].kid, "leaked", 1)
            job = Job(site.settings, lambda: source_of(site.settings.update, lambda _: None))
            await asyncio.to_thread(job.rollback, None)
            await until(lambda: up.said("model.refused"), lambda: up.events)
            assert (await up.ask())[0] == 200
            assert places(up) == [second]
            assert up.said("model.switching") == 1

            # Told to stop while another is being opened, it ends that at once.
            began = site.home / "began"
            wait = f"import signal, pathlib; pathlib.Path({str(began)!r}).touch(); signal.sigwait([signal.SIGTERM])"
            monkeypatch.setattr(weights, "JOB", (sys.executable, "-c", wait))
            await asyncio.to_thread(site.update, 3)
            await until(began.exists, lambda: up.events)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await until(lambda: places(up) == [second], lambda: [up.events, places(up)])


async def test_one_that_does_not_start_gives_way_to_the_old_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights were wiped when it had loaded, so that the broker is asked for the old one again."""
    healthy = prepare.readiness.wait_healthy

    async def unfit_once(socket: Path) -> None:
        monkeypatch.setattr(prepare.readiness, "wait_healthy", healthy)
        raise prepare.readiness.EngineUnfit("out of memory")

    async with running(site.home, site.settings) as up:
        watching = asyncio.create_task(site.rollout(up).run())
        try:
            before = places(up)
            monkeypatch.setattr(prepare.readiness, "wait_healthy", unfit_once)
            await asyncio.to_thread(site.update, 2)
            await until(lambda: up.said("model.switch_failed"), lambda: up.events)
            await until(lambda: up.said("gateway_ready") == 2, lambda: up.events)
            assert (await up.ask())[0] == 200
            assert up.server.deployment.manifest_sha256 == site.keys[1].manifest
            assert places(up) == before
            assert [event for event, _ in site.room.told] == ["broker_released"] * 3
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
