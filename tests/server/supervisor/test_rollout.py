"""Another version of the model while the server runs: drained, stated, served; refused or failed, the old one stays."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from deployment import Up, make_settings, running

from fakes import model_vendor
from rlu_attestation import canonical, jose
from rlu_attestation.encoding import b64u
from rlu_server.engine import readiness
from rlu_server.models import measure
from rlu_server.settings import Settings
from rlu_server.supervisor import prepare, rollout
from rlu_server.supervisor.errors import StartFailed
from rlu_server.supervisor.rollout import Rollout, store_of
from rlu_server.updates.errors import UpdateRefused
from rlu_server.updates.job import Job
from rlu_server.updates.opening import source_of
from rlu_server.updates.store import Entry, State, Store
from waiting import PATIENCE_S, until


class Site:
    """A store with one version, and a vendor who has others."""

    def __init__(self, home: Path) -> None:
        self.home = home
        document = make_settings(home).model_dump()
        document["model"].update(
            path=str(home / "store" / "current"),
            name="m",
            signature="required",
            signers=[model_vendor.public(home)],
        )
        document["update"].update(reserve_bytes=0)
        self.settings = Settings.model_validate(document)
        self.store = Store(home / "store")
        self.versions = {1: self.update(1)}
        self.read = 0
        """How often it was asked, while a version was read, whether it is still wanted."""

    def update(self, number: int, *, altered: bool = False) -> str:
        offered = model_vendor.make(self.home / f"offered-{number}", number, b"weights %d" % number)
        if altered:
            (offered / "config.json").write_text("{}")
        update = self.settings.update.model_copy(update={"source": str(offered)})
        return Job(self.settings, lambda: source_of(update, lambda _: None)).update().version

    def manifest(self, number: int) -> str:
        return b64u(measure(self.store.directory(self.versions[number])).sha256)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[tuple[Up, asyncio.Task[None]]]:
        async with running(self.home, self.settings) as up:
            store = store_of(self.settings.model.path)
            assert store == self.store

            def prepared(deployment: Any, directory: Path, opening: Any, progress: Any) -> Any:
                def read(count: int, total: int) -> None:
                    progress(count, total)
                    self.read += 1

                return prepare.with_model(deployment, up.place, directory, opening, read)

            def told(name: str, values: Any) -> None:
                up.events.append((name, values))

            with contextlib.ExitStack() as held:
                rollout.pinned(self.settings, held)
                task = Rollout(up.server, self.store, prepared, told, held).run()
                watching = asyncio.create_task(task)
                try:
                    yield up, watching
                finally:
                    watching.cancel()
                    await asyncio.gather(watching, return_exceptions=True)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(rollout, "CHECK_S", 0.05)
    return Site(tmp_path)


async def stated(up: Up) -> dict[str, Any]:
    _, attestation, _ = await up.call("GET", f"/v1/rlu/attestation?nonce={b64u(bytes(32))}")
    found: dict[str, Any] = canonical.decode(jose.jws_parse(attestation["attestation"]["statement"]).payload)
    return found


async def test_served_stated_refused_and_back(site: Site) -> None:
    async with site.serving() as (up, _):
        status, _, headers = await up.ask()
        assert status == 200
        before = await stated(up)
        assert before["rlu_model"]["manifest_sha256"] == site.manifest(1)

        site.versions[2] = await asyncio.to_thread(site.update, 2)
        await until(lambda: up.said("model.switched") == 1, lambda: up.events)
        assert site.read
        after = await stated(up)
        assert after["rlu_model"]["manifest_sha256"] == site.manifest(2)
        assert after["rlu_engine"] == before["rlu_engine"], "where a version lies is not stated"
        assert after["cnf"] == before["cnf"], "the attestor and its key stay"
        # Sessions of the old model were closed; a conversation that goes on gets another.
        assert (await up.ask(headers["rlu-session"]))[0] in (404, 410)
        status, _, later = await up.ask()
        assert status == 200
        assert later["rlu-session"] != headers["rlu-session"]

        # An update that fails is told, and changes nothing.
        with pytest.raises(UpdateRefused):
            await asyncio.to_thread(site.update, 3, altered=True)
        await until(lambda: up.said("model.update_failed"), lambda: up.events)
        assert dict(up.events)["model.update_failed"] == {"code": "update.tampered"}

        # A version that was altered here is refused, whoever moved the link.
        assert up.server.engine.child is not None
        pid = up.server.engine.child.pid
        bad = site.store.directory(site.versions[2]).with_name("000009-0123456789abcdef")
        shutil.copytree(site.store.directory(site.versions[1]), bad)
        (bad / "config.json").write_text("{}")
        site.store.switch(bad.name)
        await until(lambda: up.said("model.refused"), lambda: up.events)
        refused = {"version": bad.name, "code": "serve.model_refused"}
        assert dict(up.events)["model.refused"] == refused
        assert (await up.ask(later["rlu-session"]))[0] == 200
        assert up.server.engine.child.pid == pid
        assert up.said("model.switching") == 1
        site.store.switch(site.versions[2])

        job = Job(site.settings, lambda: source_of(site.settings.update, lambda _: None))
        await asyncio.to_thread(job.rollback, None)
        await until(lambda: up.said("model.switched") == 2, lambda: up.events)
        assert (await stated(up))["rlu_model"]["manifest_sha256"] == site.manifest(1)
        assert (await up.ask())[0] == 200


async def test_one_that_does_not_start_gives_way_to_the_old_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = readiness.wait_healthy

    async def unfit_once(socket: Path) -> None:
        monkeypatch.setattr(readiness, "wait_healthy", healthy)
        raise readiness.EngineUnfit("out of memory")

    async def unfit(socket: Path) -> None:
        raise readiness.EngineUnfit("the GPU is gone")

    async with site.serving() as (up, watching):
        monkeypatch.setattr(readiness, "wait_healthy", unfit_once)
        second = await asyncio.to_thread(site.update, 2)
        await until(lambda: up.said("model.switch_failed"), lambda: up.events)
        failed = {"version": second, "code": "serve.start_failed"}
        assert dict(up.events)["model.switch_failed"] == failed
        await until(lambda: up.said("gateway_ready") == 2, lambda: up.events)
        assert (await stated(up))["rlu_model"]["manifest_sha256"] == site.manifest(1)
        assert (await up.ask())[0] == 200
        assert site.store.current() == site.versions[1], "the next start serves it too"
        attempt = site.store.state().attempt
        assert attempt is not None
        assert (attempt.result, attempt.version, attempt.code) == ("failed", *failed.values())

        # The same where the link cannot be put back.
        monkeypatch.setattr(readiness, "wait_healthy", unfit_once)
        third = await asyncio.to_thread(site.update, 3)
        with site.store.locked():
            await until(lambda: up.said("model.link_stays"), lambda: up.events)
        assert dict(up.events)["model.link_stays"] == {"version": third, "code": "update.busy"}
        await until(lambda: up.said("gateway_ready") == 3, lambda: up.events)
        assert up.said("model.switching") == 2, "it is not tried again and again"

        # And where not even the old one starts.
        monkeypatch.setattr(readiness, "wait_healthy", unfit)
        await asyncio.to_thread(site.update, 4)
        assert site.versions[1] in site.store.versions(), "what is served is not removed, however old"
        with pytest.raises(StartFailed, match="the GPU is gone"):
            await asyncio.wait_for(watching, PATIENCE_S)
        assert up.said("model.switched") == 0


def test_a_path_that_is_no_link_is_not_watched(tmp_path: Path) -> None:
    (tmp_path / "current").mkdir()
    assert store_of(str(tmp_path / "current")) is None
    (tmp_path / "other").symlink_to("current")
    assert store_of(str(tmp_path / "other")) is None


class Serving:
    """A server as the rollout sees it."""

    def __init__(self, directory: Path) -> None:
        self.deployment = self.of(directory)

    @staticmethod
    def of(directory: Path) -> Any:
        settings = SimpleNamespace(model=SimpleNamespace(path=str(directory)))
        return SimpleNamespace(settings=settings, served=[SimpleNamespace(weights=None)])

    async def replace(self, deployment: Any) -> None:
        self.deployment = deployment


async def test_a_version_is_not_removed_from_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "CHECK_S", 0.01)
    store = Store(tmp_path)
    first, second, third = (f"00000{number}-{'0' * 16}" for number in range(3))
    for version in (first, second, third):
        store.directory(version).mkdir(parents=True)
    store.switch(first)
    state = State(history=[Entry(0, version, "applied") for version in (first, second, third)])
    events: list[str] = []
    there: list[frozenset[str]] = []

    def prepared(deployment: Any, directory: Path, opening: Any, progress: Any) -> Any:
        if directory.name == third:
            raise StartFailed("not this one")
        store.switch(third)
        store.prune(0, state)
        there.append(store.versions())
        return Serving.of(directory)

    server: Any = Serving(store.directory(first))
    settings = Settings.model_validate({"model": {"path": str(tmp_path / "current")}})
    with contextlib.ExitStack() as held:
        rollout.pinned(settings, held)
        rolling = Rollout(server, store, prepared, lambda name, _: events.append(name), held).run()
        watching = asyncio.create_task(rolling)
        try:
            store.switch(second)
            await until(lambda: "model.refused" in events, lambda: events)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        assert there == [{first, second, third}], "the one that serves and the one that is read"
        assert events == ["model.switching", "model.switched", "model.refused"]
        store.prune(0, state)
        assert store.versions() == {second, third}, "the one that serves, and the current one"
    store.prune(0, state)
    assert store.versions() == {third}
