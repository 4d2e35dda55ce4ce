"""Intel TDX: a trust domain whose memory its host cannot read holds the key; Intel's word on the TCB comes as collateral."""

from __future__ import annotations

from dataclasses import replace

from rlu_attestation.evidence import tdx
from rlu_attestation.evidence.tdx import Root, TdxClaims, TdxEvidence
from rlu_attestation.evidence.tdx.event_log import Replay
from rlu_attestation.verdict import Claim, Source
from rlu_attestation.verifier.context import Subject
from rlu_attestation.verifier.proof import Conditions, HardwareProof, Tcb
from rlu_attestation.verifier.trail import (
    Failed,
    NotApplicable,
    Trail,
    absent_is_not_made,
    blocking,
    need,
)

UNKNOWN = "unknown"
"""Stands for Intel's status where nothing could be evaluated, so that a rule on statuses refuses it."""

parse = tdx.parse


def check(
    trail: Trail, conditions: Conditions, subject: Subject, given: TdxEvidence | Failed
) -> HardwareProof | Failed:
    """Run the steps; gives a `Failed` unless every one passed or was waived."""
    at, run = conditions.moment, trail.check
    roots = (*tdx.PINNED, *map(Root.of, conditions.roots(tdx.KIND)))
    held = (
        given
        if isinstance(given, Failed)
        else trail.check("tdx.collateral", lambda: with_collateral(given, conditions))
    )
    root = run("tdx.root", lambda: tdx.verify_root(need(held), roots))
    chain = run("tdx.chain", lambda: tdx.verify_chain(need(held), at))
    pck = run("tdx.pck", lambda: tdx.verify_pck(need(held)), lambda found: f"FMSPC {found.fmspc.hex()}")
    report = run("tdx.qe_report", lambda: tdx.verify_qe_report(need(held)))
    key = run("tdx.attestation_key", lambda: tdx.verify_attestation_key(need(held)))
    signature = run("tdx.signature", lambda: tdx.verify_signature(need(held)))
    info = run("tdx.tcb_info", lambda: absent_is_not_made(lambda: tdx.verify_tcb_info(need(held), at)))
    identity = run(
        "tdx.qe_identity", lambda: absent_is_not_made(lambda: tdx.verify_qe_identity(need(held), at))
    )
    qe = run("tdx.qe", lambda: tdx.verify_qe(need(held), need(identity)))
    module = run("tdx.module", lambda: tdx.verify_module(need(held), need(info)))
    tcb = run(
        "tdx.tcb",
        lambda: tdx.verify_tcb(need(held), need(pck), need(info), need(module), need(qe)),
        lambda found: found.status.value,
    )
    revoked = run(
        "tdx.revocation",
        lambda: absent_is_not_made(lambda: tdx.verify_revocation(need(held), at, conditions.crls())),
        lambda found: f"lists of {found[0].this_update.date()} and {found[1].this_update.date()}",
    )
    log = run("tdx.event_log", lambda: _replay(need(held)), lambda found: f"{len(found.log.events)} events")
    bound = run("tdx.binding", lambda: _bind(need(held), subject), str)
    failed = blocking(
        (held, root, chain, pck, report, key, signature, info, identity, qe, module, tcb, revoked, log, bound)
    )
    if failed is not None:
        return failed
    if isinstance(tcb, Failed) or isinstance(info, Failed) or isinstance(identity, Failed):
        return proof(need(held), Tcb(tdx.KIND, status=UNKNOWN))
    return proof(need(held), tcb_of(tdx.claims_of(need(held), need(pck), info, identity, tcb)))


def with_collateral(evidence: TdxEvidence, conditions: Conditions) -> TdxEvidence:
    """The evidence with the collateral beside it, which takes the place of what is stapled.

    Raises:
        Malformed: `tdx.collateral.encoding`.
    """
    beside = conditions.of("tdx-collateral")
    return replace(evidence, collateral=tdx.collateral_from_json(beside[-1])) if beside else evidence


def proof(evidence: TdxEvidence, tcb: Tcb) -> HardwareProof:
    """The quote in the verifier's words."""
    report = evidence.quote.report
    attributes = report.td_attributes
    hazards = {}
    if attributes.migratable:
        hazards["migration"] = "the TD, and its secrets, can be moved to another machine"
    if attributes.perfmon:
        hazards["performance-monitoring"] = (
            "the TD may count events of the CPU, which leaks across its border"
        )
    if not attributes.sept_ve_disable:
        hazards["sept-ve-enabled"] = (
            "the host can make pages vanish under the TD, and its software must notice"
        )
    measurements = {
        "mr_td": report.mr_td,
        "mr_seam": report.mr_seam,
        "mr_config_id": report.mr_config_id,
        "mr_owner": report.mr_owner,
        "mr_owner_config": report.mr_owner_config,
        **{f"rtmr{number}": value for number, value in enumerate(report.rtmr)},
    }
    return HardwareProof(
        kind=tdx.KIND,
        what="Intel TDX trust domain",
        claims=(Claim("tee", f"MRTD {report.mr_td.hex()}", Source.HARDWARE),),
        measurements=measurements,
        tcb=tcb,
        debug=attributes.under_debug,
        hazards=hazards,
        isolated=True,
    )


def tcb_of(claims: TdxClaims) -> Tcb:
    """Intel's word on the TCB."""
    return Tcb(
        tdx.KIND,
        status=claims.status.value,
        current=None if claims.current_status is claims.launch_status else claims.current_status.value,
        advisories=claims.advisory_ids,
        evaluation=claims.tcb_evaluation_data_number,
    )


def _replay(held: TdxEvidence) -> Replay:
    if held.event_log is None:
        raise NotApplicable("the evidence holds no event log")
    return tdx.verify_event_log(held)


def _bind(held: TdxEvidence, subject: Subject) -> str:
    return subject.bound(
        "tdx.binding",
        lambda binding: tdx.verify_binding(held, binding),
        lambda expected: tdx.verify_report_data(held, expected),
        size=64,
    )
