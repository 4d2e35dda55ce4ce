"""Every way of going wrong has its own code, and only genuine evidence passes all steps."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from fakes import amd, sev_snp_perturbations
from fakes.amd import Chip, Parts
from fakes.pki import AT, YEAR
from fakes.sev_snp_perturbations import BINDING, REPORT_DATA, Perturbation, genuine
from fakes.sev_snp_steps import failures
from rlu_attestation import merkle, x509
from rlu_attestation.errors import RluError, Untrusted
from rlu_attestation.evidence import sev_snp
from rlu_attestation.evidence.sev_snp import ProductLine, Root, SigningKey

CHIPS = [
    Chip(version=2),
    Chip(version=3),
    Chip("Genoa", version=3),
    Chip("Genoa", version=5),
    Chip("Turin", version=2),
    Chip("Turin", version=3),
    Chip("Turin", version=5),
    Chip(csp_id="CN=cc-us-east-2.example.com"),
    Chip("Turin", csp_id="CN=cc-us-east-2.example.com", version=5),
]


def roots() -> list[Root]:
    return [Root.of(x509.parse(amd.ark(line.value).der), line) for line in ProductLine]


def of(parts: Parts) -> sev_snp.SevSnpEvidence:
    return sev_snp.parse(parts.item())


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: f"{chip.product}-v{chip.version}-{chip.common_name}")
def test_genuine_evidence_passes(chip: Chip) -> None:
    parts = genuine(chip)
    assert failures(parts.item(), BINDING, roots()) == []
    claims = sev_snp.verify(of(parts), AT, roots())
    assert claims.product.value == chip.product
    assert claims.signing_key is (SigningKey.VCEK if chip.csp_id is None else SigningKey.VLEK)
    assert claims.csp_id == chip.csp_id
    assert claims.report_data == REPORT_DATA
    assert (claims.chip_id is None) == (chip.csp_id is not None)


@pytest.mark.parametrize("found", sev_snp_perturbations.ALL, ids=lambda found: found.name)
def test_perturbation(found: Perturbation) -> None:
    data = found.perturb(genuine(found.chip)).item()
    assert failures(data, BINDING, roots()) == list(found.codes)
    if any(not code.startswith(("sev-snp.revocation", "sev-snp.binding", "proof")) for code in found.codes):
        with pytest.raises(RluError) as refused:
            sev_snp.verify(sev_snp.parse(data), AT, roots())
        assert refused.value.code == found.codes[0].removeprefix("parse: ")


def test_perturbations_have_names_of_their_own() -> None:
    names = [found.name for found in sev_snp_perturbations.ALL]
    assert len(set(names)) == len(names) >= 40


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (AT - YEAR, None),
        (AT - YEAR - timedelta(seconds=1), "sev-snp.chain.not_yet_valid"),
        (AT + 6 * YEAR, None),
        (AT + 6 * YEAR + timedelta(seconds=1), "sev-snp.chain.expired"),
        (AT + 30 * YEAR, "sev-snp.chain.expired"),
    ],
)
def test_the_time_is_the_callers(at: datetime, code: str | None) -> None:
    evidence = of(genuine())
    if code is None:
        sev_snp.verify(evidence, at, roots())
        return
    with pytest.raises(Untrusted) as refused:
        sev_snp.verify(evidence, at, roots())
    assert refused.value.code == code


def test_a_time_without_a_zone_is_misuse() -> None:
    for step in (sev_snp.verify_chain, sev_snp.verify_revocation):
        with pytest.raises(ValueError, match="time zone"):
            step(of(genuine()), AT.replace(tzinfo=None))


def test_without_roots_of_ones_own_only_amds_count() -> None:
    assert failures(genuine().item(), BINDING, sev_snp.PINNED) == ["sev-snp.root.unknown"]
    assert failures(genuine().item(), BINDING, []) == ["sev-snp.root.unknown"]


def test_a_root_of_ones_own_must_have_signed_itself() -> None:
    crossed = amd.Authority("ARK-Crossed", 1, amd.ark("Genoa"))
    signing = amd.Authority("SEV-Milan", 2, crossed, path_length=0, usages=(5,))
    parts = sev_snp_perturbations.under(crossed, signing)(genuine())
    trusted = [Root.of(x509.parse(crossed.der), ProductLine.MILAN)]
    assert failures(parts.item(), BINDING, trusted) == ["sev-snp.root.signature"]


def test_an_expired_root_refuses() -> None:
    old = amd.Authority("ARK-Old", 1, not_after=AT - timedelta(seconds=1))
    signing = amd.Authority("SEV-Milan", 2, old, path_length=0, usages=(5,))
    parts = sev_snp_perturbations.under(old, signing)(genuine())
    trusted = [Root.of(x509.parse(old.der), ProductLine.MILAN)]
    assert failures(parts.item(), BINDING, trusted) == ["sev-snp.chain.expired"]


def test_a_weak_root_refuses() -> None:
    weak = amd.Authority("ARK-Weak", 1, kind="rsa1024")
    signing = amd.Authority("SEV-Milan", 2, weak, path_length=0, usages=(5,))
    parts = sev_snp_perturbations.under(weak, signing)(genuine())
    trusted = [Root.of(x509.parse(weak.der), ProductLine.MILAN)]
    assert failures(parts.item(), BINDING, trusted) == [
        "sev-snp.root.weak_key",
        "sev-snp.chain.weak_key",
        "sev-snp.revocation.weak_key",
    ]


def test_hwid_as_the_specification_has_it() -> None:
    chip = Chip()
    parts = genuine()
    parts.vek = chip.certificate(extensions=chip.extensions(wrapped=True))
    assert failures(parts.item(), BINDING, roots()) == []


def test_a_shared_report_binds_each_statement() -> None:
    tree = merkle.Tree()
    bindings = [bytes([n]) * 32 for n in range(5)]
    for binding in bindings:
        tree.append(merkle.leaf_hash(binding))
    parts = amd.parts(Chip(), tree.root().ljust(64, b"\0"))
    for index, binding in enumerate(bindings):
        path = [amd.b64u(node) for node in tree.inclusion_path(index)]
        parts.binding = {"leaf_index": index, "path": path, "tree_size": 5}
        assert failures(parts.item(), binding, roots()) == []
        assert failures(parts.item(), bindings[index - 1], roots()) == ["sev-snp.binding.mismatch"]


def test_a_bare_report_has_no_binding_but_report_data() -> None:
    parts = genuine()
    evidence = sev_snp.from_parts(parts.report, parts.vek, parts.ask, parts.ark)
    sev_snp.verify(evidence, AT, roots())
    with pytest.raises(Untrusted) as refused:
        sev_snp.verify_binding(evidence, BINDING)
    assert refused.value.code == "sev-snp.binding.missing"
    sev_snp.verify_report_data(evidence, REPORT_DATA)
    with pytest.raises(Untrusted) as refused:
        sev_snp.verify_report_data(evidence, bytes(64))
    assert refused.value.code == "sev-snp.report_data.mismatch"
    with pytest.raises(ValueError, match="64 bytes"):
        sev_snp.verify_report_data(evidence, REPORT_DATA[:32])


def test_masked_chip_key_is_no_matter_for_a_vlek() -> None:
    chip = Chip(csp_id="CN=csp")
    parts = genuine(chip)
    parts.report = chip.report(REPORT_DATA, KEY_INFO=1 << 2 | 2)
    assert failures(parts.item(), BINDING, roots()) == []


def test_masked_chip_is_no_matter_for_a_vlek() -> None:
    evidence = of(genuine(Chip(csp_id="CN=csp")))
    assert sev_snp.verify_chip_id(evidence, ProductLine.MILAN) is None
