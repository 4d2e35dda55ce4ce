"""Evidence of an Azure confidential VM's virtual TPM (FORMATS section 4.7): parse, verify step by step, claims.

It stands on evidence of another kind, which it does not know: the verifier runs that kind's steps over the parts named here.

    evidence = azure_vtpm.parse(data)                     # AzureVtpmEvidence: well-formed, nothing verified
    evidence.hardware_kind                                # "sev-snp" or "tdx"
    evidence.hcl.hardware_report                          # AMD's report (1184 bytes), or the TDREPORT (1024 bytes)
    evidence.hardware                                     # SevSnpHardware(vek_certificate, ask_certificate, ark_certificate, crl)
                                                          # or TdxHardware(quote, collateral as in an item of kind tdx)
    azure_vtpm.verify_runtime_data(evidence, report_data) # step azure-vtpm.runtime_data -> RuntimeData
    azure_vtpm.verify_vmpl(evidence, vmpl)                # step azure-vtpm.vmpl (SEV-SNP)
    azure_vtpm.verify_td_report(evidence, body)           # step azure-vtpm.td_report (TDX)
    azure_vtpm.verify_paravisor(measurement, accepted)    # step azure-vtpm.paravisor
    azure_vtpm.verify_ak(evidence)                        # step azure-vtpm.ak

with `report_data`, `vmpl`, `body` and `measurement` from hardware evidence whose own steps all passed; and, of
`rlu_attestation.tpm.checks`, all from `ak.attributes` to `quote.ima`. Then `claims_of(evidence, pcrs)`. `describe` gives rows for people,
`encode` makes an item, `trim_nv` cuts what a TPM's NV index holds down to the report.
"""

from __future__ import annotations

from rlu_attestation.evidence.azure_vtpm.claims import AzureVtpmClaims
from rlu_attestation.evidence.azure_vtpm.describe import Row, describe, describe_hcl_report
from rlu_attestation.evidence.azure_vtpm.hcl import HclReport, ReportType, parse_hcl_report, trim_nv
from rlu_attestation.evidence.azure_vtpm.item import (
    KIND,
    AzureVtpmEvidence,
    Hardware,
    SevSnpHardware,
    TdxHardware,
    encode,
    parse,
)
from rlu_attestation.evidence.azure_vtpm.runtime import RuntimeData, Setting, parse_runtime_data
from rlu_attestation.evidence.azure_vtpm.steps import (
    claims_of,
    verify_ak,
    verify_paravisor,
    verify_runtime_data,
    verify_td_report,
    verify_vmpl,
)

__all__ = [
    "KIND",
    "AzureVtpmClaims",
    "AzureVtpmEvidence",
    "Hardware",
    "HclReport",
    "ReportType",
    "Row",
    "RuntimeData",
    "Setting",
    "SevSnpHardware",
    "TdxHardware",
    "claims_of",
    "describe",
    "describe_hcl_report",
    "encode",
    "parse",
    "parse_hcl_report",
    "parse_runtime_data",
    "trim_nv",
    "verify_ak",
    "verify_paravisor",
    "verify_runtime_data",
    "verify_td_report",
    "verify_vmpl",
]
