"""A document's fields as rows for people: AWS's name, the value, and what it means. Nothing here is verified."""

from __future__ import annotations

from rlu_attestation.errors import Malformed
from rlu_attestation.evidence.nitro.claims import ZERO_PCR
from rlu_attestation.evidence.nitro.document import AttestationDocument, Kind
from rlu_attestation.names import common_name
from rlu_attestation.x509 import Certificate

Row = tuple[str, str, str]

_ENCLAVE_PCRS = {
    0: "enclave image file",
    1: "kernel and bootstrap",
    2: "application, without the boot ramdisk",
    3: "IAM role of the parent instance",
    4: "id of the parent instance",
    8: "certificate that signed the enclave image",
}
_TPM_PCRS = {
    0: "firmware",
    1: "firmware configuration",
    2: "option ROMs",
    3: "option ROM configuration",
    4: "boot loader and kernel",
    5: "boot loader configuration and partition table",
    6: "events of the platform's maker",
    7: "Secure Boot policy",
    8: "boot loader's commands",
    9: "files the boot loader read, initrd",
    10: "IMA: files the kernel measured",
    11: "unified kernel image",
    12: "kernel command line and credentials",
    14: "shim's keys",
}


def describe(document: AttestationDocument) -> list[Row]:
    """Rows of a document, then of its certificates, root first."""
    subject = "enclave" if document.kind is Kind.NITRO else "instance's TPM"
    return [
        ("module_id", document.module_id, f"which {subject} the document is of"),
        ("timestamp", f"{document.timestamp} ({document.created.isoformat()})", "when it was made"),
        ("digest", document.digest, "hash of the PCRs"),
        *_pcrs(document),
        _data("public_key", document.public_key, "key that answers may be encrypted to"),
        _data("user_data", document.user_data, "what the attester asked to be signed"),
        _data("nonce", document.nonce, "what a verifier sent"),
        *(_certificate(f"cabundle[{i}]", found) for i, found in enumerate(document.cabundle)),
        _certificate("certificate", document.certificate),
    ]


def _pcrs(document: AttestationDocument) -> list[Row]:
    meanings = _ENCLAVE_PCRS if document.kind is Kind.NITRO else _TPM_PCRS
    rows = []
    for index, value in document.pcrs.items():
        meaning = meanings.get(index, "")
        if document.kind is Kind.NITRO and index in (0, 1, 2) and value == ZERO_PCR:
            meaning = f"{meaning}: zero, so the enclave runs in debug mode"
        rows.append((f"{document.kind.pcrs_field}[{index}]", value.hex(), meaning))
    return rows


def _data(name: str, value: bytes | None, meaning: str) -> Row:
    return name, "absent" if value is None else value.hex(), meaning


def _certificate(name: str, certificate: Certificate) -> Row:
    try:
        subject = common_name(certificate.subject, "nitro.certificate.name")
    except Malformed:
        subject = "without a common name"
    until = f"{certificate.not_before.isoformat()} to {certificate.not_after.isoformat()}"
    return name, subject, f"valid {until}, SHA-256 {certificate.fingerprint.hex()}"
