"""Real certificates of Google's virtual TPMs: each must give what its PROVENANCE.json states."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from fakes.gcp_vtpm_perturbations import scene
from fakes.vectors import vector
from rlu_attestation import x509
from rlu_attestation.errors import Malformed, Untrusted
from rlu_attestation.evidence import gcp_vtpm
from rlu_attestation.evidence.gcp_vtpm.roots import EK_AK_CA_ROOT, TPM_EK_ROOT_1

pytestmark = pytest.mark.vectors

CHAINS = {
    "pca": ("ca_gcp_ek_ak_ca_root.crt", "ca_gcp_ek_ak_ca_intermediate_v3.crt", EK_AK_CA_ROOT),
    "uca": ("ca_tpm_ek_root_1.cer", "ca_tpm_ek_intermediate_3.crt", TPM_EK_ROOT_1),
}
INSTANCES = {"pca": (218557372616137117, "cs-debug-pca"), "uca": (0x50373D81BDED33F0, "cs-debug")}
NAMES = [
    (age, f"gce-{age}_tpm_{kind}_{use}_cert")
    for age in CHAINS
    for kind in ("ecc", "rsa")
    for use in ("enc", "sign")
]


def der(path: Path) -> bytes:
    (certificate,) = x509.parse_many(path.read_bytes())
    return certificate.raw


def evidence(age: str, name: str) -> gcp_vtpm.GcpVtpmEvidence:
    """The real certificates over a fake TPM, whose key they are not for."""
    path, (root, intermediate, _) = vector("tpm", name), CHAINS[age]
    parts = replace(
        scene().parts,
        ak_certificate=der(path / "cert.pem"),
        ak_chain=(der(path / intermediate),),
        root_certificate=der(path / root),
        crls=(),
    )
    return gcp_vtpm.parse(parts.encode())


def provenance(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((vector("tpm", name) / "PROVENANCE.json").read_text())
    return found


@pytest.mark.parametrize(("age", "name"), NAMES)
def test_chain_and_instance(age: str, name: str) -> None:
    held, stated = evidence(age, name), provenance(name)
    at = datetime.fromisoformat(stated["as_of"])
    assert stated["expect"] == "valid"
    assert gcp_vtpm.verify_root(held) == CHAINS[age][2]
    assert len(gcp_vtpm.verify_chain(held, at)) == 3
    assert sorted(held.ak_certificate.extended_key_usage() or ()) == stated["expected_claims"]["eku"]
    instance = gcp_vtpm.instance_of(held.ak_certificate)
    assert (instance.zone, instance.region) == ("us-central1-a", "us-central1")
    assert (instance.project_number, instance.project_id) == (0x1B5A475C69, "google.com:wuale-gcp-testing")
    assert (instance.instance_id, instance.instance_name) == INSTANCES[age]
    assert instance.is_production
    assert instance.tpm_data_always_encrypted
    with pytest.raises(Untrusted) as refused:
        gcp_vtpm.verify_ak(held)
    assert refused.value.code == "gcp-vtpm.ak.key"


@pytest.mark.parametrize(("age", "name"), NAMES)
def test_only_certificates_for_signatures_are_for_aks(age: str, name: str) -> None:
    held = evidence(age, name)
    if name.endswith("sign_cert"):
        assert gcp_vtpm.verify_certificate(held).instance_name == INSTANCES[age][1]
        return
    with pytest.raises(Untrusted) as refused:
        gcp_vtpm.verify_certificate(held)
    assert refused.value.code == "gcp-vtpm.certificate.usage"


@pytest.mark.parametrize(("age", "name"), NAMES)
def test_the_other_chain_and_another_time_refuse(age: str, name: str) -> None:
    held = evidence(age, name)
    other = evidence("uca" if age == "pca" else "pca", name)
    at = datetime.fromisoformat(provenance(name)["as_of"])
    for found, when, code in (
        (other, at, "unknown_issuer"),
        (held, datetime(2020, 1, 1, tzinfo=timezone.utc), "not_yet_valid"),
        (held, datetime(2053, 1, 1, tzinfo=timezone.utc), "expired"),
    ):
        with pytest.raises(Untrusted) as refused:
            gcp_vtpm.verify_chain(found, when)
        assert refused.value.code == f"gcp-vtpm.chain.{code}"


def test_nothing_answers_for_revocation_without_a_list() -> None:
    held = evidence("uca", "gce-uca_tpm_rsa_sign_cert")
    with pytest.raises(Untrusted) as refused:
        gcp_vtpm.verify_revocation(held, datetime(2026, 11, 20, tzinfo=timezone.utc))
    assert refused.value.code == "gcp-vtpm.revocation.missing"


def test_a_real_certificate_without_its_end_is_malformed() -> None:
    real = der(vector("tpm", "gce-pca_tpm_rsa_sign_cert") / "cert.pem")
    with pytest.raises(Malformed):
        gcp_vtpm.parse(replace(scene().parts, ak_certificate=real[:-1]).encode())
