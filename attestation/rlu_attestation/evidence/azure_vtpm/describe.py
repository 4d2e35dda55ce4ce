"""An item's fields as rows for people: Microsoft's name, the value, and what it means. Nothing here is verified."""

from __future__ import annotations

from rlu_attestation.evidence.azure_vtpm.hcl import HclReport
from rlu_attestation.evidence.azure_vtpm.item import AzureVtpmEvidence, SevSnpHardware
from rlu_attestation.evidence.azure_vtpm.runtime import Setting
from rlu_attestation.tpm import describe as tpm

Row = tpm.Row

_SETTINGS = {
    "console-enabled": "the host may use the guest's serial console",
    "root-cert-thumbprint": "certificate of the owner that the paravisor was started with",
    "secure-boot": "Secure Boot is on for the guest",
    "tpm-enabled": "the guest has a virtual TPM",
    "tpm-persisted": "the virtual TPM's state outlives a restart of the VM",
    "vmUniqueId": "Azure's identity of the VM",
}


def describe(evidence: AzureVtpmEvidence) -> list[Row]:
    """Rows of the HCL report, of what comes beside it, and of the TPM's parts."""
    hardware = evidence.hardware
    if isinstance(hardware, SevSnpHardware):
        beside = ("hardware", "sev-snp", "VEK, ASK and ARK certificates come beside AMD's report")
    else:
        stapled = "with" if hardware.collateral is not None else "without"
        beside = ("hardware", "tdx", f"a quote of the TDREPORT comes beside it, {stapled} Intel's collateral")
    return [*describe_hcl_report(evidence.hcl), beside, *tpm.describe(evidence)]


def describe_hcl_report(report: HclReport) -> list[Row]:
    """Rows of a report, without those of the hardware's inside."""
    runtime = report.runtime
    numbers = runtime.ak.public_numbers()
    rows = [
        ("version", str(report.version), "layout of the header"),
        ("report_type", report.report_type.name, "whose hardware report is inside"),
        ("hardware_report", f"{len(report.hardware_report)} bytes", "to be verified by its own kind"),
        ("runtime_data", report.report_data[:32].hex(), "SHA-256; the hardware report must carry it"),
        ("keys", ", ".join(runtime.key_ids), "keys of the virtual TPM"),
        ("HCLAkPub", f"RSA, {numbers.n.bit_length()} bits", "the virtual TPM's attestation key"),
        *(
            (f"vm-configuration.{name}", _value(setting), _SETTINGS.get(name, "as Microsoft names it"))
            for name, setting in sorted(runtime.vm_configuration.items())
        ),
    ]
    if runtime.user_data is not None:
        rows.append(("user-data", runtime.user_data.hex(), "what the guest asked to be reported along"))
    return rows


def _value(setting: Setting) -> str:
    if setting is None:
        return "not shown"
    return ("true" if setting else "false") if isinstance(setting, bool) else str(setting)
