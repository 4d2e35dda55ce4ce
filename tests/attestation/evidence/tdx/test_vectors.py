"""Real quotes: each gives the verdict and the claims of its provenance, at its time, and what Intel's collateral says of it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import dcap_qvl
import pytest

from fakes.vectors import vector
from rlu_attestation import x509
from rlu_attestation.errors import RluError, Unsupported
from rlu_attestation.evidence import tdx
from rlu_attestation.evidence.tdx import TcbStatus, TdxEvidence

pytestmark = pytest.mark.vectors

STATUSES = {
    "neg-debug-v4-trustee": "UpToDate",
    "neg-outofdate-v4-automata": "OutOfDate",
    "v4-azure": "OutOfDate",
    "v4-gcp-cos113": "UpToDate",
    "v4-phala": "UpToDate",
}
REFUSED = {
    "neg-tcbtooold-v4-google-spr-e4": "tdx.tcb.unsupported",
    "neg-tcbtooold-v4-phala": "tdx.tcb.unsupported",
    "neg-tcbtooold-v5-phala": "tdx.tcb.unsupported",
    "neg-tcbtooold-v5-trustee": "tdx.tcb.unsupported",
    "v4-nocollateral-trustee6": "tdx.collateral.missing",
}
GARBAGE = {"neg-tcbtooold-v4-google-spr-e4": 39}
"""Bytes after the quote that are no padding; they refuse, so that they are cut off here."""


def load(name: str) -> tuple[TdxEvidence, dict[str, Any], datetime, Path]:
    path = vector("tdx", name)
    provenance = json.loads((path / "PROVENANCE.json").read_text())
    buffer = (path / "quote.bin").read_bytes()
    stapled = path / "collateral.json"
    collateral = tdx.collateral_from_json(stapled.read_bytes()) if stapled.exists() else None
    quote = tdx.trim(buffer[: len(buffer) - GARBAGE.get(name, 0)])
    return (
        tdx.from_parts(quote, collateral),
        provenance,
        datetime.fromisoformat(provenance["as_of"]),
        path,
    )


def test_every_vector_is_listed() -> None:
    there = {path.name for path in vector("tdx", "v4-phala").parent.iterdir() if path.is_dir()}
    assert there == {*STATUSES, *REFUSED, "sgx-v3-phala"}


@pytest.mark.parametrize("name", STATUSES)
def test_verified(name: str) -> None:
    evidence, provenance, at, _ = load(name)
    claims = tdx.verify(evidence, at)
    tdx.verify_revocation(evidence, at)
    assert claims.status is TcbStatus(STATUSES[name])
    if provenance["expect"] == "valid":
        assert claims.status.value == provenance["verifies"]
        assert (claims.debug, claims.sept_ve_disable, claims.advisory_ids) == (False, True, ())
    if provenance["dcap_qvl_0_7_0"][0] == claims.status.value:
        assert list(claims.advisory_ids) == provenance["dcap_qvl_0_7_0"][1]
    # Rejected by what a policy asks: debugging, and Azure's TDs, which OpenHCL guards instead of SEPT_VE_DISABLE.
    assert claims.debug is (name == "neg-debug-v4-trustee")
    assert claims.sept_ve_disable is (name != "v4-azure")
    assert claims.earliest_expiration_date > at


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    evidence, provenance, at, _ = load(name)
    assert provenance["expect"] in ("reject", "sig-only")
    with pytest.raises(RluError) as refused:
        tdx.verify(evidence, at)
    assert (refused.value.code, refused.value.exit_code) == (REFUSED[name], 10)


@pytest.mark.parametrize("name", [*STATUSES, *REFUSED])
def test_signatures_and_claims(name: str) -> None:
    evidence, provenance, at, _ = load(name)
    assert set(provenance["signature_chain"].values()) == {"ok"}
    tdx.verify_root(evidence)
    tdx.verify_chain(evidence, at)
    tdx.verify_pck(evidence)
    tdx.verify_qe_report(evidence)
    tdx.verify_attestation_key(evidence)
    tdx.verify_signature(evidence)
    report = evidence.quote.report
    found = {
        "tee_tcb_svn": report.tee_tcb_svn.hex(),
        "mr_seam": report.mr_seam.hex(),
        "td_attributes": report.td_attributes.raw.to_bytes(8, "little").hex(),
        "xfam": report.xfam.to_bytes(8, "little").hex(),
        "mr_td": report.mr_td.hex(),
        "mr_config_id": report.mr_config_id.hex(),
        **{f"rtmr{n}": value.hex() for n, value in enumerate(report.rtmr)},
        "report_data": report.report_data.hex(),
    }
    if report.tee_tcb_svn_2 is not None and report.mr_service_td is not None:
        found |= {"tee_tcb_svn2": report.tee_tcb_svn_2.hex(), "mr_service_td": report.mr_service_td.hex()}
    assert found == provenance["expected_claims"]


def test_sgx_quotes_are_recognised_and_refused() -> None:
    path = vector("tdx", "sgx-v3-phala")
    quote = (path / "quote.bin").read_bytes()
    with pytest.raises(Unsupported) as refused:
        tdx.parse_quote(tdx.trim(quote))
    assert refused.value.code == "tdx.quote.sgx"
    assert not tdx.is_quote(quote)
    collateral = tdx.collateral_from_json((path / "collateral.json").read_bytes())
    with pytest.raises(Unsupported) as refused:
        tdx.parse_tcb_info(collateral.tcb_info)
    assert refused.value.code == "tdx.tcb_info.version"


def test_bytes_after_a_quote_refuse() -> None:
    buffer = (vector("tdx", "neg-tcbtooold-v4-google-spr-e4") / "quote.bin").read_bytes()
    assert tdx.trim(buffer) == buffer
    with pytest.raises(RluError) as refused:
        tdx.parse_quote(tdx.trim(buffer))
    assert refused.value.code == "tdx.quote.encoding"


def test_collateral_of_another_platform_refuses() -> None:
    phala, _, at, _ = load("v4-phala")
    other, _, _, _ = load("neg-tcbtooold-v5-trustee")
    with pytest.raises(RluError) as refused:
        tdx.verify(tdx.from_parts(phala.quote.raw, other.collateral), at)
    assert refused.value.code == "tdx.tcb.fmspc"


def test_collateral_ages() -> None:
    evidence, _, _, _ = load("v4-phala")
    with pytest.raises(RluError) as refused:
        tdx.verify(evidence, datetime.fromisoformat("2026-11-20T00:00:00+00:00"))
    assert refused.value.code == "tdx.tcb_info.stale"


def test_the_root_is_the_vectors() -> None:
    evidence, _, _, path = load("v4-phala")
    root = x509.parse((path.parent / "intel_sgx_root_ca.der").read_bytes())
    assert tdx.verify_root(evidence).is_of(root)


@pytest.mark.parametrize("name", [name for name in [*STATUSES, *REFUSED] if "nocollateral" not in name])
def test_dcap_qvl_agrees(name: str) -> None:
    evidence, _, at, path = load(name)
    collateral = dcap_qvl.QuoteCollateralV3.from_json((path / "collateral.json").read_text())
    try:
        theirs = dcap_qvl.verify(evidence.quote.raw, collateral, int(at.timestamp()))
        found = theirs.status, theirs.advisory_ids
    except ValueError:
        found = None
    try:
        claims = tdx.verify(evidence, at)
    except RluError:
        assert found is None
        return
    if claims.debug or not claims.sept_ve_disable:  # a policy of dcap-qvl's own
        assert found is None
    else:
        assert found == (claims.status.value, list(claims.advisory_ids))


def test_the_event_log_leads_to_the_rtmrs() -> None:
    evidence, provenance, _, path = load("v4-gcp-cos113")
    log = (path / "ccel.bin").read_bytes()
    found = tdx.verify_event_log(tdx.from_parts(evidence.quote.raw, event_log=log))
    assert found.covered == (0, 1, 2)
    assert all(provenance["ccel_replay"].values())
    other, _, _, _ = load("v4-phala")
    with pytest.raises(RluError) as refused:
        tdx.verify_event_log(tdx.from_parts(other.quote.raw, event_log=log))
    assert refused.value.code == "tdx.event_log.mismatch"
    nonce = (path / "nonce.dat").read_bytes()
    tdx.verify_report_data(evidence, nonce)
