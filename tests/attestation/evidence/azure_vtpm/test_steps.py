"""Every step accepts genuine evidence on both kinds of hardware, and refuses each perturbation with exactly the codes named."""

from __future__ import annotations

import pytest

from fakes import azure
from fakes.azure import Vm, compact, runtime
from fakes.azure_vtpm_perturbations import BINDING, PERTURBATIONS, TDX, scene
from fakes.azure_vtpm_steps import failures, hardware_steps
from fakes.tpm_perturbations import more
from rlu_attestation.errors import Untrusted
from rlu_attestation.evidence import azure_vtpm
from rlu_attestation.tpm import checks

HARDWARE = ("sev-snp", "tdx")


@pytest.mark.parametrize("hardware", HARDWARE)
def test_genuine(hardware: str) -> None:
    machine = Vm(hardware=hardware)
    data = machine.evidence(BINDING)
    assert failures(data, BINDING) == []
    evidence = azure_vtpm.parse(data)
    claims = azure_vtpm.claims_of(evidence, checks.verify_quote_pcrs(evidence))
    assert claims.hardware_kind == evidence.hardware_kind == hardware
    assert claims.vm_configuration == azure.SETTINGS
    assert (claims.secure_boot, claims.tpm_persisted, claims.console_enabled) == (True, False, True)
    assert claims.vm_unique_id == "26F8BC30-774E-4290-8E7A-535F3B672AEE"
    assert claims.user_data == bytes(64)
    assert claims.pcrs == machine.tpm.values(machine.selected)


@pytest.mark.parametrize("hardware", HARDWARE)
def test_several_statements_share_a_quote_and_a_kernel_may_measure(hardware: str) -> None:
    found = scene(hardware)
    assert failures(found.machine.parts(BINDING, (b"\1" * 32,), (b"\2" * 32,)).encode(), BINDING) == []
    assert failures(found.with_ima(more).encode(), BINDING) == []


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_perturbation(name: str) -> None:
    perturb, expected = PERTURBATIONS[name]
    assert failures(perturb(scene()).encode(), BINDING) == expected


@pytest.mark.parametrize("name", TDX)
def test_perturbation_on_tdx(name: str) -> None:
    perturb, expected = TDX[name]
    assert failures(perturb(scene("tdx")).encode(), BINDING) == expected


def test_there_are_enough_of_them() -> None:
    named = {**PERTURBATIONS, **TDX}
    assert sum(any("azure-vtpm" in code for code in codes) for _, codes in named.values()) >= 100


@pytest.mark.parametrize("hardware", HARDWARE)
def test_a_policy_that_names_no_paravisor_proves_nothing(hardware: str) -> None:
    data = scene(hardware).parts.encode()
    assert failures(data, BINDING, ()) == ["azure-vtpm.paravisor.unset"]
    assert failures(data, BINDING, (b"\x77" * 48,)) == ["azure-vtpm.paravisor.mismatch"]
    measured = azure.PARAVISOR[hardware]
    assert azure_vtpm.verify_paravisor(measured, {bytes(48), measured}) == measured


def test_privilege_levels_are_amds() -> None:
    on_amd, on_intel = (azure_vtpm.parse(scene(hardware).parts.encode()) for hardware in HARDWARE)
    azure_vtpm.verify_vmpl(on_intel, None)
    azure_vtpm.verify_vmpl(on_amd, 0)
    with pytest.raises(Untrusted) as refused:
        azure_vtpm.verify_vmpl(on_amd, None)
    assert refused.value.code == "azure-vtpm.vmpl.missing"
    azure_vtpm.verify_td_report(on_amd, b"")
    body = hardware_steps(on_intel)[2]
    azure_vtpm.verify_td_report(on_intel, body[:584])
    with pytest.raises(Untrusted) as refused:
        azure_vtpm.verify_td_report(on_intel, body[:583])
    assert refused.value.code == "azure-vtpm.td_report.size"


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_report_data_of_another_size_never_matches(size: int) -> None:
    evidence = azure_vtpm.parse(scene().parts.encode())
    with pytest.raises(Untrusted):
        azure_vtpm.verify_runtime_data(evidence, evidence.hcl.report_data.ljust(65, b"\0")[:size])
    assert azure_vtpm.verify_runtime_data(evidence, evidence.hcl.report_data) == evidence.hcl.runtime


def test_what_microsoft_may_add_is_kept_or_passed_over() -> None:
    found = scene()
    value = runtime(found.tpm, ak={"alg": "RS256"}, further={"a": [1, None]})
    value["vm-configuration"] |= {"hosting": 3, "nested": {"a": 1}, "nothing": None}
    value["keys"].append({"kid": "HCLTransferKey", "kty": "EC"})
    parts = found.with_runtime(compact(value))
    assert failures(parts.encode(), BINDING) == []
    said = azure_vtpm.parse(parts.encode()).hcl.runtime
    assert said.key_ids == ("HCLAkPub", "HCLEkPub", "HCLTransferKey")
    assert said.vm_configuration["hosting"] == 3
    assert (said.vm_configuration["nested"], said.vm_configuration["nothing"]) == (None, None)
    assert (said.flag("secure-boot"), said.flag("vmUniqueId"), said.flag("absent")) == (True, None, None)
    assert said.text("vmUniqueId") == azure.SETTINGS["vmUniqueId"]
    assert (said.text("secure-boot"), said.text("absent")) == (None, None)


def test_settings_and_user_data_may_be_left_out() -> None:
    found = scene()
    parts = found.with_runtime(compact(runtime(found.tpm, **{"vm-configuration": None, "user-data": None})))
    assert failures(parts.encode(), BINDING) == []
    evidence = azure_vtpm.parse(parts.encode())
    claims = azure_vtpm.claims_of(evidence, {})
    assert (claims.vm_configuration, claims.user_data, claims.secure_boot, claims.vm_unique_id) == (
        {},
        None,
        None,
        None,
    )
    parts = found.with_runtime(compact(runtime(found.tpm, **{"user-data": "AB" * 64})))
    assert azure_vtpm.parse(parts.encode()).hcl.runtime.user_data == b"\xab" * 64


def test_both_versions_of_the_header() -> None:
    found = scene()
    for version in (1, 2):
        parts = found.with_hcl(version=version)
        assert azure_vtpm.parse(parts.encode()).hcl.version == version
        assert failures(parts.encode(), BINDING) == []
