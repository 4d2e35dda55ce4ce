"""Drift: what the attestor finds on itself stops new sessions and closes those that are open; the signed close says why."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tpm2_pytss import ESYS_TR, TPM2_ALG, TPML_DIGEST_VALUES, TPMT_HA, TPMU_HA

from fakes.attestor_process import INSTANCE_FACTS, GatewaySide
from fakes.attestor_room import Room, running_room
from rlu_attestation.gpus import Gpus
from rlu_attestation.policy import Policy
from rlu_attestation.profiles import Profile
from rlu_attestation.statements import Close
from rlu_attestation.verdict import Source
from rlu_server import swtpm
from rlu_server.attestor import drift, messages
from rlu_server.attestor.drift import Watch
from rlu_server.attestor.errors import NotReady
from rlu_server.attestor.sessions import Draft, PendingClose
from rlu_server.attestor.tpm.attestation_key import Endorsement, EnrolledKey
from rlu_server.attestor.tpm.platform import TpmConfiguration, TpmPlatform
from waiting import until

SECRET = b"s" * 32
RULES = (
    "hardware_profiles", "regions", "boundaries", "sites", "models", "engines", "engine_arguments", "gateways",
    "gateway_images", "debug_states",
)  # fmt: skip
ANYTHING = Policy(
    accept={**dict.fromkeys(RULES), "hardware_profiles": frozenset({"cpu"})},
    channel_origins=frozenset({"gateway-memory"}),
    profiles={"cpu": Profile(keys=("none",), gpus=None)},
    lock={"attestor": None, "engine": None, "gateway": None},
    default_source=Source.ASSERTED,
    unsafe_accept_unverified_boot=True,
)
"""Accepts what a room is, but for rules that a test sets."""
GPUS = Gpus(
    name="NVIDIA H200", count=8, memory_mib=143771, driver="580", vbios="96", attestation="none", mode="off"
)


def accepting(**rules: frozenset[str]) -> Policy:
    return replace(ANYTHING, accept={**ANYTHING.accept, **rules})


@asynccontextmanager
async def watched(
    room: Room,
    monkeypatch: pytest.MonkeyPatch,
    policy: Policy | None,
    count: Callable[[], Gpus | None] = lambda: None,
) -> AsyncIterator[Watch]:
    monkeypatch.setattr(drift, "LOOK_S", 0.01)
    watch = Watch(room.server, policy, True, count, 0.05, lambda: room.now, room.events)
    running = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def refused(gateway: GatewaySide) -> str:
    answer = await gateway.answer(gateway.send(gateway.opening()))
    assert isinstance(answer, messages.Failure)
    return answer.code


def codes(room: Room, event: str) -> list[str]:
    lines = map(json.loads, room.stream.getvalue().splitlines())
    return [line["code"] for line in lines if line["event"] == event]


async def closed_by(room: Room, sessions: int = 1) -> None:
    """The closes are in the log."""
    await until(lambda: len(room.lines("close")) == sessions)


async def test_facts_that_the_policy_does_not_accept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another region: the instance changes, and the new one is not opened for anybody."""
    async with (
        running_room(tmp_path) as room,
        watched(room, monkeypatch, accepting(regions=frozenset({"eu-central-1"}))) as watch,
    ):
        gateway = await room.greeted()
        await until(lambda: watch._roster.drift is None)
        await gateway.open()
        room.deployment.write_facts({**INSTANCE_FACTS, "region": "us-east-1"})
        await closed_by(room)
        again = await room.greeted()
        await until(lambda: room.server.roster.drift == "policy.region.mismatch")
        assert await refused(again) == "drift"
        assert codes(room, "instance.drifted") == ["policy.region.mismatch"]
        # It ends when the facts are right again.
        room.deployment.write_facts(INSTANCE_FACTS)
        third = await room.greeted()
        await until(lambda: room.server.roster.drift is None)
        await third.open()
        assert "instance.drift_ended" in room.event_names()


