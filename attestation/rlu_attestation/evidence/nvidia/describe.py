"""Reports, certificates and reference values as rows for people: NVIDIA's name, the value, and what it means. Nothing here is verified."""

from __future__ import annotations

from collections.abc import Mapping

from rlu_attestation.errors import RluError
from rlu_attestation.evidence.nvidia import opaque
from rlu_attestation.evidence.nvidia.identity import fwid_of, identity_of
from rlu_attestation.evidence.nvidia.item import Device, NvidiaEvidence
from rlu_attestation.evidence.nvidia.opaque import GPU_NAMES, SWITCH_NAMES, DeviceKind, Feature
from rlu_attestation.evidence.nvidia.report import Report
from rlu_attestation.evidence.nvidia.rim import Rim

Row = tuple[str, str, str]

_FEATURES = {
    Feature.SPT: "SPT: one GPU passed through",
    Feature.MPT: "MPT: several GPUs passed through",
    Feature.PPCIE: "PPCIE: all GPUs and switches of the node passed through",
}
_MEANINGS = {
    opaque.DRIVER_VERSION: "the driver that set the GPU up",
    opaque.VBIOS_VERSION: "firmware in the device's flash memory",
    opaque.NVDEC0_STATUS: "0x55: disabled, reference value 35 is not compared then; 0xaa: enabled",
    opaque.MSRSCNT: "how often each measurement was extended",
    opaque.BOARD_ID: "number of the board",
    opaque.CHIP_SKU: "variant of the chip",
    opaque.PROJECT: "the board's design",
    opaque.PROJECT_SKU: "variant of the board; NVIDIA's name, the only one that tells products of one chip apart",
    opaque.FWID: "identity of the first mutable firmware; the leaf's certificate names it too",
    opaque.PROTECTED_PCIE_STATUS: "0xaa: protected PCIe mode is on; 0x55: off",
    opaque.FEATURE_FLAG: "how the GPU is passed to the guest",
}


def describe(evidence: NvidiaEvidence) -> list[Row]:
    """Rows of every device, then of the reference values and the stapled answers."""
    rows = [row for device in evidence.devices for row in _device(device)]
    rows += [row for number, rim in enumerate(evidence.rims) for row in _rim(number, rim)]
    answers = [single for response in evidence.ocsp for single in response.singles]
    for single in answers:
        until = "no end" if single.next_update is None else single.next_update.isoformat()
        rows.append(
            (
                f"ocsp {single.serial:#x}",
                single.status.value,
                f"answer of {single.this_update.isoformat()}, until {until}",
            )
        )
    return rows


def describe_report(report: Report) -> list[Row]:
    """Rows of one report."""
    names: Mapping[int, str] = GPU_NAMES if report.opaque.kind is DeviceKind.GPU else SWITCH_NAMES
    rows: list[Row] = [
        ("SPDMVersion", "1.1", "GET_MEASUREMENTS for all measurements, signed"),
        ("Nonce", report.nonce.hex(), "chosen by whoever asked"),
        ("SlotIDParam", str(report.slot_id), "certificate slot of the device"),
        ("response Nonce", report.response_nonce.hex(), "chosen by the device"),
    ]
    for field, data in report.opaque.fields:
        known = field in names
        rows.append(
            (
                names[field] if known else f"opaque field {field}",
                _value(report, field, data),
                _meaning(report, field) if known else "not known: kept, and not believed",
            )
        )
    rows += [
        (
            f"measurement {found.index}",
            found.value.hex(),
            f"reference value {found.index - 1}, type {found.value_type}",
        )
        for found in report.measurements
    ]
    return rows


def _device(device: Device) -> list[Row]:
    rows = _identity(device) + describe_report(device.report)
    return [(f"{device.name} {name}", value, meaning) for name, value, meaning in rows]


def _identity(device: Device) -> list[Row]:
    try:
        found, fwid = identity_of(device.chain), fwid_of(device.chain[0])
    except RluError as error:
        return [("certificates", "not readable", error.message)]
    return [
        ("chip", found.chip, "products of one chip (H100 and H200) are not told apart"),
        ("architecture", found.architecture, "family of the chip"),
        ("hwmodel", found.model, "name of the device key's certificate"),
        ("serial", found.serial, "of the chip"),
        ("ueid", found.ueid, "serial number of the leaf certificate"),
        ("certified FWID", "none" if fwid is None else fwid.hex(), "firmware that the leaf was made for"),
    ]


def _value(report: Report, field: int, data: bytes) -> str:
    known = {
        opaque.DRIVER_VERSION: report.opaque.driver,
        opaque.VBIOS_VERSION: report.opaque.vbios,
        opaque.CHIP_SKU: report.opaque.chip_sku,
        opaque.PROJECT: report.opaque.project,
        opaque.PROJECT_SKU: report.opaque.project_sku,
    }
    return known.get(field) or data.hex() or "empty"


def _meaning(report: Report, field: int) -> str:
    feature = report.opaque.feature
    if field == opaque.FEATURE_FLAG and feature is not None:
        return _FEATURES[feature]
    if field == opaque.PDI:
        return "the switch's own id" if report.opaque.pdi is not None else "the switch at each NVLink"
    if field == opaque.SWITCH_GPU_PDIS and report.opaque.gpus is not None:
        return f"ids of {len(report.opaque.gpus)} GPUs, and at which port each is"
    return _MEANINGS.get(field, "a field of NVIDIA's that nothing here depends on")


def _rim(number: int, rim: Rim) -> list[Row]:
    return [
        (f"rim {number} version", rim.version, f"reference values for a {rim.kind.value} {rim.product}"),
        (f"rim {number} tagId", rim.tag_id, "identity of the document"),
        (
            f"rim {number} values",
            str(len(rim.active)),
            f"of {len(rim.values)} are active and have to match",
        ),
        (
            f"rim {number} signer",
            rim.certificates[0].fingerprint.hex(),
            f"valid until {rim.certificates[0].not_after.isoformat()}",
        ),
    ]
