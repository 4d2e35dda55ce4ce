"""Real reports: each gives the verdict and the claims of its provenance, at its time."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fakes.vectors import vector
from reference import sev_snp as naive
from rlu_attestation import x509
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import sev_snp
from rlu_attestation.evidence.sev_snp import PINNED, ProductLine, SevSnpEvidence

pytestmark = pytest.mark.vectors

VALID = [
    "genoa-oak",
    "milan-oak-cb",
    "milan-oak-oc-release",
    "milan-oak-oc-staging",
    "milan-oak-rk-release",
    "milan-trustee",
    "milan-v2-gosevguest",
    "milan-vlek-trustee",
]
AZURE = ["azure-milan-v0", "azure-milan-v1", "azure-milan-v2"]
REJECTED = {"neg-milan-trustee-vcek-new": "sev-snp.chain.signature"}
ROOTS = {root.certificate_sha256: root.product.value for root in PINNED}


def test_every_vector_is_listed() -> None:
    there = {path.name for path in vector("sev-snp", "genoa-oak").parent.iterdir() if path.is_dir()}
    assert there == {*VALID, *REJECTED}


def load(path: Path) -> tuple[SevSnpEvidence, dict[str, Any], datetime]:
    provenance = json.loads((path / "PROVENANCE.json").read_text())
    ask, ark = x509.parse_many((path / "ask_ark.pem").read_bytes())
    file = path / "vek.der" if (path / "vek.der").exists() else path / "vek.pem"
    (vek,) = x509.parse_many(file.read_bytes())
    evidence = sev_snp.from_parts((path / "report.bin").read_bytes(), vek.raw, ask.raw, ark.raw)
    return evidence, provenance, datetime.fromisoformat(provenance["as_of"])


def accepts(evidence: SevSnpEvidence, at: datetime) -> dict[str, Any] | None:
    """What the naive verifier says."""
    chain = evidence.vek.raw, evidence.ask.raw, evidence.ark.raw
    try:
        return naive.verify(evidence.report.raw, *chain, None, at, ROOTS)
    except naive.Rejected:
        return None


@pytest.mark.parametrize(
    "kind_name", [("sev-snp", name) for name in VALID] + [("azure-vtpm", name) for name in AZURE]
)
def test_valid(kind_name: tuple[str, str]) -> None:
    evidence, provenance, at = load(vector(*kind_name))
    assert provenance["expect"] == "valid"
    claims, expected = sev_snp.verify(evidence, at), provenance["expected_claims"]
    report = claims.report
    assert report.version == expected["version"]
    assert claims.measurement.hex() == expected["measurement"]
    assert claims.report_data.hex() == expected["report_data"]
    assert report.chip_id.hex() == expected["chip_id"]
    assert report.reported_tcb.raw.hex() == expected["reported_tcb"]
    assert claims.policy.raw == int(expected["policy"], 16)
    assert claims.debug_allowed is expected["debug"]
    assert claims.vmpl == expected["vmpl"]
    fields = accepts(evidence, at)
    assert fields is not None
    assert fields["product"] == claims.product.value
    assert fields["cpuid"] == (
        None if report.cpuid_fam_id is None else (report.cpuid_fam_id, report.cpuid_mod_id, report.cpuid_step)
    )
    if kind_name[0] == "sev-snp":
        assert claims.host_data.hex() == expected["host_data"]
        assert claims.signing_key.name == expected["signing_key"]
        assert str(report.current_version) == expected["current_fw"]
        assert str(report.committed_version) == expected["committed_fw"]
        info = provenance["info"]
        assert claims.csp_id == info["csp"]
        assert claims.product is sev_snp.product_of_name(info["product_cert"])
        tcb = claims.reported_tcb
        assert info["tcb"] == {"bl": tcb.boot_loader, "tee": tcb.tee, "snp": tcb.snp, "ucode": tcb.microcode}
        if "cpuid" in expected:
            cpuid = {
                "family": report.cpuid_fam_id,
                "model": report.cpuid_mod_id,
                "stepping": report.cpuid_step,
            }
            assert cpuid == expected["cpuid"]


@pytest.mark.parametrize("name", REJECTED)
def test_rejected(name: str) -> None:
    evidence, provenance, at = load(vector("sev-snp", name))
    assert provenance["expect"] == "reject"
    with pytest.raises(RluError) as refused:
        sev_snp.verify(evidence, at)
    assert refused.value.code == REJECTED[name]
    assert refused.value.exit_code == 10
    assert accepts(evidence, at) is None
    root = sev_snp.verify_root(evidence)
    for step in (
        lambda: sev_snp.verify_signature(evidence),
        lambda: sev_snp.verify_chip_id(evidence, root.product),
        lambda: sev_snp.verify_tcb(evidence, root.product),
    ):
        with pytest.raises(RluError):
            step()


def test_the_vlek_vector_has_expired_since() -> None:
    evidence, _, _ = load(vector("sev-snp", "milan-vlek-trustee"))
    with pytest.raises(RluError) as refused:
        sev_snp.verify(evidence, datetime.fromisoformat("2026-11-20T00:00:00+00:00"))
    assert refused.value.code == "sev-snp.chain.expired"


def test_real_reports_have_no_stapled_list() -> None:
    evidence, _, at = load(vector("sev-snp", "genoa-oak"))
    with pytest.raises(RluError) as refused:
        sev_snp.verify_revocation(evidence, at)
    assert refused.value.code == "sev-snp.revocation.missing"


def test_reports_under_certificates_of_other_vectors_refuse() -> None:
    loaded = {name: load(vector("sev-snp", name))[0] for name in VALID}
    at = datetime.fromisoformat("2025-09-01T00:00:00+00:00")
    for name, evidence in loaded.items():
        for other, endorsements in loaded.items():
            mixed = sev_snp.from_parts(
                evidence.report.raw, endorsements.vek.raw, endorsements.ask.raw, endorsements.ark.raw
            )
            if mixed.vek == evidence.vek:
                sev_snp.verify(mixed, at)
                continue
            with pytest.raises(RluError):
                sev_snp.verify(mixed, at)
            assert accepts(mixed, at) is None, (name, other)


def test_roots_are_those_of_the_vectors() -> None:
    for name, line in (("milan-trustee", ProductLine.MILAN), ("genoa-oak", ProductLine.GENOA)):
        evidence, _, _ = load(vector("sev-snp", name))
        assert sev_snp.verify_root(evidence).product is line
