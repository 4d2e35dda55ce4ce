"""An item's fields as rows for people: the vendor's name, the value, and what it means. Nothing here is verified."""

from __future__ import annotations

from rlu_attestation.errors import RluError
from rlu_attestation.evidence.gcp_vtpm.instance import GceInstance, instance_of
from rlu_attestation.evidence.gcp_vtpm.item import GcpVtpmEvidence
from rlu_attestation.tpm import describe as tpm

Row = tpm.Row


def describe(evidence: GcpVtpmEvidence) -> list[Row]:
    """Rows of the AK certificate's instance, then of the TPM's parts."""
    try:
        rows = describe_instance(instance_of(evidence.ak_certificate))
    except RluError as error:
        rows = [("ak_certificate", "names no instance", error.message)]
    root = (
        "root_certificate",
        evidence.root_certificate.fingerprint.hex(),
        "SHA-256; must be one of Google's roots",
    )
    return [*rows, root, *tpm.describe(evidence)]


def describe_instance(instance: GceInstance) -> list[Row]:
    """Rows of Google's instance identity."""
    return [
        ("zone", instance.zone, f"where the instance runs: region {instance.region}"),
        ("projectNumber", str(instance.project_number), "the project, by number"),
        ("projectId", instance.project_id, "the project, by name"),
        ("instanceId", str(instance.instance_id), "the instance; never used again"),
        ("instanceName", instance.instance_name, "the name its owner gave it"),
        ("securityVersion", str(instance.security_version), "security version of the host's TPM software"),
        ("isProduction", _bit(instance.is_production), "made in production; others prove nothing"),
        (
            "tpmDataAlwaysEncrypted",
            _bit(instance.tpm_data_always_encrypted),
            "TPM state is encrypted at all times",
        ),
        ("suspendResumeDisabled", _bit(instance.suspend_resume_disabled), "the instance cannot be suspended"),
        ("vmtdDisabled", _bit(instance.vmtd_disabled), "as Google names it"),
        ("alwaysInVmtd", _bit(instance.always_in_vmtd), "as Google names it"),
    ]


def _bit(value: bool) -> str:
    return "1" if value else "0"
