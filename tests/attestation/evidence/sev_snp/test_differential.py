"""The verifier and a naive second one agree: on every perturbation, on changed bits anywhere, and on what a genuine report says."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import amd, sev_snp_perturbations
from fakes.amd import Chip, Parts
from fakes.pki import AT
from fakes.sev_snp_perturbations import Perturbation, genuine
from reference import sev_snp as naive
from rlu_attestation import x509
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import sev_snp
from rlu_attestation.evidence.sev_snp import ProductLine, Root, SevSnpClaims

COMPARED = [
    found
    for found in sev_snp_perturbations.ALL
    if not found.name.startswith(("item-", "binding-"))  # forms that the naive verifier does not know
]


def ours(parts: Parts, at: datetime = AT) -> SevSnpClaims | None:
    """Claims when everything but the binding holds; without a list no revocation is asked for."""
    roots = [Root.of(x509.parse(amd.ark(line.value).der), line) for line in ProductLine]
    try:
        evidence = sev_snp.from_parts(parts.report, parts.vek, parts.ask, parts.ark, crl_der=parts.crl)
        claims = sev_snp.verify(evidence, at, roots)
        if parts.crl is not None:
            sev_snp.verify_revocation(evidence, at)
    except RluError:
        return None
    return claims


def theirs(parts: Parts, at: datetime = AT) -> dict[str, object] | None:
    roots = {hashlib.sha256(amd.ark(line.value).der).digest(): line.value for line in ProductLine}
    try:
        return naive.verify(parts.report, parts.vek, parts.ask, parts.ark, parts.crl, at, roots)
    except naive.Rejected:
        return None


@pytest.mark.parametrize("found", COMPARED, ids=lambda found: found.name)
def test_perturbations(found: Perturbation) -> None:
    parts = found.perturb(genuine(found.chip))
    accepted = ours(parts)
    assert (accepted is None) == (theirs(parts) is None)
    about_us = ("sev-snp.binding", "proof", "sev-snp.revocation.missing")
    assert (accepted is None) == any(not code.startswith(about_us) for code in found.codes) or (
        "sev-snp.revocation.missing" in found.codes and parts.crl is not None
    )


@pytest.mark.parametrize(
    "chip",
    [Chip(version=2), Chip(), Chip("Genoa", version=5), Chip("Turin", version=5), Chip(csp_id="CN=csp")],
)
def test_fields(chip: Chip) -> None:
    parts = genuine(chip)
    claims, fields = ours(parts), theirs(parts)
    assert claims is not None
    assert fields is not None
    compare(claims, fields)


def compare(claims: SevSnpClaims, fields: dict[str, object]) -> None:
    report = claims.report
    current, committed = report.current_version, report.committed_version
    assert fields == {
        "version": report.version,
        "guest_svn": claims.guest_svn,
        "policy": claims.policy.raw,
        "debug": claims.debug_allowed,
        "migrate_ma": claims.migration_agent_allowed,
        "vmpl": claims.vmpl,
        "platform_info": claims.platform_info.raw,
        "smt_en": claims.smt_enabled,
        "keys": report.author_key_en | report.mask_chip_key << 1 | report.signing_key << 2,
        "report_data": claims.report_data,
        "measurement": claims.measurement,
        "host_data": claims.host_data,
        "id_key_digest": report.id_key_digest,
        "author_key_digest": report.author_key_digest,
        "report_id": report.report_id,
        "report_id_ma": report.report_id_ma,
        "reported_tcb": report.reported_tcb.raw,
        "cpuid": None
        if report.cpuid_fam_id is None
        else (report.cpuid_fam_id, report.cpuid_mod_id, report.cpuid_step),
        "chip_id": report.chip_id,
        "committed_tcb": report.committed_tcb.raw,
        "current_version": (current.major, current.minor, current.build),
        "committed_version": (committed.major, committed.minor, committed.build),
        "launch_tcb": report.launch_tcb.raw,
        "product": claims.product.value,
    }


@functools.cache
def sample() -> Parts:
    return genuine(Chip("Genoa", version=5))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["report", "vek", "ask", "ark", "crl"]), st.data())
def test_changed_bytes(part: str, data: st.DataObject) -> None:
    parts = replace(sample())
    changed = bytearray(getattr(parts, part))
    position = data.draw(st.integers(0, len(changed) - 1))
    changed[position] ^= data.draw(st.integers(1, 255))
    setattr(parts, part, bytes(changed))
    assert ours(parts) is None
    assert theirs(parts) is None
