"""Evidence that stands alone: a report, quote or document as the hardware made it, without an instance statement around it.

The same steps as for an instance, and the rules of the policy that speak about hardware. What it proves is less: that such hardware exists
and was in that state when it answered, and, if the caller knows what it should be about, that it answered for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlu_attestation.bundle import Collateral
from rlu_attestation.evidence import NVIDIA
from rlu_attestation.policy import Policy
from rlu_attestation.verdict import Claim, Source, Verdict
from rlu_attestation.verifier.appraisal import appraise_values
from rlu_attestation.verifier.context import Subject
from rlu_attestation.verifier.hardware import appraise_gpu_reports, appraise_hardware
from rlu_attestation.verifier.kinds import ROOMS
from rlu_attestation.verifier.proof import Conditions, GpuProof, HardwareProof
from rlu_attestation.verifier.trail import Failed, NotApplicable, Trail, need

KINDS = (*ROOMS, NVIDIA)
"""The kinds of evidence that can be verified alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceContext:
    """The input of a verification of evidence alone.

    Attributes:
        kind: one of `KINDS`.
        evidence: what the kind's `parse` or `from_parts` gave, nothing of it verified.
        at: the time of every check, in seconds since the epoch.
        expected: what the evidence must be about: report data, qualifying data or nonce, byte for byte; None: the caller cannot say.
    """

    kind: str
    evidence: Any
    policy: Policy
    at: int
    expected: bytes | None = None
    collateral: tuple[Collateral, ...] = ()


def verify_evidence(context: EvidenceContext) -> Verdict:
    """Verify evidence against a policy; every finding is a step of the verdict."""
    return prove_evidence(context)[0]


def prove_evidence(context: EvidenceContext) -> tuple[Verdict, HardwareProof | GpuProof | None]:
    """As `verify_evidence`, with what was proved; None if a step that proves it failed. The policy's judgement is in the verdict."""
    trail = Trail(context.policy.waivers)
    conditions = Conditions(context.policy, context.at, context.collateral)
    subject = Subject(None, context.expected)
    proof: HardwareProof | GpuProof | Failed
    if context.kind == NVIDIA:
        from rlu_attestation.verifier.kinds import nvidia  # its reference values take long to import

        devices = proof = nvidia.check(trail, conditions, subject, context.evidence)
        trail.check("policy.gpu", lambda: appraise_gpu_reports(need(devices), context.policy), str)
    else:
        hardware = proof = ROOMS[context.kind].check(trail, conditions, subject, context.evidence)
        appraise_hardware(trail, context.policy, lambda: need(hardware))
        trail.check("policy.debug", lambda: _appraise_debug(need(hardware), context.policy), str)
    verdict = Verdict(
        steps=trail.steps,
        claims=() if isinstance(proof, Failed) else _claims(proof),
        covers=("evidence",),
        at=context.at,
        freshness="verifier" if context.expected else "none",
        emulated=isinstance(proof, HardwareProof) and proof.emulated,
        policy=context.policy.digest,
    )
    return verdict, None if isinstance(proof, Failed) else proof


def _appraise_debug(proof: HardwareProof, policy: Policy) -> str:
    if proof.debug is None:
        raise NotApplicable("this evidence cannot tell")
    return appraise_values("policy.debug", [("debug_states", _state(proof))], policy)


def _state(proof: HardwareProof) -> str:
    return "enabled" if proof.debug else "disabled"


def _claims(proof: HardwareProof | GpuProof) -> tuple[Claim, ...]:
    if isinstance(proof, GpuProof):
        return tuple(Claim("evidence", device, Source.HARDWARE) for device in proof.describe())
    source = Source.ASSERTED if proof.emulated else proof.source
    tcb = () if proof.tcb is None else (Claim("tcb", str(proof.tcb), source),)
    debug = () if proof.debug is None else (Claim("debug", _state(proof), source),)
    place = proof.place.region
    region = () if place is None else (Claim("region", place, Source.ENDORSED),)
    return (Claim("evidence", proof.what, source), *proof.claims, *tcb, *debug, *region)
