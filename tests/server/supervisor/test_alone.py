"""`rlu serve --role`: each of the three alone, as a user of its own, with a pod's volumes and without privileges."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pod import UIDS, Pod

from rlu_server import settings as configuration
from rlu_server.settings import Settings
from rlu_server.supervisor import alone, facts, prepare, run, runtime
from rlu_server.supervisor.errors import Misconfigured, StartFailed, Unavailable
from rlu_server.supervisor.runtime import Runtime
from waiting import until

SERVED: dict[str, Any] = {
    "model": {"name": "m", "manifest_sha256": "A" * 43},
    "engine": {"name": "vllm", "version": "1", "arguments_sha256": "A" * 43},
}
STATED: dict[str, Any] = {"served": [SERVED], "posture": {"network": "loopback"}}


def test_three_roles_serve_restart_and_end_in_order(pod: Pod) -> None:
    gateway, attestor = pod.start("gateway"), pod.start("attestor")
    gateway.until(lambda: gateway.said("gateway.ready"))
    attestor.until(lambda: attestor.said("waiting_for_engine"))
    assert not attestor.said("attestor.starting"), "nothing is stated of an engine that nobody measured"
    assert pod.call("GET", "/readyz")[0] == 503
    engine = pod.start("engine")
    gateway.until(lambda: gateway.said("serving"))

    status, opened = pod.call("POST", "/v1/rlu/sessions", {"nonce": "A" * 43})
    assert status == 201, opened
    session = opened["session"]
    assert pod.ask(session) == 200
    postures = {
        "attestor": json.loads(attestor.inside(pod.run / "facts" / "attestor.json").read_text()),
        "engine": json.loads((pod.volumes / "engine-facts" / "engines.json").read_text())["posture"],
    }
    for role, posture in postures.items():
        assert (posture["uid"], posture["uid_shared"]) == (UIDS[role], False)
    stated = attestor.inside(pod.run / "facts" / "engine.json")
    assert json.loads(stated.read_text()) == postures["engine"]
    assert gateway.inside(pod.run / "attestor" / "attestor.sock").is_socket()
    assert not engine.inside(pod.run / "attestor").exists()

    # One container alone is killed and comes back: same instance, same session.
    engine.process.kill()
    assert engine.end()[0] == -signal.SIGKILL
    engine = pod.start("engine")
    engine.until(lambda: engine.said("engine.ready"))
    engine.until(lambda: pod.ask(session) == 200)
    assert not attestor.said("instance.changed")

    # All are told to end, and those first that must be last.
    for one in (attestor, engine):
        one.process.send_signal(signal.SIGTERM)
        one.until(lambda one=one: one.said("draining"))
    assert pod.ask(session) == 200, "while the gateway serves, so do the others"
    gateway.process.send_signal(signal.SIGTERM)
    ended = {one.role: one.end() for one in (gateway, engine, attestor)}
    assert ended == dict.fromkeys(UIDS, (0, ""))
    [drained] = gateway.said("gateway.stopped")
    assert drained <= min(*attestor.said("attestor.stopped"), *engine.said("engine.stopped"))
    assert not gateway.said("receipt_lost")
    shutil.rmtree(pod.volumes / "state")
    assert [path for path in pod.volumes.rglob("*") if not path.is_dir()] == []


def test_a_role_says_what_it_lacks(pod: Pod) -> None:
    (pod.volumes / "attestor").rmdir()
    code, errors = pod.start("gateway").end()
    assert code == Unavailable.exit_code
    assert "attestor is not there" in errors
    (pod.volumes / "engine-facts").chmod(0o755)
    code, errors = pod.start("engine").end()
    assert code == Unavailable.exit_code
    assert "engine-facts is not ours to write" in errors


def settings(pod: Pod, **changes: object) -> Settings:
    return configuration.load(pod.config, {}, changes)


def test_a_role_runs_as_its_user(pod: Pod) -> None:
    place = runtime.share(pod.volumes, "facts")
    with pytest.raises(Misconfigured, match=r"\[lock.uids\] engine = 54332, and this is user 0"):
        prepare.deployment(settings(pod), place, {}, None, "engine")


def test_one_role_fetches_no_model(pod: Pod) -> None:
    given = settings(pod, lock={"uids": None}, model={"path": "owner/name"})
    place = runtime.share(pod.volumes, "facts")
    with pytest.raises(Misconfigured, match="owner/name is no directory here"):
        prepare.deployment(given, place, {}, None, "engine")
    for role in ("attestor", "gateway"):
        assert prepare.deployment(given, place, {}, None, role).served == ()


def test_one_role_needs_a_directory_in_memory(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="RLU_RUNTIME_DIR"):
        runtime.share(None, "facts")
    with pytest.raises(Unavailable, match="not in memory"):
        runtime.share(tmp_path, "facts")


def test_what_an_engine_states_has_one_form(tmp_path: Path) -> None:
    good, served = STATED, SERVED
    file = tmp_path / "engines.json"
    assert alone.read_engine_facts(file) is None
    file.write_text(json.dumps(good))
    found = alone.read_engine_facts(file)
    assert found is not None
    assert found.posture == {"network": "loopback"}
    for bad in (
        {**good, "region": "elsewhere"},
        {**good, "served": []},
        {**good, "served": [{**served, "hardware": {"profile": "h200x8"}}]},
        {**good, "posture": {"x": ["nested"]}},
        {**good, "posture": {f"p{number}": "x" * 200 for number in range(1000)}},
    ):
        file.write_text(json.dumps(bad))
        assert alone.read_engine_facts(file) is None, bad


def test_facts_for_which_there_was_no_room_are_stated_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the engine's container says counts as stated once all of it is written."""
    (tmp_path / "facts").mkdir()
    (tmp_path / alone.ENGINE_FACTS).mkdir()
    (tmp_path / alone.ENGINE_FACTS / "engines.json").write_text(json.dumps(STATED))
    settings: Any = SimpleNamespace(settings=configuration.load(None, {}, {}))
    it = alone.AttestorAlone.__new__(alone.AttestorAlone)
    it._deployment, it._runtime = settings, Runtime(tmp_path, mounted=False)
    it._path, it._stated = tmp_path, None
    write = facts.write_json

    def full(path: Path, document: Mapping[str, Any]) -> None:
        if path.name == "instance.json":
            raise OSError(errno.ENOSPC, "no space left")
        write(path, document)

    with monkeypatch.context() as patch:
        patch.setattr(facts, "write_json", full)
        with pytest.raises(OSError, match="no space"):
            it._take()
    assert it._take()
    assert json.loads((tmp_path / "facts" / "instance.json").read_text())["model"]["name"] == "m"


