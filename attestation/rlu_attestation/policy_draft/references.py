"""Reference values as a file of their own: PCRs and measurements, each with what it measures, for a person to review."""

from __future__ import annotations

from collections.abc import Mapping

from rlu_attestation.policy_draft.toml import Writer, array
from rlu_attestation.verifier.proof import HardwareProof

PCRS: Mapping[int, str] = {
    0: "firmware",
    1: "configuration of the firmware",
    2: "drivers and option ROMs",
    3: "configuration of drivers and option ROMs",
    4: "boot loader, and how it was reached",
    5: "configuration of the boot loader, partition table",
    6: "as the manufacturer chooses",
    7: "Secure Boot: whether it is on, and its keys",
    8: "the boot loader's commands, kernel command line",
    9: "files that the boot loader read: kernel, initrd",
    10: "the kernel's measurements (IMA): grows while the machine runs",
    11: "unified kernel image",
    12: "kernel command line and credentials of a unified kernel image",
    13: "system extensions",
    14: "keys of shim",
    15: "identity of the system",
    16: "for debugging: any software can change it",
    23: "for applications: any software can change it",
}
"""What PCRs measure (TCG PC Client Platform Firmware Profile section 3.3.4; from 8 on, what Linux distributions use them for)."""

CHANGING = frozenset({10, 16, 23})
"""PCRs that change while the same software runs: a policy that names them accepts a moment, not a state."""

_SNP = {
    "measurement": "MEASUREMENT: what was launched",
    "host_data": "HOST_DATA: what the host said at launch",
    "id_key_digest": "ID_KEY_DIGEST: who signed the identity block, zero for none",
    "author_key_digest": "AUTHOR_KEY_DIGEST: who certified that key, zero for none",
    "family_id": "FAMILY_ID, of the guest's owner",
    "image_id": "IMAGE_ID, of the guest's owner",
}
_TDX = {
    "mr_td": "MRTD: what the trust domain began with, its virtual firmware",
    "rtmr0": "RTMR0: configuration of the virtual firmware",
    "rtmr1": "RTMR1: boot loader and kernel",
    "rtmr2": "RTMR2: kernel command line, initrd",
    "rtmr3": "RTMR3: for applications",
    "mr_seam": "MRSEAM: Intel's TDX module; changes with each of its updates",
    "mr_config_id": "MRCONFIGID, of who launched it",
    "mr_owner": "MROWNER, of who launched it",
    "mr_owner_config": "MROWNERCONFIG, of who launched it",
}
_NITRO = {
    "pcr0": "the enclave's image",
    "pcr1": "kernel and boot ramdisk",
    "pcr2": "application",
    "pcr3": "IAM role of the parent instance",
    "pcr4": "identity of the parent instance: another one has another value",
    "pcr8": "certificate that signed the image",
}
_INSTANCE = {f"pcr{number}": words for number, words in PCRS.items()}
MEASUREMENTS: Mapping[str, Mapping[str, str]] = {
    "sev-snp": _SNP,
    "tdx": _TDX,
    "nitro": _NITRO,
    "nitrotpm": _INSTANCE,
    "azure-vtpm": {**_SNP, **_TDX},
}
"""What measurements mean, by kind of evidence and name."""


def has_references(proof: HardwareProof | None) -> bool:
    """Whether there is anything to put into a file of reference values."""
    return proof is not None and bool(proof.pcrs or proof.measurements)


def write(out: Writer, proof: HardwareProof, origin: str) -> None:
    """Add the tables of reference values."""
    for bank, values in sorted((proof.pcrs or {}).items()):
        out.table("pcrs", bank)
        for number, value in sorted(values.items()):
            words = f"{PCRS.get(number, 'no common use')}; {origin}"
            _entry(out, str(number), value, words, changing=number in CHANGING)
    if proof.measurements:
        out.table("measurements", proof.kind)
        changing = {f"pcr{number}" for number in CHANGING} if proof.kind == "nitrotpm" else frozenset[str]()
        for name, value in proof.measurements.items():
            words = f"{MEASUREMENTS.get(proof.kind, {}).get(name, 'no common use')}; {origin}"
            _entry(out, name, value, words, changing=name in changing)


def _entry(out: Writer, name: str, value: bytes, words: str, *, changing: bool) -> None:
    if changing:
        out.suggested(
            [f"{name} = {array([value.hex()])}"],
            f"Left out, since it changes while the same software runs: {words}.",
        )
    else:
        out.rule(name, array([value.hex()]), f"{words}.")
