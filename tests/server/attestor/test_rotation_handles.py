"""Rotation of a key at a persistent handle: a real attestor on a software TPM, crashed at every step."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.asked import act
from fakes.attestor_process import AttestorProcess, Deployment
from rlu_attestation import jose
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.statements import Close, Receipt, SessionStatement
from rlu_server import keyring
from rlu_server.attestor import messages
from rlu_server.attestor.tpm import keys
from rlu_server.attestor.tpm.connection import Tpm
from rlu_server.attestor.tpm.placed import persist, ueid_at
from rlu_server.settings import load
from rlu_server.swtpm import SoftwareTpm
from waiting import until

pytestmark = pytest.mark.tpm
FIRST = 0x81000010


@pytest.fixture
def process(software_tpm: SoftwareTpm) -> Iterator[AttestorProcess]:
    """A running attestor whose key is at a handle."""
    with tempfile.TemporaryDirectory(prefix="rlu-attestor-") as directory:
        made = Deployment(Path(directory), software_tpm, 'key_path = "0x81000010"\n')
        made.enrol()
        with AttestorProcess(made) as running:
            yield running


class Tpms:
    """What the TPM and the attestor's file have at the handles; nobody else may be connected to the TPM."""

    def __init__(self, deployment: Deployment) -> None:
        assert deployment.tpm is not None
        self.tcti = deployment.tpm.tcti
        self.file = deployment.state / "attestation" / "handles.json"

    def keys(self) -> dict[int, str | None]:
        """By handle, names of the keys there."""
        tpm = Tpm(self.tcti)
        try:
            there = [handle for handle in tpm.handles(FIRST) if handle < FIRST + 16]
            return {handle: ueid_at(tpm, handle) for handle in there}
        finally:
            tpm.close()

    def record(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.file.read_text())
        return value

    def tidy(self) -> bool:
        """Is nothing to be removed, and nothing half made?"""
        return not self.file.exists() or not {"gone", "next", "previous"} & self.record().keys()


def name(welcome: messages.Welcome) -> str:
    return welcome.issuer.rpartition(":")[2]


async def test_keys_go_back_and_forth_between_two_handles(process: AttestorProcess) -> None:
    deployment = process.deployment
    tpms = Tpms(deployment)
    gateway = await process.connect()
    first = await gateway.hello()
    opened = await gateway.open()
    await gateway.begin(opened.session)
    assert (await act(deployment, "rehearse")).code is None
    assert tpms.record() == {"configured": "0x81000010"}, "it has left nothing"
    outcome = await act(deployment, "rotate")
    assert outcome.code is None, outcome
    second = await gateway.answer(0)
    assert isinstance(second, messages.Welcome)
    assert second.issuer != first.issuer
    # Both sign: the new one its sessions, the old one those it has.
    fresh = await gateway.open()
    assert SessionStatement.parse(fresh.logged.statement).issuer == second.issuer
    recorded = await gateway.record(opened.session, 1)
    assert Receipt.parse(recorded.logged.statement).issuer == first.issuer
    # A rehearsal while the old key is there takes a third handle, and gives it back.
    assert (await act(deployment, "rehearse")).code is None
    record = tpms.record()
    assert (record["current"]["ueid"], record["previous"]["ueid"]) == (name(second), name(first))
    assert not {"next", "gone"} & record.keys()
    assert (await act(deployment, "rotate")).code == "rotation.under_way"

    # A restart in the middle goes on with both.
    await asyncio.to_thread(process.stop)
    assert keyring.create(load(deployment.config)) == name(second), "`rlu keys create` finds the key in use"
    assert tpms.keys() == {FIRST: name(first), FIRST + 1: name(second)}
    await asyncio.to_thread(process.start)
    gateway = await process.connect()
    assert (await gateway.hello()).issuer == second.issuer
    assert await gateway.begin(opened.session) == 2
    assert (await act(deployment, "retire")).sessions == 1
    await until(lambda: process.events().count("key.retired") == 1, process.output)
    assert tpms.tidy()

    outcome = await act(deployment, "rotate")
    assert outcome.code is None, outcome
    third = await gateway.answer(0)
    assert isinstance(third, messages.Welcome)
    await gateway.close_session(fresh.session)
    await until(lambda: process.events().count("key.retired") == 2, process.output)
    await asyncio.to_thread(process.stop)
    assert tpms.keys() == {FIRST: name(third)}
    assert tpms.record()["current"] == {"handle": "0x81000010", "ueid": name(third)}
    assert "key.removal_failed" not in process.events()


