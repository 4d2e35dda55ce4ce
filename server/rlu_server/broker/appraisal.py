"""Whether hardware may have a key: the vendor's policy, and what no policy can do without. Pure.

    1  one item speaks for the asker, of a kind of TEE that can measure software; others are of its GPUs
    2  every item is genuine, is about this very request, and is accepted by the policy (`rlu_attestation`, evidence alone)
    3  the policy names the measurements that say which software was started, and nobody looks into it: who asks is then known
    4  GPUs answered, where the policy counts any

A policy may waive what it can waive elsewhere; what it waived is in the journal. Of step 3 nothing can be waived: a key in the memory of
unknown software is a key that was given away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rlu_attestation.assemble import FORMS, assemble
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import NVIDIA
from rlu_attestation.policy import Policy
from rlu_attestation.verdict import Blame, Outcome, Result, Source, Verdict
from rlu_attestation.verifier import EvidenceContext
from rlu_attestation.verifier.alone import prove_evidence
from rlu_attestation.verifier.proof import GpuProof, HardwareProof
from rlu_attestation.verifier.sources import SOFTWARE, software_source
from rlu_server.broker.errors import BadRequest, NotReleased

UNMEASURED = {
    "none": "a software key speaks for no hardware: whoever copies it has it",
    "tpm2": "a TPM measures what booted, and the memory of what runs is open to whoever owns the machine",
    "gcp-vtpm": "this virtual TPM says nothing of the memory's encryption; use a confidential VM's own evidence (sev-snp, tdx)",
}
"""Kinds of evidence behind which no memory is closed, and why."""
REPORT_DATA = {"sev-snp": 64, "tdx": 64}
"""Kinds whose evidence is about more bytes than a root; the rest is zero."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Hardware that may have the key, in words and values for the journal."""

    kind: str
    hardware: str
    measurements: Mapping[str, str]
    """Hexadecimal, those that the policy names."""
    gpus: tuple[str, ...]
    waived: tuple[str, ...]


def appraise(root: bytes, evidence: Mapping[str, bytes], policy: Policy, at: int) -> Accepted:
    """Appraise the evidence of one request.

    Args:
        root: what the evidence must be about (`protocol.root_of`).
        at: seconds since the epoch.

    Raises:
        BadRequest: `broker.evidence.kind`, `broker.evidence.encoding`.
        NotReleased: `broker.hardware`, `broker.evidence.rejected`, `broker.not_measured`, `broker.gpus`.
    """
    kind = _speaker(evidence)
    verdict, proof = _examine(kind, evidence[kind], root, policy, at)
    assert isinstance(proof, HardwareProof)
    if software_source(proof, policy) is not Source.MEASURED:
        names = " or ".join(sorted(", ".join(sorted(each)) for each in SOFTWARE.get(kind, ()))) or "pcrs 4"
        raise NotReleased(
            "broker.not_measured",
            f"the policy does not say which software may have the key: name {names} in [measurements.{kind}] or [pcrs], and accept "
            "neither debugging nor a lower privilege level",
        )
    waived = [*_waived(verdict)]
    gpus: tuple[str, ...] = ()
    if NVIDIA in evidence:
        found, devices = _examine(NVIDIA, evidence[NVIDIA], root, policy, at)
        assert isinstance(devices, GpuProof)
        waived += _waived(found)
        gpus = devices.describe()
    elif policy.gpus is not None and policy.gpus.count:
        raise NotReleased(
            "broker.gpus",
            f"the policy wants evidence of {policy.gpus.count} GPUs; none came with the request",
        )
    return Accepted(kind, proof.what, _named(proof, policy), gpus, tuple(waived))


def _speaker(evidence: Mapping[str, bytes]) -> str:
    kinds = [kind for kind in evidence if kind != NVIDIA]
    if len(kinds) != 1:
        raise BadRequest(
            "broker.evidence.kind", "one item of evidence speaks for the asker, not " + str(len(kinds))
        )
    kind = kinds[0]
    if kind in UNMEASURED:
        raise NotReleased(
            "broker.hardware", f"keys are for TEEs that measure their software: {UNMEASURED[kind]}"
        )
    if kind not in FORMS:
        raise BadRequest("broker.evidence.kind", f"{kind[:64]!r} is no kind of evidence of a TEE")
    return kind


def _examine(
    kind: str, item: bytes, root: bytes, policy: Policy, at: int
) -> tuple[Verdict, HardwareProof | GpuProof]:
    """Raises NotReleased unless everything passed, but for waivers.

    A waiver is for a check that cannot be made. What the evidence must be about is said, so that check is always made.
    """
    if item[:1] != b"{":
        raise BadRequest(
            "broker.evidence.encoding", f"the item {kind} is not in the form of FORMATS section 4"
        )
    try:
        found = assemble(kind, item)
    except RluError as error:
        raise BadRequest("broker.evidence.encoding", f"{kind}: {error.message} [{error.code}]") from error
    verdict, proof = prove_evidence(
        EvidenceContext(
            kind=kind,
            evidence=found.evidence,
            collateral=found.collateral,
            policy=policy,
            at=at,
            expected=root.ljust(REPORT_DATA.get(kind, len(root)), b"\0"),
        )
    )
    if verdict.result not in (Result.VERIFIED, Result.WAIVED) or proof is None:
        failed = [step.code for step in verdict.failures if step.blame is not Blame.DEPENDENCY]
        first = next(iter(verdict.failures), None)
        why = "" if first is None else f": {first.title}: {first.detail}"
        raise NotReleased("broker.evidence.rejected", f"the evidence {kind} is not accepted{why}", failed)
    return verdict, proof


def _waived(verdict: Verdict) -> list[str]:
    return [step.code for step in verdict.steps if step.outcome is Outcome.WAIVED]


def _named(proof: HardwareProof, policy: Policy) -> dict[str, str]:
    found = {name: value.hex() for name, value in (proof.measurements or {}).items()}
    named = {name: found[name] for name in (policy.measurements.get(proof.kind) or {}) if name in found}
    pcrs = {
        f"{bank}:{number}": value.hex()
        for bank, values in (proof.pcrs or {}).items()
        for number, value in values.items()
        if number in (policy.pcrs or {}).get(bank, {})
    }
    return named | pcrs
