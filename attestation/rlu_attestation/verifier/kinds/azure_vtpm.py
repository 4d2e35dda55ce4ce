"""An Azure confidential VM's virtual TPM: a paravisor inside the VM's protected memory keeps it, and the hardware's report covers its AK.

The hardware's own evidence is of another kind, SEV-SNP or TDX, whose steps run as they do for an instance without a virtual TPM.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rlu_attestation.evidence import azure_vtpm, sev_snp, tdx
from rlu_attestation.evidence.azure_vtpm import AzureVtpmEvidence, SevSnpHardware
from rlu_attestation.evidence.sev_snp import SevSnpEvidence
from rlu_attestation.evidence.tdx import TdxEvidence
from rlu_attestation.evidence.tdx.collateral import parse_collateral
from rlu_attestation.policy import Policy
from rlu_attestation.verdict import Claim, Source
from rlu_attestation.verifier.context import Subject
from rlu_attestation.verifier.kinds import sev_snp as sev_snp_room
from rlu_attestation.verifier.kinds import tdx as tdx_room
from rlu_attestation.verifier.kinds.tpm import check_tpm, describe_pcrs
from rlu_attestation.verifier.proof import Conditions, HardwareProof
from rlu_attestation.verifier.trail import Failed, NotMade, Trail, blocking, need


@dataclass(frozen=True, slots=True)
class Inner:
    """The hardware's own evidence, well-formed; what the virtual TPM's steps need of it."""

    evidence: SevSnpEvidence | TdxEvidence

    @property
    def report_data(self) -> bytes:
        held = self.evidence
        return held.report.report_data if isinstance(held, SevSnpEvidence) else held.quote.report.report_data

    @property
    def vmpl(self) -> int | None:
        return self.evidence.report.vmpl if isinstance(self.evidence, SevSnpEvidence) else None

    @property
    def td_report(self) -> bytes:
        return b"" if isinstance(self.evidence, SevSnpEvidence) else self.evidence.quote.report.raw


parse = azure_vtpm.parse


def check(
    trail: Trail, conditions: Conditions, subject: Subject, held: AzureVtpmEvidence | Failed
) -> HardwareProof | Failed:
    """Run the steps; gives a `Failed` unless every one passed or was waived."""
    run = trail.check
    inner = run("azure-vtpm.hardware", lambda: hardware_of(need(held)))
    below = _check_hardware(trail, conditions, held, inner)
    runtime = run(
        "azure-vtpm.runtime_data",
        lambda: azure_vtpm.verify_runtime_data(need(held), need(inner).report_data),
    )
    level = run("azure-vtpm.vmpl", lambda: azure_vtpm.verify_vmpl(need(held), need(inner).vmpl))
    report = run(
        "azure-vtpm.td_report", lambda: azure_vtpm.verify_td_report(need(held), need(inner).td_report)
    )
    paravisor = run("azure-vtpm.paravisor", lambda: verify_paravisor(need(below), conditions.policy))
    ak = run("azure-vtpm.ak", lambda: azure_vtpm.verify_ak(need(held)))
    quoted = check_tpm(trail, subject, held)
    failed = blocking((inner, below, runtime, level, report, paravisor, ak, *quoted.results))
    if failed is not None:
        return failed
    pcrs, proved = need(quoted.pcrs), need(below)
    claims = azure_vtpm.claims_of(need(held), pcrs)
    secure_boot = {True: "on", False: "off", None: "unknown"}[claims.secure_boot]
    # Without a paravisor that the policy names, the hardware's word is about a VM that need not be the AK's.
    known = not isinstance(paravisor, Failed)
    source = Source.HARDWARE if known else Source.ASSERTED
    return HardwareProof(
        kind=azure_vtpm.KIND,
        what=f"virtual TPM of an Azure confidential VM on {proved.what}",
        claims=(
            *(proved.claims if known else (replace(claim, source=source) for claim in proved.claims)),
            Claim("tpm", f"Azure virtual TPM, Secure Boot {secure_boot}", source),
            Claim("pcrs", describe_pcrs(pcrs), source),
        ),
        pcrs=pcrs,
        measurements=proved.measurements,
        tcb=proved.tcb,
        debug=proved.debug,
        hazards=proved.hazards,
        source=source,
        isolated=known,
    )


def hardware_of(evidence: AzureVtpmEvidence) -> Inner:
    """The hardware's own evidence, taken apart.

    Raises:
        RluError: what its kind's parser raises.
    """
    hardware = evidence.hardware
    if isinstance(hardware, SevSnpHardware):
        return Inner(
            sev_snp.from_parts(
                evidence.hcl.hardware_report,
                hardware.vek_certificate,
                hardware.ask_certificate,
                hardware.ark_certificate,
                crl_der=hardware.crl,
            )
        )
    collateral = None if hardware.collateral is None else parse_collateral(dict(hardware.collateral))
    return Inner(tdx.from_parts(hardware.quote, collateral))


def verify_paravisor(proof: HardwareProof, policy: Policy) -> str:
    """What was launched is a paravisor that the policy names, by the measurement or by who signed it.

    Raises:
        NotMade: `azure-vtpm.paravisor.unset`.
        Untrusted: `azure-vtpm.paravisor.mismatch`.
    """
    named = policy.measurements.get(azure_vtpm.KIND) or {}
    for name in ("measurement", "id_key_digest", "mr_td"):
        value = (proof.measurements or {}).get(name)
        if value is not None and name in named:
            return f"{name} {azure_vtpm.verify_paravisor(value, named[name]).hex()}"
    raise NotMade(
        "azure-vtpm.paravisor.unset",
        "the policy names no paravisor under measurements.azure-vtpm, so whoever started the VM could have made the AK",
    )


def _check_hardware(
    trail: Trail, conditions: Conditions, held: AzureVtpmEvidence | Failed, inner: Inner | Failed
) -> HardwareProof | Failed:
    """The steps of the kind below; its report is about the runtime data."""
    if isinstance(inner, Failed):
        return inner
    subject = Subject(None, need(held).hcl.report_data)
    if isinstance(inner.evidence, SevSnpEvidence):
        return sev_snp_room.check(trail, conditions, subject, inner.evidence)
    return tdx_room.check(trail, conditions, subject, inner.evidence)
