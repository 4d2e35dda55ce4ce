"""Which hardware gets a key, on every fake TEE: refused with exactly the code that says why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fakes import amd, aws
from fakes.broker_room import KINDS, BrokerRoom, evidence, items, measurements, policy
from fakes.tee import CHIP, padded
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import nitro, sev_snp
from rlu_server.broker.errors import BadRequest, NotReleased


@pytest.fixture
def room(tmp_path: Path) -> Iterator[BrokerRoom]:
    made = BrokerRoom(tmp_path)
    yield made
    made.close()


GPU = "".join(f'{name} = "any"\n' for name in ("names", "drivers", "vbios", "modes"))
HOST_DATA = sev_snp.parse_report(CHIP.report(bytes(64))).host_data.hex()


class Debugged(aws.Module):
    """An enclave that was started with --debug-mode."""

    def pcrs(self) -> dict[int, bytes]:
        return {**super().pcrs(), 0: bytes(48), 1: bytes(48), 2: bytes(48)}


def refusal(room: BrokerRoom, *arguments: object, **more: object) -> RluError:
    with pytest.raises(RluError) as caught:
        room.ask(*arguments, **more)  # type: ignore[arg-type]
    last = json.loads(room.vault.journal.read_bytes().splitlines()[-1])
    assert (last["event"], last["code"]) == ("refused", caught.value.code)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_a_measured_tee_gets_the_key(tmp_path: Path, kind: str) -> None:
    room = BrokerRoom(tmp_path, kind)
    assert room.ask() == room.key.key
    entry = json.loads(room.vault.journal.read_bytes())
    assert (entry["event"], entry["evidence"]) == ("released", kind.partition(" ")[0])
    assert entry["measurements"]
    assert entry["waived"] == []
    room.close()


@pytest.mark.parametrize("kind", ["sev-snp", "tdx", "nitro", "nitrotpm"])
def test_evidence_about_another_request(tmp_path: Path, kind: str) -> None:
    """Genuine, and stale: of this very hardware, for a request before."""
    room = BrokerRoom(tmp_path, kind)
    error = refusal(room, change=lambda found: {kind: evidence(kind, b"\x05" * 32)})
    assert isinstance(error, NotReleased)
    assert error.code == "broker.evidence.rejected"
    assert error.failures == (f"{kind}.binding.mismatch",)
    room.close()


def test_a_binding_cannot_be_waived(room: BrokerRoom) -> None:
    waive = '[[waive]]\nstep = "sev-snp.binding"\nreason = "never"\n'
    room.set_policy(policy("sev-snp", waive=waive))
    error = refusal(room, change=lambda _: {"sev-snp": evidence("sev-snp", b"\x05" * 32)})
    assert error.code == "broker.evidence.rejected"


@pytest.mark.parametrize("kind", ["tpm2", "gcp-vtpm"])
def test_hardware_whose_memory_is_open(room: BrokerRoom, kind: str) -> None:
    error = refusal(room, kind)
    assert error.code == "broker.hardware"
    assert error.exit_code == 10


def test_a_software_key(room: BrokerRoom) -> None:
    assert refusal(room, change=lambda _: {"none": b'{"kind":"none"}'}).code == "broker.hardware"


@pytest.mark.parametrize(
    ("kind", "measured"),
    [
        ("sev-snp", '[measurements]\nsev-snp = "any"'),
        ("sev-snp", f'[measurements.sev-snp]\nhost_data = ["{HOST_DATA}"]'),
        ("nitro", '[measurements]\nnitro = "any"'),
        ("tdx", measurements("tdx").rsplit("\n", 1)[0]),
        ("azure-vtpm on sev-snp", measurements("azure-vtpm on sev-snp").partition("[pcrs")[0]),
    ],
)
def test_a_policy_that_names_no_software(tmp_path: Path, kind: str, measured: str) -> None:
    """What the policy accepts unseen, and what whoever starts other software can repeat, says nothing of who asks."""
    room = BrokerRoom(tmp_path, kind)
    top = 'pcrs = "any"' if kind.startswith("azure") else ""
    room.set_policy(policy(kind, top=top, measured=measured))
    assert refusal(room).code == "broker.not_measured"
    room.close()


def test_other_software(room: BrokerRoom) -> None:
    measured = f'[measurements.sev-snp]\nmeasurement = ["{"ab" * 48}"]'
    room.set_policy(policy("sev-snp", measured=measured))
    error = refusal(room)
    assert isinstance(error, NotReleased)
    assert error.failures == ("policy.measurements.mismatch",)


def test_a_debugged_enclave(tmp_path: Path) -> None:
    """Its measurements are zero, and a policy that names zero and accepts debugging does not make it measured."""
    room = BrokerRoom(tmp_path, "nitro")
    text = policy("nitro", measured=f'[measurements.nitro]\npcr0 = ["{bytes(48).hex()}"]')
    room.set_policy(text.replace('["disabled"]', '["enabled", "disabled"]'))

    def change(found: dict[str, bytes]) -> dict[str, bytes]:
        root = nitro.parse(found["nitro"]).document.user_data
        assert root is not None
        return {"nitro": aws.parts(Debugged("nitro"), root).item()}

    assert refusal(room, change=change).code == "broker.not_measured"
    room.close()


def test_a_lower_privilege_level(room: BrokerRoom) -> None:
    """The measurement is of what runs above whoever asked."""

    def change(found: dict[str, bytes]) -> dict[str, bytes]:
        root = sev_snp.parse(found["sev-snp"]).report.report_data[:32]
        made = amd.parts(CHIP, padded(root))
        return {"sev-snp": replace(made, report=CHIP.report(padded(root), VMPL=1)).item()}

    error = refusal(room, change=change)
    assert isinstance(error, NotReleased)
    assert error.failures == ("policy.tee.hazard",)
    room.set_policy(policy("sev-snp", top="") + '\n[tee]\naccept = ["lower-vmpl"]\n')
    assert refusal(room, change=change).code == "broker.not_measured"


def test_waivers_are_in_the_journal(room: BrokerRoom) -> None:
    def without_list(found: dict[str, bytes]) -> dict[str, bytes]:
        data = sev_snp.parse(found["sev-snp"]).report.report_data
        return {"sev-snp": replace(amd.parts(CHIP, data), crl=None).item()}

    error = refusal(room, change=without_list)
    assert isinstance(error, NotReleased)
    assert error.failures == ("sev-snp.revocation.missing",)
    waive = '[[waive]]\nstep = "sev-snp.revocation"\nreason = "no list here"\n'
    room.set_policy(policy("sev-snp", waive=waive))
    assert room.ask(change=without_list) == room.key.key
    entry = json.loads(room.vault.journal.read_bytes().splitlines()[-1])
    assert entry["waived"] == ["sev-snp.revocation.missing"]


def test_gpus(room: BrokerRoom) -> None:
    room.set_policy(policy("sev-snp", top="") + "\n[gpu]\ncount = 2\n" + GPU)
    assert refusal(room).code == "broker.gpus"
    assert room.ask(gpus=True) == room.key.key
    entry = json.loads(room.vault.journal.read_bytes().splitlines()[-1])
    assert len(entry["gpus"]) >= 2

    def of_another_request(found: dict[str, bytes]) -> dict[str, bytes]:
        return {**found, "nvidia": items("sev-snp", b"other", gpus=True)["nvidia"]}

    error = refusal(room, change=of_another_request, gpus=True)
    assert isinstance(error, NotReleased)
    assert error.failures
    assert all(code.startswith("nvidia.") for code in error.failures)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda found: {**found, **items("nitro", b"x")}, "broker.evidence.kind"),
        (lambda found: {"nvidia": b"{}"}, "broker.evidence.kind"),
        (lambda found: {"sgx": b"{}"}, "broker.evidence.kind"),
        (lambda found: {"sev-snp": CHIP.report(bytes(64))}, "broker.evidence.encoding"),
        (lambda found: {"sev-snp": found["sev-snp"][:-2]}, "broker.evidence.encoding"),
        (lambda found: {"tdx": found["sev-snp"]}, "broker.evidence.encoding"),
    ],
)
def test_what_is_no_evidence(room: BrokerRoom, change: object, code: str) -> None:
    error = refusal(room, change=change)
    assert isinstance(error, BadRequest)
    assert error.code == code
