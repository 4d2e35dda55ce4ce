"""What a policy can ask of a verified quote."""

from __future__ import annotations

import pytest

from fakes import intel
from fakes.intel import DAY
from fakes.pki import AT
from fakes.tdx_changes import REPORT_DATA, V15, crl, genuine, identity, info, members, pck, quoted
from rlu_attestation import x509
from rlu_attestation.evidence import tdx
from rlu_attestation.evidence.tdx import Root, TdxClaims, claims_of


def claims(perturb: object = None, platform: intel.Platform | None = None) -> TdxClaims:
    parts = genuine(platform) if platform else genuine()
    if perturb is not None:
        parts = perturb(parts)  # type: ignore[operator]
    return tdx.verify(tdx.parse(parts.item()), AT, [Root.of(x509.parse(intel.root().der))])


def attributes(raw: int) -> TdxClaims:
    return claims(quoted(TDATTRIBUTES=raw))


def test_debug_on_is_genuine_and_a_claim() -> None:
    assert not claims().debug
    assert attributes(1).debug
    assert attributes(1).td_attributes.debug


@pytest.mark.parametrize("bit", [4, 5, 6])
def test_profiling_counts_as_debug(bit: int) -> None:
    assert attributes(1 << bit).debug
    assert not attributes(1 << bit).td_attributes.debug


def test_attributes() -> None:
    assert claims().sept_ve_disable
    assert not attributes(0).sept_ve_disable
    assert attributes(1 << 29).migratable
    assert not attributes(1 << 30).migratable
    found = attributes(sum(1 << bit for bit in (4, 5, 6, 16, 27, 28, 29, 30, 31, 62, 63))).td_attributes
    names = ("icssd", "lass", "sept_ve_disable", "migratable", "pks", "kl", "tpa", "perfmon")
    assert all(getattr(found, name) for name in names)
    assert not any(getattr(attributes(1).td_attributes, name) for name in names)


def test_measurements() -> None:
    found = claims()
    assert found.rtmr == (b"\x20" * 48, b"\x21" * 48, b"\x22" * 48, bytes(48))
    assert (found.mr_td, found.mr_seam) == (b"\x11" * 48, bytes(range(48)))
    assert (found.mr_config_id, found.mr_owner, found.mr_owner_config) == (
        b"\x12" * 48,
        b"\x13" * 48,
        b"\x14" * 48,
    )
    assert found.report_data == REPORT_DATA
    assert found.report.xfam == 0x642E7


def test_service_tds() -> None:
    assert claims().mr_service_td is None
    assert claims(platform=V15).mr_service_td is None
    assert claims(quoted(V15, MRSERVICETD=b"\5" * 48), V15).mr_service_td == b"\5" * 48


def test_versions() -> None:
    found = claims(platform=V15)
    assert found.tee_tcb_svn.hex() == "060103" + "00" * 13
    assert found.tee_tcb_svn_2 is not None
    assert found.tee_tcb_svn_2.hex() == "070104" + "00" * 13
    assert (found.pce_svn, found.qe_svn, found.fmspc.hex()) == (13, 6, "90c06f000000")
    assert claims().tee_tcb_svn_2 is None


def test_the_lower_evaluation_number_counts() -> None:
    assert claims().tcb_evaluation_data_number == 17
    assert claims(identity(tcbEvaluationDataNumber=30)).tcb_evaluation_data_number == 18
    assert claims(info(tcbEvaluationDataNumber=2)).tcb_evaluation_data_number == 2


def test_dates() -> None:
    found = claims()
    assert found.earliest_issue_date == AT - 10 * DAY
    assert found.earliest_expiration_date == AT + 20 * DAY
    assert found.tcb_date.isoformat() == "2024-03-13T00:00:00+00:00"
    sooner = [
        pck(not_after=AT + DAY),
        info(nextUpdate=intel.stamp(AT + DAY)),
        identity(nextUpdate=intel.stamp(AT + DAY)),
        crl("pck_crl", next_update=AT + DAY),
        crl("root_ca_crl", next_update=AT + DAY),
    ]
    assert all(claims(perturb).earliest_expiration_date == AT + DAY for perturb in sooner)
    assert claims(crl("pck_crl", this_update=AT - 30 * DAY)).earliest_issue_date == AT - 30 * DAY
    assert claims(info(issueDate=intel.stamp(AT - 40 * DAY))).earliest_issue_date == AT - 40 * DAY


def test_platform_configuration() -> None:
    assert claims().smt_enabled is True
    assert claims(platform=intel.Platform(processor=True)).smt_enabled is None
    off = intel.sgx_extension({"3": b"\x01\x01\x00"}, f"{intel.SGX}.7")
    found = claims(members(m7=off))
    assert (found.smt_enabled, found.pck.cached_keys) == (False, None)


def test_claims_of_evidence_without_collateral_are_misuse() -> None:
    parts = genuine()
    parts.collateral = None
    found = claims()
    evidence = tdx.parse(parts.item())
    tcb_info = tdx.parse_tcb_info(intel.text_of(intel.tcb_info()))
    qe_identity = tdx.parse_qe_identity(intel.text_of(intel.qe_identity()))
    with pytest.raises(ValueError, match="collateral"):
        claims_of(evidence, found.pck, tcb_info, qe_identity, found.tcb)
