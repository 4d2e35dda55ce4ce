"""Which collectors the settings ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.nvml import FakeDriver, FakeGpu
from rlu_server.attestor import collect, process
from rlu_server.attestor.collect import (
    attestation_key_for,
    collector_for,
    collectors_for,
    gpus_of,
    inventory,
    nvml,
)
from rlu_server.attestor.errors import NotReady
from rlu_server.settings import Settings


def settings(**attestation: object) -> Settings:
    return Settings.model_validate({"attestation": attestation})


@pytest.mark.parametrize("kind", ["sev-snp", "tdx", "nitro"])
def test_a_collector_for_each_tee(kind: str) -> None:
    found = collector_for(settings(key=kind))
    assert found is not None
    assert found.kind == kind
    assert attestation_key_for(settings(key=kind)) is None


@pytest.mark.parametrize("kind", ["gcp-vtpm", "azure-vtpm"])
def test_a_key_for_each_cloud(kind: str) -> None:
    found = attestation_key_for(settings(key=kind))
    assert found is not None
    assert found.kind == kind
    assert collector_for(settings(key=kind)) is None


@pytest.mark.parametrize("given", [{}, {"insecure_software_key": True}], ids=["tpm2", "none"])
def test_none_where_the_key_has_evidence_of_its_own(given: dict[str, object]) -> None:
    assert collector_for(settings(**given)) is None
    assert attestation_key_for(settings(**given)) is None
    assert collectors_for(settings(**given)) == ()
    assert gpus_of(settings(**given)) is None


def test_reports_of_gpus_only_when_asked_for() -> None:
    (found,) = collectors_for(settings(gpu={"vendor": "nvidia", "evidence": "nvidia"}))
    assert found.kind == "nvidia"
    assert collectors_for(settings(gpu={"vendor": "nvidia"})) == ()


@pytest.mark.parametrize("evidence", ["none", "nvidia"])
def test_the_claim_says_whether_there_are_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evidence: str
) -> None:
    driver = FakeDriver(tmp_path, [FakeGpu(), FakeGpu()])
    monkeypatch.setattr(collect.nvml, "opened", lambda opened=nvml.opened: opened(driver.shared_object))
    found = gpus_of(settings(gpu={"vendor": "nvidia", "evidence": evidence}))
    assert found is not None
    assert (found.count, found.attestation, found.mode) == (2, evidence, "on")


def test_gpus_of_amd_have_no_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "DRM", tmp_path)
    with pytest.raises(NotReady, match="no AMD GPU"):
        gpus_of(settings(gpu={"vendor": "amd"}))


def test_the_attestor_refuses_to_start_without_the_device(tmp_path: Path) -> None:
    given = Settings.model_validate({"state_dir": tmp_path, "attestation": {"key": "nitro"}})
    with pytest.raises(NotReady) as caught:
        process.open_platform(given)
    assert caught.value.code == "nsm.absent"
