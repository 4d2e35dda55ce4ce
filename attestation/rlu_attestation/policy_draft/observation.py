"""What evidence shows before anything was judged: the steps that need no policy, run, and the values that a policy would have to name.

Everything that a policy may waive counts here as *not checked*, and is told; what was checked and is false makes the observation unsound.
Of unsound evidence the values are the sender's word alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rlu_attestation.catalogue import WAIVABLE
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import nitro, sev_snp
from rlu_attestation.evidence.azure_vtpm import AzureVtpmEvidence
from rlu_attestation.evidence.tdx import TdxEvidence
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.policy import Policy
from rlu_attestation.tpm.members import TpmEvidence
from rlu_attestation.verdict import Outcome, Step, Verdict
from rlu_attestation.verifier import Context, EvidenceContext, verify, verify_evidence
from rlu_attestation.verifier.context import Subject
from rlu_attestation.verifier.instance import check_instance, parse_statement
from rlu_attestation.verifier.kinds import ROOMS
from rlu_attestation.verifier.kinds import azure_vtpm as azure_room
from rlu_attestation.verifier.kinds import nitro as nitro_room
from rlu_attestation.verifier.kinds import sev_snp as sev_snp_room
from rlu_attestation.verifier.kinds import tdx as tdx_room
from rlu_attestation.verifier.proof import Conditions, GpuProof, HardwareProof, Tcb
from rlu_attestation.verifier.trail import Failed, Trail

REASON = "a draft is being written"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What evidence shows.

    Attributes:
        name: where it came from, in words.
        at: the time of every check, in seconds since the epoch.
        evidence: kind and SHA-256 of each item.
        statement: None for evidence that stands alone.
        hardware: None for a software key, and where not even the evidence's own words could be read.
        steps: those that were run.
        judge: the verdict on this evidence by a policy.
    """

    name: str
    at: int
    evidence: tuple[tuple[str, bytes], ...]
    statement: InstanceClaims | None
    hardware: HardwareProof | None
    gpus: GpuProof | None
    steps: tuple[Step, ...]
    judge: Callable[[Policy], Verdict]

    @property
    def false(self) -> tuple[Step, ...]:
        """Steps that failed: checks that were made and do not hold, and those that depend on them."""
        return tuple(step for step in self.steps if step.outcome is Outcome.FAILED)

    @property
    def unchecked(self) -> tuple[Step, ...]:
        """Steps for which nothing was here to check by."""
        return tuple(step for step in self.steps if step.outcome is Outcome.WAIVED)

    @property
    def passed(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.outcome is Outcome.PASSED)


def observe(context: Context, name: str) -> Observation:
    """Look at a bundle; of the context's policy only the trust anchors and times count."""
    looking = replace(context, policy=_looking(context.policy))
    trail = Trail(looking.policy.waivers)
    _, instance = check_instance(trail, looking)
    hardware: HardwareProof | None = None
    gpus: GpuProof | None = None
    try:
        statement = parse_statement(context.bundle.statement).claims
    except RluError:
        statement = None
    if not isinstance(instance, Failed):
        hardware, gpus = instance.hardware, instance.gpus
    elif statement is not None:
        items = {item.kind: item.data for item in context.bundle.evidence}
        hardware = _words(statement.key_hardware, items.get(statement.key_hardware, b""))
    return Observation(
        name=name,
        at=context.at,
        evidence=tuple((item.kind, hashlib.sha256(item.data).digest()) for item in context.bundle.evidence),
        statement=statement,
        hardware=hardware,
        gpus=gpus,
        steps=trail.steps,
        judge=lambda policy: verify(replace(context, policy=policy)),
    )


def observe_evidence(context: EvidenceContext, name: str, digest: bytes) -> Observation:
    """Look at evidence that stands alone; `digest` is the SHA-256 of its bytes."""
    trail = Trail(_looking(context.policy).waivers)
    conditions = Conditions(_looking(context.policy), context.at, context.collateral)
    subject = Subject(None, context.expected)
    proof = ROOMS[context.kind].check(trail, conditions, subject, context.evidence)
    return Observation(
        name=name,
        at=context.at,
        evidence=((context.kind, digest),),
        statement=None,
        hardware=_unproved(context.kind, context.evidence) if isinstance(proof, Failed) else proof,
        gpus=None,
        steps=trail.steps,
        judge=lambda policy: verify_evidence(replace(context, policy=policy)),
    )


def _looking(policy: Policy) -> Policy:
    return replace(policy, waivers=dict.fromkeys(WAIVABLE, REASON))


def _words(kind: str, data: bytes) -> HardwareProof | None:
    try:
        return _unproved(kind, ROOMS[kind].parse(data)) if kind in ROOMS else None
    except RluError:
        return None


def _unproved(kind: str, evidence: Any) -> HardwareProof | None:
    """What evidence says of itself, in the form of a proof that nothing proved: for drafts that are marked so, and nowhere else."""
    try:
        if isinstance(evidence, AzureVtpmEvidence):
            inner = azure_room.hardware_of(evidence).evidence
            below = _unproved("tdx" if isinstance(inner, TdxEvidence) else sev_snp.KIND, inner)
            return None if below is None else replace(below, kind=kind, pcrs=evidence.pcrs)
        if isinstance(evidence, TpmEvidence):
            return HardwareProof(kind=kind, what="TPM", pcrs=evidence.pcrs)
        if kind == sev_snp.KIND:
            extensions = sev_snp.parse_extensions(evidence.vek)
            return sev_snp_room.proof(sev_snp.claims_of(evidence, extensions.product, extensions))
        if kind in ("nitro", "nitrotpm"):
            return nitro_room.proof(nitro.claims_of(evidence))
        if kind == "tdx":
            return tdx_room.proof(evidence, Tcb(kind, status=tdx_room.UNKNOWN))
    except RluError:
        return None
    return None
