"""The three processes together: started, locked, killed one by one, drained."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from deployment import make_settings, running

from rlu_attestation import canonical, jose
from rlu_attestation.encoding import b64u, unb64u
from rlu_server.attestor import asking
from rlu_server.engine import readiness
from rlu_server.settings_admission import Admission
from rlu_server.supervisor import prepare, runtime
from rlu_server.supervisor.errors import LockRefused, Misconfigured, StartFailed
from rlu_server.supervisor.service import Service

DRIFT_POLICY = """
version = 1
[trust]
unsafe_accept_unverified_boot = true
[profiles.unspecified]
keys = ["none"]
[accept]
hardware_profiles = ["unspecified"]
regions = "any"
boundaries = "any"
sites = "any"
models = "any"
engines = "any"
engine_arguments = "any"
gateways = "any"
gateway_images = "any"
debug_states = ["enabled"]
[channel]
origins = ["gateway-memory"]
[lock]
attestor = "any"
engine = "any"
gateway = "any"
[minimum_source]
default = "asserted"
"""


async def open_session(up: object) -> str:
    status, answer, _ = await up.call("POST", "/v1/rlu/sessions", {"nonce": b64u(os.urandom(32))})  # type: ignore[attr-defined]
    assert status == 201, answer
    return str(answer["session"])


async def test_serves_and_states_what_is_true(tmp_path: Path) -> None:
    async with running(tmp_path, make_settings(tmp_path)) as up:
        status, answer, headers = await up.ask()
        assert status == 200, answer
        status, receipt, _ = await up.call("GET", headers["rlu-receipt"])
        assert status == 200
        assert canonical.decode(unb64u(receipt["statement"]))["rlu_status"] == "complete"

        _, attestation, _ = await up.call("GET", f"/v1/rlu/attestation?nonce={b64u(bytes(32))}")
        statement = attestation["attestation"]["statement"]
        claims = canonical.decode(jose.jws_parse(statement).payload)
        locks = claims["rlu_lock"]
        assert {role: lock["profile"] for role, lock in locks.items()} == {
            "attestor": "attestor",
            "engine": "engine",
            "gateway": "gateway",
        }
        assert locks["engine"]["network"] == "loopback"
        assert locks["engine"] == json.loads((up.place.facts / "engine.json").read_text())
        # The gateway measured itself later than its launcher did, and found the same.
        assert locks["gateway"]["write_outside_scratch"] is False
        assert locks["gateway"]["inherited_files"] == 0
        assert claims["rlu_model"]["manifest_sha256"] == b64u(up.deployment.manifest_sha256)

        everything = json.dumps(up.events)
        assert "SECRET-IN-ENGINE-OUTPUT" not in everything
        place = up.place.path
    assert up.said("gateway.stopped") == 1
    assert not place.exists()


async def test_engine_restarts_and_sessions_survive(tmp_path: Path) -> None:
    async with running(tmp_path, make_settings(tmp_path)) as up:
        session = await open_session(up)
        assert (await up.ask(session))[0] == 200
        before = json.loads((up.place.facts / "engine.json").read_text())
        assert up.server.engine.child is not None
        first = up.server.engine.child.pid
        os.kill(first, signal.SIGKILL)
        await up.until(lambda: up.said("engine.ready") == 2)
        assert up.server.engine.child.pid != first
        assert json.loads((up.place.facts / "engine.json").read_text()) == before
        # Whether the gateway's probe saw it away, and refuses until the next one, depends on how soon it was back.
        deadline = time.monotonic() + 60
        while (answered := await up.ask(session))[0] != 200:
            assert answered[0] == 503, answered
            assert time.monotonic() < deadline, answered
            await asyncio.sleep(0.1)
        assert up.said("instance.changed") == 0
        assert ("engine.exited", {"status": -9}) in up.events


async def test_attestor_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, make_settings(tmp_path)) as up:
        assert (await up.ask())[0] == 200
        assert up.server.attestor.child is not None
        may_start, start = asyncio.Event(), up.server.attestor._start

        async def held(output: Any, made: Any) -> None:
            await may_start.wait()
            await start(output, made)

        monkeypatch.setattr(up.server.attestor, "_start", held)
        os.kill(up.server.attestor.child.pid, signal.SIGKILL)
        await up.until(lambda: up.said("attestor_lost") == 1)
        status, _, _ = await up.ask()
        assert status == 503, "nothing is served unsigned"
        may_start.set()
        await up.until(lambda: up.said("attestor_connected") == 2 and up.said("gateway_ready") == 2)
        # The software key is gone with its process, so this is another instance; the demo's TPM keeps its key.
        assert (await up.ask())[0] == 200


async def test_the_key_is_rotated_under_the_lock(tmp_path: Path) -> None:
    policy = tmp_path / "policies" / "drift.toml"
    policy.parent.mkdir()
    policy.write_text(DRIFT_POLICY)
    settings = make_settings(tmp_path)
    attestation = settings.attestation.model_copy(update={"policy": policy})
    async with running(tmp_path, settings.model_copy(update={"attestation": attestation})) as up:
        await up.until(lambda: up.said("gateway_ready") == 1)
        session = await open_session(up)
        assert (await up.ask(session))[0] == 200
        directory, asked = tmp_path / "state" / "attestation", asking.Asked("rotate", "test")
        asking.ask(directory, asked)
        await up.until(lambda: up.said("attestor_rotated") == 1)
        outcome = asking.answered(directory, asked)
        assert outcome is not None
        assert outcome.code is None, outcome
        assert (await up.ask(session))[0] == 200, "the session goes on under the old key"
        assert await open_session(up) != session
        status, _, _ = await up.call("DELETE", f"/v1/rlu/sessions/{session}")
        assert status == 200
        await up.until(lambda: up.said("key.retired") == 1)
        assert up.said("instance.drifted") == up.said("attestor_lost") == 0


async def test_gateway_restarts(tmp_path: Path) -> None:
    async with running(tmp_path, make_settings(tmp_path)) as up:
        assert up.server.gateway.child is not None
        os.kill(up.server.gateway.child.pid, signal.SIGKILL)
        await up.until(lambda: up.said("gateway_ready") == 2)
        assert (await up.ask())[0] == 200


@pytest.mark.parametrize("which", ["master", "hub"])
async def test_a_gateway_of_several_processes_restarts_whole(tmp_path: Path, which: str) -> None:
    settings = make_settings(tmp_path)
    several = settings.gateway.model_copy(update={"workers": 2})
    async with running(tmp_path, settings.model_copy(update={"gateway": several})) as up:
        await up.until(lambda: up.said("worker_ready") == 2)
        assert up.server.gateway.child is not None
        master = up.server.gateway.child.pid
        children = list(map(int, Path(f"/proc/{master}/task/{master}/children").read_text().split()))
        assert len(children) == 3
        os.kill(master if which == "master" else children[0], signal.SIGKILL)
        await up.until(lambda: up.said("worker_ready") == 4 and up.said("gateway_ready") == 2)
        status, _, headers = await up.ask()
        assert status == 200
        assert (await up.call("GET", headers["rlu-receipt"]))[0] == 200
        assert up.said("gateway.exited") == 1


async def test_revoked_keys_reach_the_gateway(tmp_path: Path) -> None:
    async with running(tmp_path, make_settings(tmp_path)) as up:
        assert (await up.ask())[0] == 200
        loaded = up.said("keys_loaded")
        (tmp_path / "state" / "apikeys.json").unlink()
        await up.until(lambda: up.said("keys_loaded") > loaded)
        assert (await up.ask())[0] == 401


async def test_the_limits_file_reaches_the_locked_gateway_and_so_do_its_changes(tmp_path: Path) -> None:
    limits = tmp_path / "state" / "limits.toml"
    limits.parent.mkdir(mode=0o700, exist_ok=True)
    limits.write_text("[default]\nrequests_per_minute = 1")
    async with running(tmp_path, make_settings(tmp_path)) as up:
        first, second = await up.ask(), await up.ask()
        assert (first[0], first[2]["x-ratelimit-limit-requests"]) == (200, "1")
        assert (second[0], second[1]["error"]["code"]) == (429, "limit_requests")
        loaded = up.said("limits_loaded")
        limits.write_text("[default]\nconcurrent_requests = 3")
        await up.until(lambda: up.said("limits_loaded") > loaded)
        assert (await up.ask())[0] == 200


async def test_no_start_without_the_limits_that_were_meant(tmp_path: Path) -> None:
    limits = tmp_path / "limits.toml"
    settings = make_settings(tmp_path)
    settings = settings.model_copy(update={"admission": Admission(limits_file=limits)})
    place = runtime.create(None)
    try:
        with pytest.raises(Misconfigured, match="there is no limits file"):
            prepare.deployment(settings, place, {}, None)
        limits.write_text("[default]\nrequest_per_minute = 1")
        with pytest.raises(Misconfigured, match="request_per_minute"):
            prepare.deployment(settings, place, {}, None)
    finally:
        place.remove()


async def test_each_process_sees_its_own_things_only(tmp_path: Path) -> None:
    """Looked at through /proc/PID/root. What is not there cannot be read, nor connected to."""
    async with running(tmp_path, make_settings(tmp_path)) as up:

        def sees(service: Service, path: Path) -> bool:
            assert service.child is not None
            return Path(f"/proc/{service.child.pid}/root{path}").exists()

        place, state = up.place.path, tmp_path / "state"
        attestor, engine, gateway = up.server.attestor, up.server.engine, up.server.gateway
        wanted = {
            state: {attestor},
            tmp_path / "m": {engine},
            place / "attestor" / "attestor.sock": {attestor, gateway},
            place / "engine" / "engine.sock": {engine, gateway},
            place / "keys" / "apikeys.json": {gateway},
            place / "facts" / "instance.json": {attestor, gateway},
            place / "gateway" / "gateway.crt": {gateway},
            Path("/var/lib"): set(),
            Path("/etc/shadow"): set(),
        }
        for path, those in wanted.items():
            assert path.exists()
            assert {s for s in (attestor, engine, gateway) if sees(s, path)} == those, path


async def test_failing_start_tells_why(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, environment={"OMP_NUM_THREADS": "13"})
    with pytest.raises(StartFailed) as caught:
        async with running(tmp_path, settings):
            pytest.fail("it started")
    assert "engine: ended with status 9" in str(caught.value)
    assert "RuntimeError: this model cannot be loaded" in str(caught.value)
    assert caught.value.exit_code == 4


async def test_wrong_known_answer_does_not_serve(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    (tmp_path / "m" / readiness.CANARY_FILE).write_text('{"prompt": "hello", "expect": "what it never says"}')
    with pytest.raises(StartFailed, match="known prompt") as caught:
        async with running(tmp_path, settings):
            pytest.fail("it started")
    assert "what it never says" not in str(caught.value)


async def test_less_lock_than_configured_does_not_start(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    changed = settings.model_copy(
        update={"lock": settings.lock.model_copy(update={"minimum_landlock_abi": 99})}
    )
    with pytest.raises(LockRefused, match="Landlock ABI 99 is required") as caught:
        async with running(tmp_path, changed):
            pytest.fail("it started")
    assert caught.value.exit_code == 77


async def test_shared_network_is_stated(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    changed = settings.model_copy(
        update={"lock": settings.lock.model_copy(update={"engine_network": "shared"})}
    )
    async with running(tmp_path, changed) as up:
        assert json.loads((up.place.facts / "engine.json").read_text())["network"] == "host"
        assert (await up.ask())[0] == 200
