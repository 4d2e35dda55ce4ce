"""Runs every verification step of an Azure VM's evidence, over the hardware's own, and says which refuse."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from fakes import amd, azure, intel
from fakes.pki import AT
from fakes.tpm2_steps import shared_steps
from rlu_attestation import x509
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import azure_vtpm, sev_snp, tdx
from rlu_attestation.evidence.azure_vtpm import AzureVtpmEvidence, SevSnpHardware
from rlu_attestation.evidence.tdx.collateral import parse_collateral

STEPS = (
    "azure-vtpm.runtime_data",
    "azure-vtpm.vmpl",
    "azure-vtpm.td_report",
    "azure-vtpm.paravisor",
    "azure-vtpm.ak",
)
QUOTE_BODY = 48
Proved = tuple[bytes, int | None, bytes, bytes]


def anchors() -> dict[str, bytes]:
    """The fake vendors' roots by kind, DER."""
    return {"sev-snp": amd.ark("Milan").der, "tdx": intel.root().der}


def hardware_steps(
    evidence: AzureVtpmEvidence, at: datetime = AT, trusted: Mapping[str, bytes] | None = None
) -> Proved:
    """REPORT_DATA, VMPL, body of the quote, and launch measurement, from hardware evidence that verified."""
    held, root = evidence.hardware, x509.parse((trusted or anchors())[evidence.hardware_kind])
    if isinstance(held, SevSnpHardware):
        certificates = (held.vek_certificate, held.ask_certificate, held.ark_certificate)
        found = sev_snp.from_parts(evidence.hcl.hardware_report, *certificates, crl_der=held.crl)
        claims = sev_snp.verify(found, at, [sev_snp.Root.of(root, sev_snp.ProductLine.MILAN)])
        return claims.report_data, claims.vmpl, b"", claims.measurement
    collateral = None if held.collateral is None else parse_collateral(held.collateral)
    proved = tdx.verify(tdx.from_parts(held.quote, collateral), at, [tdx.Root.of(root)])
    return proved.report_data, None, held.quote[QUOTE_BODY:], proved.mr_td


def failures(
    data: bytes,
    binding: bytes,
    accepted: Collection[bytes] | None = None,
    at: datetime = AT,
    trusted: Mapping[str, bytes] | None = None,
) -> list[str]:
    """Codes of all refusals in the order of the steps; `parse` refusing is the only one then. Without proof of the hardware its steps are
    left out."""
    try:
        evidence = azure_vtpm.parse(data)
    except RluError as error:
        return [f"parse: {error.code}"]
    names = azure.PARAVISOR.values() if accepted is None else accepted
    found: list[str] = []
    steps: list[Callable[[], object]] = []
    try:
        report_data, vmpl, body, measurement = hardware_steps(evidence, at, trusted)
    except RluError as error:
        found.append(error.code)
    else:
        steps += [
            lambda: azure_vtpm.verify_runtime_data(evidence, report_data),
            lambda: azure_vtpm.verify_vmpl(evidence, vmpl),
            lambda: azure_vtpm.verify_td_report(evidence, body),
            lambda: azure_vtpm.verify_paravisor(measurement, names),
        ]
    steps += [lambda: azure_vtpm.verify_ak(evidence), *shared_steps(evidence, binding).values()]
    for step in steps:
        try:
            step()
        except RluError as error:
            found.append(error.code)
    return found