async def test_a_policy_that_turns_against_the_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing changed but time: the key got too old. Live sessions are closed, and the signed close says drift."""
    closes: list[bytes] = []
    async with running_room(tmp_path) as room:
        record = room.ledger.commit

        def commit(draft: Draft) -> None:
            closes.extend(e.statement for e in draft.entries if isinstance(e.pending, PendingClose))
            record(draft)

        monkeypatch.setattr(room.ledger, "commit", commit)
        policy = replace(ANYTHING, max_key_age_s=1_000_000 + 50)
        async with watched(room, monkeypatch, policy) as watch:
            gateway = await room.greeted()
            await until(lambda: watch._roster.drift is None)
            opened = await gateway.open()
            await gateway.begin(opened.session)
            room.now += 200
            await until(lambda: len(closes) == 1)  # the log has it a moment earlier
            close = Close.parse(closes[0])
            assert (close.session, close.reason, close.count) == (opened.session, "drift", 1)
            assert await refused(await room.greeted()) == "drift"
            assert codes(room, "instance.drifted") == ["policy.key.age"]


async def test_nothing_is_opened_before_the_first_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_room(tmp_path) as room:
        Watch(room.server, ANYTHING, True, lambda: None, 60, lambda: room.now, room.events)
        assert await refused(await room.greeted()) == "drift"


async def test_a_software_key_that_the_settings_do_not_accept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_room(tmp_path) as room:
        monkeypatch.setattr(drift, "LOOK_S", 0.01)
        watch = Watch(room.server, ANYTHING, False, lambda: None, 60, lambda: room.now, room.events)
        await room.greeted()
        await watch.look()
        assert room.server.roster.drift == "key.hardware.software"


async def test_another_set_of_gpus_is_another_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Gpus] = [GPUS]
    async with (
        running_room(tmp_path, gpus=GPUS) as room,
        watched(room, monkeypatch, None, lambda: found[0]),
    ):
        gateway = await room.greeted()
        await gateway.open()
        await asyncio.sleep(0.2)
        assert room.lines("close") == []
        found[0] = replace(GPUS, count=7)
        await closed_by(room)
        assert "instance.changed" in room.event_names()
        await (await room.greeted()).open()


async def test_a_gpu_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = False

    def count() -> Gpus | None:
        if gone:
            raise NotReady("nvml.gpu_is_lost", "scripted")
        return GPUS

    async with running_room(tmp_path, gpus=GPUS) as room, watched(room, monkeypatch, None, count):
        gateway = await room.greeted()
        await gateway.open()
        gone = True
        await closed_by(room)
        assert await refused(await room.greeted()) == "drift"
        assert codes(room, "instance.drifted") == ["nvml.gpu_is_lost"]


@pytest.mark.tpm
async def test_a_pcr_is_extended(
    software_tpm: swtpm.SoftwareTpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The TPM refuses the key: nothing can be signed any more, not even a close, and nothing is opened."""
    configuration = TpmConfiguration(software_tpm.tcti, tmp_path / "key.pem", (0, 7))
    ak = EnrolledKey(tmp_path / "ak.pem", SECRET, Endorsement(b"", (), b"", ()))
    platform = TpmPlatform(configuration, SECRET, ak)
    monkeypatch.setattr(platform, "collect", lambda root: lambda proof: b'{"kind":"tpm2"}')
    async with running_room(tmp_path, platform=platform) as room, watched(room, monkeypatch, None):
        gateway = await room.greeted()
        await gateway.open()

        def extend() -> None:
            value = TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=bytes(32)))
            tpm = platform._shared.ready().tpm
            tpm.esapi.pcr_extend(ESYS_TR(7), TPML_DIGEST_VALUES([value]))

        await room.committer.on_signer(extend)
        assert await refused(gateway) == "signer_unavailable"
        await until(lambda: room.server.roster.drift is not None)
        assert room.server.roster.drift in ("tpm.platform_state", "key.platform_state")
        assert "gateway.lost" in room.event_names()
        assert room.lines("close") == [], "nobody else may sign it"
    platform.close()