class Breaking:
    """A handover that ends with an error when it is told to."""

    now: asyncio.Event

    def __init__(self, *arguments: object) -> None:
        pass

    async def run(self) -> None:
        await self.now.wait()
        raise ZeroDivisionError


@pytest.fixture
def memory() -> Iterator[Path]:
    """A runtime directory in memory, with what other roles have there."""
    path = Path(tempfile.mkdtemp(prefix="test-alone-", dir="/dev/shm"))
    for name in (alone.ENGINE_FACTS, "gateway"):
        (path / name).mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


async def serving(memory: Path, tmp_path: Path, events: list[tuple[str, Any]]) -> None:
    given = configuration.load(
        None,
        {},
        {
            "runtime_dir": str(memory),
            "state_dir": str(tmp_path / "state"),
            "attestation": {"insecure_software_key": True},
            "weights": {"broker": "http://127.0.0.1:9"},
        },
    )
    await run.serve(given, {}, lambda name, values: events.append((name, values)), role="attestor")


async def test_a_handover_that_ended_ends_the_wait_for_the_engine(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No engine would ever get its weights, nor say what it is."""
    events: list[tuple[str, Any]] = []
    monkeypatch.setattr(alone, "Handover", Breaking)
    Breaking.now = asyncio.Event()
    running = asyncio.ensure_future(serving(memory, tmp_path, events))
    try:
        await until(lambda: ("waiting_for_engine", {}) in events or running.done())
        Breaking.now.set()
        await until(running.done, lambda: events)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    with pytest.raises(StartFailed, match="ZeroDivisionError"):
        running.result()
    assert ("attestor.beside_failed", {"part": "weights", "reason": "ZeroDivisionError"}) in events


async def test_a_handover_that_ended_ends_the_attestor_that_runs(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, while a gateway runs: it goes on with the attestor that is started again."""
    events: list[tuple[str, Any]] = []
    monkeypatch.setattr(alone, "Handover", Breaking)
    Breaking.now = asyncio.Event()
    (memory / alone.ENGINE_FACTS / "engines.json").write_text(json.dumps(STATED))
    gateway = alone._hold(memory / "gateway" / "serving.lock")
    running = asyncio.ensure_future(serving(memory, tmp_path, events))
    try:
        await until(
            lambda: "attestor.ready" in [name for name, _ in events] or running.done(), lambda: events
        )
        Breaking.now.set()
        await until(running.done, lambda: events)
        assert alone._is_held(memory / "gateway" / "serving.lock")
    finally:
        os.close(gateway)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    with pytest.raises(StartFailed, match="ZeroDivisionError"):
        running.result()
    names = [name for name, _ in events]
    assert names.index("attestor.beside_failed") < names.index("draining") < names.index("attestor.stopped")
    assert "gateway_stays" not in names


def test_two_gateways_do_not_share_a_directory(tmp_path: Path) -> None:
    lock = tmp_path / "serving.lock"
    assert not alone._is_held(lock)
    handle = alone._hold(lock)
    try:
        assert alone._is_held(lock)
        with pytest.raises(Unavailable, match="another gateway"):
            alone._hold(lock)
    finally:
        os.close(handle)
    assert not alone._is_held(lock)
