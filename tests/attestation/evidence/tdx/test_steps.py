"""Every way of going wrong has its own code, and only genuine evidence passes all steps."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from fakes import intel, tdx_changes, tdx_perturbations
from fakes.amd import b64u
from fakes.intel import DAY, Authority, Parts, Platform
from fakes.pki import AT
from fakes.tdx_changes import BINDING, REPORT_DATA, V4, V5, V15, Perturbation, genuine
from fakes.tdx_steps import failures
from rlu_attestation import merkle, x509
from rlu_attestation.errors import RluError, Untrusted
from rlu_attestation.evidence import tdx
from rlu_attestation.evidence.tdx import Root, TcbStatus

PLATFORMS = {"v4": V4, "v5-td1.0": V5, "v5-td1.5": V15, "processor-ca": Platform(processor=True)}
ABOUT_US = ("tdx.revocation", "tdx.binding", "proof")


def roots() -> list[Root]:
    return [Root.of(x509.parse(intel.root().der))]


def of(parts: Parts) -> tdx.TdxEvidence:
    return tdx.parse(parts.item())


@pytest.mark.parametrize("name", PLATFORMS)
def test_genuine_evidence_passes(name: str) -> None:
    parts = genuine(PLATFORMS[name])
    assert failures(parts.item(), BINDING, roots()) == []
    claims = tdx.verify(of(parts), AT, roots())
    assert claims.status is TcbStatus.UP_TO_DATE
    assert claims.report_data == REPORT_DATA
    assert claims.quote.version == PLATFORMS[name].version
    assert (claims.tee_tcb_svn_2 is None) == (PLATFORMS[name].body == 2)


@pytest.mark.parametrize("found", tdx_perturbations.ALL, ids=lambda found: found.name)
def test_perturbation(found: Perturbation) -> None:
    data = found.perturb(genuine(found.platform)).item()
    assert failures(data, BINDING, roots()) == list(found.codes)
    if any(not code.startswith(ABOUT_US) for code in found.codes):
        with pytest.raises(RluError) as refused:
            tdx.verify(tdx.parse(data), AT, roots())
        assert refused.value.code == found.codes[0].removeprefix("parse: ")


def test_perturbations_have_names_of_their_own() -> None:
    names = [found.name for found in tdx_perturbations.ALL]
    assert len(set(names)) == len(names) >= 40


@pytest.mark.parametrize(
    ("at", "codes"),
    [
        (AT - 5 * DAY, []),
        (AT - 5 * DAY - timedelta(seconds=1), ["tdx.qe_identity.not_yet_valid"]),
        (AT + 20 * DAY, []),
        (
            AT + 20 * DAY + timedelta(seconds=1),
            ["tdx.tcb_info.stale", "tdx.revocation.pck_crl.stale"],
        ),
        (
            AT + 7 * 365 * DAY,
            [
                "tdx.chain.expired",
                "tdx.tcb_info.stale",
                "tdx.qe_identity.stale",
                "tdx.revocation.pck_crl.stale",
            ],
        ),
    ],
)
def test_the_time_is_the_callers(at: datetime, codes: list[str]) -> None:
    assert failures(genuine().item(), BINDING, roots(), at) == codes


def test_a_time_without_a_zone_is_misuse() -> None:
    for step in (tdx.verify_chain, tdx.verify_tcb_info, tdx.verify_qe_identity, tdx.verify_revocation):
        with pytest.raises(ValueError, match="time zone"):
            step(of(genuine()), AT.replace(tzinfo=None))


def test_without_roots_of_ones_own_only_intels_counts() -> None:
    assert failures(genuine().item(), BINDING, tdx.PINNED) == ["tdx.root.unknown"]
    assert failures(genuine().item(), BINDING, []) == ["tdx.root.unknown"]


def test_a_root_of_ones_own_must_have_signed_itself() -> None:
    crossed = Authority("Crossed", 1, tdx_changes.another_root())
    authority = Authority(intel.PLATFORM_CA, 2, crossed, path_length=0)
    chain = intel.pem(V4.certificate(issuer=authority), authority.der, crossed.der)
    parts = tdx_changes.changed(chain=chain)(genuine())
    trusted = [Root.of(x509.parse(crossed.der))]
    assert failures(parts.item(), BINDING, trusted)[0] == "tdx.root.signature"


def test_an_expired_root_refuses() -> None:
    old = Authority(intel.ROOT, 1, not_after=AT - timedelta(seconds=1))
    authority = Authority(intel.PLATFORM_CA, 2, old, path_length=0)
    chain = intel.pem(V4.certificate(issuer=authority), authority.der, old.der)
    parts = tdx_changes.changed(chain=chain)(genuine())
    assert failures(parts.item(), BINDING, [Root.of(x509.parse(old.der))])[0] == "tdx.chain.expired"


def test_a_renewed_certificate_of_the_same_authority_may_head_the_list() -> None:
    renewed = Authority(intel.PLATFORM_CA, 0x2777, intel.root(), path_length=0)
    chain = [renewed.der, intel.root().der]
    parts = tdx_changes.stapled(pck_crl_issuer_chain=chain)(genuine())
    assert failures(parts.item(), BINDING, roots()) == []
    revoked = tdx_changes.crl("root_ca_crl", serials=(0x2777,))(parts)
    assert failures(revoked.item(), BINDING, roots()) == ["tdx.revocation.root_ca_crl.revoked"]


def test_a_shared_quote_binds_each_statement() -> None:
    tree = merkle.Tree()
    bindings = [bytes([n]) * 32 for n in range(5)]
    for binding in bindings:
        tree.append(merkle.leaf_hash(binding))
    parts = intel.parts(V4, tree.root().ljust(64, b"\0"))
    for index, binding in enumerate(bindings):
        path = [b64u(node) for node in tree.inclusion_path(index)]
        parts.binding = {"leaf_index": index, "path": path, "tree_size": 5}
        assert failures(parts.item(), binding, roots()) == []
        assert failures(parts.item(), bindings[index - 1], roots()) == ["tdx.binding.mismatch"]


def test_a_bare_quote_has_no_binding_but_report_data() -> None:
    item = of(genuine())
    evidence = tdx.from_parts(item.quote.raw, item.collateral)
    tdx.verify(evidence, AT, roots())
    with pytest.raises(Untrusted) as refused:
        tdx.verify_binding(evidence, BINDING)
    assert refused.value.code == "tdx.binding.missing"
    tdx.verify_report_data(evidence, REPORT_DATA)
    with pytest.raises(Untrusted) as refused:
        tdx.verify_report_data(evidence, bytes(64))
    assert refused.value.code == "tdx.report_data.mismatch"
    with pytest.raises(ValueError, match="64 bytes"):
        tdx.verify_report_data(evidence, REPORT_DATA[:32])


def test_without_collateral_the_quote_is_still_verified() -> None:
    parts = genuine()
    parts.collateral = None
    assert failures(parts.item(), BINDING, roots()) == ["tdx.collateral.missing"] * 3
    assert tdx.verify_pck(of(parts)).fmspc.hex() == "90c06f000000"
