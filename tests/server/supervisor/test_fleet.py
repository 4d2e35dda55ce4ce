"""Several engines under one supervisor: two of one model and one of another, each with its own scratch, lock and restarts."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from deployment import Up, make_model, make_settings, running
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation import canonical, jose
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.instance import InstanceClaims
from rlu_server import settings as configuration
from rlu_server.settings import Settings, SettingsError
from rlu_server.supervisor import facts, plan, prepare, runtime
from rlu_server.supervisor import fleet as fleet_module
from rlu_server.supervisor.errors import LockRefused, Misconfigured
from rlu_server.supervisor.fleet import Fleet, side_by_side
from rlu_server.supervisor.plan import Host
from rlu_server.supervisor.runtime import Runtime
from rlu_server.supervisor.streams import Output

HOST = Host(Path("/usr/bin/python3"), {})


def settings_of(directory: Path, more: dict[str, Any] | None = None, **engine: Any) -> Settings:
    """Two engines of `m`, one of `other`."""
    if not (directory / "m").exists():
        shutil.copytree(make_model(directory), directory / "other")
        (directory / "other" / "model.safetensors").write_bytes(b"other weights")
    document = make_settings(directory, **{"replicas": 2, **engine}).model_dump()
    document["further_engines"] = [{"path": str(directory / "other")}]
    for section, values in (more or {}).items():
        document[section].update(values)
    return Settings.model_validate(document)


async def ask(up: Up, model: str, conversation: str = "c") -> tuple[int, Any, dict[str, str]]:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    return await up.call("POST", "/v1/chat/completions", body, {"session-id": conversation})


async def test_two_models_three_engines(tmp_path: Path) -> None:
    aliases = {"model": {"aliases": {"gpt-5-codex": "other"}}}
    async with running(tmp_path, settings_of(tmp_path, aliases)) as up:
        for asked, ran in (("m", "m"), ("other", "other"), ("gpt-5-codex", "other")):
            status, answer, headers = await ask(up, asked)
            assert (status, answer.get("model")) == (200, ran), answer
            _, receipt, _ = await up.call("GET", headers["rlu-receipt"])
            assert canonical.decode(unb64u(receipt["statement"]))["rlu_model"] == ran
        _, attestation, _ = await up.call("GET", f"/v1/rlu/attestation?nonce={b64u(bytes(32))}")
        claims = InstanceClaims.parse(jose.jws_parse(attestation["attestation"]["statement"]).payload)
        assert [one.name for one in claims.models] == ["m", "other"]
        served = up.deployment.served
        assert [one.manifest for one in claims.models] == [one.manifest_sha256 for one in served]
        assert served[0].manifest_sha256 != served[1].manifest_sha256
        first, second = (start.stated_arguments(up.place.path) for start in served[0].engines)
        assert first == second, "replicas state the same"
        assert claims.lock["engine"] == json.loads((up.place.facts / "engine.json").read_text())

        # Each sees its own scratch and model, and no other's.
        places = [up.place.path / name for name in ("engine", "engine2", "engine3")]
        for service, own in zip(up.server.engines.services, places, strict=True):
            assert service.child is not None
            root = Path(f"/proc/{service.child.pid}/root")
            assert [place for place in places if Path(f"{root}{place}/engine.sock").exists()] == [own]
        models = [Path(f"{root}{tmp_path}/{name}").exists() for name in ("m", "other")]
        assert models == [False, True]

        # One ends: its model goes on with the other, and it comes back.
        killed = up.server.engines.services[0].child
        assert killed is not None
        os.kill(killed.pid, signal.SIGKILL)
        await up.until(lambda: up.said("engine.exited") == 1)
        for number in range(6):
            assert (await ask(up, "m", f"conversation {number}"))[0] == 200
        await up.until(lambda: up.said("engine.ready") == 4)
        told = [values.get("engine") for name, values in up.events if name == "engine.ready"]
        assert sorted(told[:3]) == ["engine", "engine2", "engine3"]
        assert told[3] == "engine"
        assert up.said("instance.changed") == up.said("gateway_not_ready") == 0


def test_names_and_sockets_are_the_same_at_every_start(tmp_path: Path) -> None:
    assert settings_of(tmp_path).fleet() == (("engine", "m"), ("engine2", "m"), ("engine3", "other"))
    file = tmp_path / "written.toml"
    written = settings_of(tmp_path, {"model": {"aliases": {"claude-*": "m"}}}, devices=["0,1", "2,3"])
    file.write_text(facts.toml(written))
    assert configuration.load(file, {}) == written


def test_the_gateway_reaches_every_engine(tmp_path: Path) -> None:
    program = plan.gateway(settings_of(tmp_path), Runtime(Path("/run/rlu-x"), mounted=False), HOST, 0)
    peers = program.additions.places["peers"]
    assert [str(peer) for peer in peers] == [
        f"/run/rlu-x/{place}" for place in ("attestor", "engine", "engine2", "engine3")
    ]


@pytest.mark.parametrize(
    ("devices", "together"),
    [
        (["0", "1"], True),
        (["0,1", "2,3"], True),
        (["0,1", "1,2"], False),
        (["0", "0"], False),
        (["0", ""], False),
        ([""], False),
        (["0"], True),
    ],
)
def test_side_by_side_with_accelerators_of_their_own(devices: list[str], together: bool) -> None:
    assert side_by_side(devices) is together


@given(st.lists(st.integers(0, 7), min_size=1, max_size=8))
def test_side_by_side_is_about_sharing(numbers: list[int]) -> None:
    assert side_by_side([str(n) for n in numbers]) is (len(set(numbers)) == len(numbers))


def test_each_replica_sees_its_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlu_server.engine.launch.accelerator", lambda: "cuda")
    place = runtime.create(None)
    try:
        (tmp_path / "state").mkdir(mode=0o700, exist_ok=True)
        deployment = prepare.deployment(settings_of(tmp_path, devices=["0,1", "2,3"]), place, {}, None)
    finally:
        place.remove()
    starts = [start for one in deployment.served for start in one.engines]
    assert [start.environment.get("CUDA_VISIBLE_DEVICES") for start in starts] == ["0,1", "2,3", None]
    assert [start.place for start in starts] == ["engine", "engine2", "engine3"]
    assert len({start.socket for start in starts}) == 3


def test_one_posture_speaks_for_all(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    place = runtime.create(None)
    try:
        deployment = prepare.deployment(settings, place, {}, None)
        written: list[dict[str, Any]] = []
        fleet = Fleet(
            deployment.settings,
            deployment.served,
            place,
            HOST,
            0,
            lambda *_: None,
            lambda *_: None,
            written.append,
            tmp_path,
        )
        first, second = deployment.served[0].engines
        fleet._note_posture(first, {"network": "loopback", "swap": "off"})
        fleet._note_posture(second, {"network": "loopback", "swap": "off"})
        with pytest.raises(LockRefused, match=r"engine2 is not that of engine, .*: network differ"):
            fleet._note_posture(second, {"network": "host", "swap": "off"})
    finally:
        place.remove()
    assert written == [{"network": "loopback", "swap": "off"}] * 2


async def test_a_start_that_fails_leaves_no_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried for ever, so what one try leaves adds up."""
    settings = settings_of(tmp_path)
    place = runtime.create(None)

    async def refused(*_: object, **__: object) -> None:
        raise LockRefused("scripted")

    monkeypatch.setattr(fleet_module, "launch", refused)
    try:
        deployment = prepare.deployment(settings, place, {}, None)
        served = deployment.served[0]
        fleet = Fleet(
            deployment.settings,
            deployment.served,
            place,
            HOST,
            0,
            lambda _, handle: os.close(handle),
            lambda *_: None,
            lambda _: None,
            tmp_path,
        )
        served.engines[0].scratch.mkdir(exist_ok=True)
        before = set(os.listdir("/proc/self/fd"))
        output = Output(lambda *_: None)
        with pytest.raises(LockRefused):
            await fleet._start(served.engines[0], served, lambda *_: None, output, lambda _: None)
        assert set(os.listdir("/proc/self/fd")) <= before
    finally:
        place.remove()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"model": {"aliases": {"x": "unknown"}}}, "the alias x stands for unknown, which is not served"),
        ({"model": {"aliases": {"other": "m"}}}, "the alias other is the name of a model that is served"),
        ({"model": {"name": "other"}}, "two models are named other"),
    ],
)
def test_names_that_contradict_do_not_start(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    place = runtime.create(None)
    try:
        with pytest.raises(Misconfigured, match=message):
            prepare.deployment(settings_of(tmp_path, more), place, {}, None)
    finally:
        place.remove()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"engine": {"replicas": 2, "devices": ["0"]}}, "devices has 1 entries for 2 replicas"),
        ({"engine": {"devices": ["0;rm"]}}, "String should match pattern"),
        ({"engine": {"replicas": 0}}, "greater than or equal to 1"),
        ({"further_engines": [{"path": ""}]}, "at least 1 character"),
        ({"further_engines": [{"path": "/m", "replicas": 16}] * 4}, "65 engines; one gateway has at most 64"),
        ({"further_engines": [{"path": "/m", "python": "x"}]}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_refuse(document: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        configuration.load(None, {}, document)