async def test_what_a_crash_left_is_removed_and_a_key_that_is_gone_is_missed(
    process: AttestorProcess,
) -> None:
    """A next key that was at its handle, keys to be removed of which one had been, and at last a handle without its key."""
    deployment = process.deployment
    tpms = Tpms(deployment)
    gateway = await process.connect()
    old = await gateway.hello()
    await asyncio.to_thread(process.stop, signal.SIGKILL)
    following, leaving = (leave_a_key(deployment, handle) for handle in (FIRST + 1, FIRST + 2))
    record = {
        "configured": "0x81000010",
        "next": {"handle": "0x81000011", "ueid": following},
        "gone": [{"handle": "0x81000013", "ueid": "was-there"}, {"handle": "0x81000012", "ueid": leaving}],
    }
    tpms.file.write_text(json.dumps(record))
    await asyncio.to_thread(process.start)
    await until(tpms.tidy, process.output)
    gateway = await process.connect()
    assert (await gateway.hello()).issuer == old.issuer
    await asyncio.to_thread(process.stop)
    assert tpms.keys() == {FIRST: name(old)}

    # The attestor does not begin with another key by itself; the way on that it names works.
    missing = {"handle": "0x81000012", "ueid": name(old)}
    tpms.file.write_text(json.dumps({"configured": "0x81000010", "current": missing}))
    with pytest.raises(AssertionError, match=r"key\.absent"):
        await asyncio.to_thread(process.start)
    assert tpms.keys() == {FIRST: name(old)}, "nothing was made"
    tpms.file.unlink()
    await asyncio.to_thread(process.start)
    assert (await (await process.connect()).hello()).issuer == old.issuer


def leave_a_key(deployment: Deployment, handle: int) -> str:
    """One more key at a handle; its name."""
    tpm = Tpm(Tpms(deployment).tcti)
    try:
        made = keys.create(tpm, keys.INSTANCE_ATTRIBUTES, b"p" * 32, b"")
        persist(tpm, keys.load(tpm, made, b""), handle)
        found = ueid_at(tpm, handle)
    finally:
        tpm.close()
    assert found is not None
    return found


async def test_a_crash_between_the_keys_and_the_logs(process: AttestorProcess) -> None:
    """The keys had changed places, the logs not yet: the next start goes on from there."""
    deployment = process.deployment
    gateway = await process.connect()
    old = await gateway.hello()
    opened = await gateway.open()
    await act(deployment, "rotate")
    new = await gateway.answer(0)
    assert isinstance(new, messages.Welcome)
    await asyncio.to_thread(process.stop, signal.SIGKILL)
    log = deployment.state / "log"
    (log / f"{name(old)}.jsonl").replace(log / "log.jsonl")
    await asyncio.to_thread(process.start)
    again = await process.connect()
    assert (await again.hello()).issuer == new.issuer
    closed = await again.close_session(opened.session)
    assert Close.parse(closed.logged.statement).issuer == old.issuer
    tpms = Tpms(deployment)
    await until(lambda: "key.retired" in process.events(), process.output)
    ask = messages.Attest(id=again.next_id(), nonce=b"m" * 16)
    attestation = await again.ask(ask, messages.Attestation)
    named = InstanceClaims.parse(jose.jws_parse(attestation.statement).payload).predecessor
    assert named is not None
    assert named.issuer == old.issuer
    await asyncio.to_thread(process.stop)
    assert tpms.keys() == {FIRST + 1: name(new)}
