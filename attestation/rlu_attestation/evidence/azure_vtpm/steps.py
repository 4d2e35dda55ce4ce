"""The verification steps of evidence from an Azure confidential VM, one function each; the verifier composes them.

The chain: instance key ← AK ← runtime data ← hardware report. The last link belongs to the kind of evidence under this one (`sev-snp`,
`tdx`), whose steps the verifier runs over `evidence.hcl.hardware_report`, or over the quote in `evidence.hardware`; what they prove comes
in here as bytes. Each step raises `Untrusted` with a code `<step>.<cause>` and looks at one thing only: a verdict needs all of them.

    azure-vtpm.runtime_data  the hardware's REPORT_DATA is the digest of the runtime data
    azure-vtpm.vmpl          SEV-SNP: the most privileged level asked for the report, where the paravisor runs
    azure-vtpm.td_report     TDX: the quote is of the TDREPORT in the HCL report
    azure-vtpm.paravisor     what the hardware measured at launch is a paravisor that the policy names
    azure-vtpm.ak            the AK that signed is the one in the runtime data

and, of `rlu_attestation.tpm.checks`, `ak.attributes`, `key.attributes`, `key.policy`, `key.certify`, `quote.signature`, `quote.binding`,
`quote.pcrs`, `quote.clock`, `quote.eventlog` and `quote.ima`.

Anybody can start a confidential VM and have its hardware sign runtime data of their own making. What makes the AK a virtual TPM's is that
Microsoft's paravisor, and nothing else, could ask for that report: therefore `azure-vtpm.vmpl` (the guest's own system runs at a lower
level and can ask for reports as well) and `azure-vtpm.paravisor`, without which nothing here is proved.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection

from rlu_attestation.errors import Untrusted
from rlu_attestation.evidence.azure_vtpm.claims import AzureVtpmClaims
from rlu_attestation.evidence.azure_vtpm.hcl import ReportType
from rlu_attestation.evidence.azure_vtpm.item import AzureVtpmEvidence
from rlu_attestation.evidence.azure_vtpm.runtime import RuntimeData
from rlu_attestation.tpm.constants import digest
from rlu_attestation.tpm.policy import PcrValues
from rlu_attestation.tpm.public import name_of

_TPM_RH_ENDORSEMENT = 0x4000000B
_TD_FIELDS: tuple[tuple[str, int, int, int], ...] = (
    # name, offset in TDREPORT_STRUCT, offset in the quote's body, size
    ("TEE_TCB_SVN", 264, 0, 16),
    ("MRSEAM", 280, 16, 48),
    ("MRSIGNERSEAM", 328, 64, 48),
    ("SEAMATTRIBUTES", 376, 112, 8),
    ("TDATTRIBUTES", 512, 120, 8),
    ("XFAM", 520, 128, 8),
    ("MRTD", 528, 136, 48),
    ("MRCONFIGID", 576, 184, 48),
    ("MROWNER", 624, 232, 48),
    ("MROWNERCONFIG", 672, 280, 48),
    ("RTMR", 720, 328, 192),
    ("REPORTDATA", 128, 520, 64),
)
"""Intel TDX Module ABI, "TDREPORT_STRUCT", against the body of a quote (TD report 1.0, with which 1.5 begins)."""
_TD_BODY_SIZE = 584


def verify_runtime_data(evidence: AzureVtpmEvidence, report_data: bytes) -> RuntimeData:
    """azure-vtpm.runtime_data: the hardware's report carries the runtime data's SHA-256 and zeros; returns what the data says.

    Args:
        evidence: the parsed item.
        report_data: 64 bytes of REPORT_DATA or REPORTDATA, from a report or quote that *verified*.

    Raises:
        Untrusted: `azure-vtpm.runtime_data.mismatch`.
    """
    if not hmac.compare_digest(report_data, evidence.hcl.report_data):
        raise Untrusted(
            "azure-vtpm.runtime_data.mismatch", "the hardware's report was not made for this runtime data"
        )
    return evidence.hcl.runtime


def verify_vmpl(evidence: AzureVtpmEvidence, vmpl: int | None) -> None:
    """azure-vtpm.vmpl: with SEV-SNP, the report was requested at VMPL 0; TDX has no such levels.

    Args:
        evidence: the parsed item.
        vmpl: of the verified report; None with TDX.

    Raises:
        Untrusted: `azure-vtpm.vmpl.guest`, `.missing`.
    """
    if evidence.hcl.report_type is not ReportType.SNP:
        return
    if vmpl is None:
        raise Untrusted(
            "azure-vtpm.vmpl.missing", "nothing says at which privilege level the report was requested"
        )
    if vmpl != 0:
        raise Untrusted(
            "azure-vtpm.vmpl.guest",
            f"the report was requested at VMPL {vmpl}, where the guest's own system runs",
        )


def verify_td_report(evidence: AzureVtpmEvidence, body: bytes) -> None:
    """azure-vtpm.td_report: with TDX, the quote's body says what the TDREPORT in the HCL report says; SEV-SNP has no such pair.

    Args:
        evidence: the parsed item.
        body: the TD report in the *verified* quote, 584 bytes or more; not looked at with SEV-SNP.

    Raises:
        Untrusted: `azure-vtpm.td_report.mismatch`, naming the field; `.size`.
    """
    if evidence.hcl.report_type is not ReportType.TDX:
        return
    if len(body) < _TD_BODY_SIZE:
        raise Untrusted("azure-vtpm.td_report.size", "the quote's body is shorter than a TD report")
    report = evidence.hcl.hardware_report
    for name, ours, theirs, size in _TD_FIELDS:
        if report[ours : ours + size] != body[theirs : theirs + size]:
            raise Untrusted(
                "azure-vtpm.td_report.mismatch", f"the quote is of another TDREPORT: {name} differs"
            )


def verify_paravisor(measurement: bytes, accepted: Collection[bytes]) -> bytes:
    """azure-vtpm.paravisor: what was launched is a paravisor that the policy names; returns its measurement.

    Args:
        measurement: from the *verified* hardware evidence: MEASUREMENT or ID_KEY_DIGEST of SEV-SNP, MRTD of TDX.
        accepted: values of the same field that the policy takes for Microsoft's.

    Raises:
        Untrusted: `azure-vtpm.paravisor.unset` when the policy names none, `.mismatch`.
    """
    step = "azure-vtpm.paravisor"
    if not accepted:
        raise Untrusted(
            f"{step}.unset", "the policy names no paravisor, so anybody could have written the runtime data"
        )
    if measurement not in accepted:
        raise Untrusted(f"{step}.mismatch", f"no accepted paravisor measures {measurement.hex()}")
    return measurement


def verify_ak(evidence: AzureVtpmEvidence) -> None:
    """azure-vtpm.ak: the runtime data names the AK's key, and the TPM signs as the endorsement hierarchy's primary key of that name.

    The runtime data holds the bare key. The TPM itself puts the AK's qualified name into all that it signs, and with it the attributes.

    Raises:
        Untrusted: `azure-vtpm.ak.key`, `.name`.
    """
    step = "azure-vtpm.ak"
    if evidence.ak_public.public_key() != evidence.hcl.runtime.ak:
        raise Untrusted(f"{step}.key", "the AK is another key than that of the runtime data")
    if evidence.quote.attest.qualified_signer != _qualified_name(evidence):
        raise Untrusted(f"{step}.name", "the TPM signed as another key than the AK of this public area")


def claims_of(evidence: AzureVtpmEvidence, pcrs: PcrValues) -> AzureVtpmClaims:
    """The claims of evidence whose every step passed; `pcrs` is what `verify_quote_pcrs` returned."""
    runtime = evidence.hcl.runtime
    return AzureVtpmClaims(evidence.hardware_kind, runtime.vm_configuration, runtime.user_data, pcrs)


def _qualified_name(evidence: AzureVtpmEvidence) -> bytes:
    """QN of a primary key: nameAlg ‖ H(handle of its hierarchy ‖ Name) (TPM 2.0 Library Part 1 section 26.6)."""
    name = name_of(evidence.ak_public)
    return name[:2] + digest(evidence.ak_public.name_alg, _TPM_RH_ENDORSEMENT.to_bytes(4, "big") + name)
