"""NVIDIA's opaque data in a MEASUREMENTS response: a list of type (2 bytes), size (2 bytes), data; little endian.

The names are NVIDIA's (`OPAQUE_FIELD_ID_…` in its verifiers), there is no other published specification. A type given twice refuses. Types
that are not known are kept and shown, and nothing is concluded from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from rlu_attestation.cursor import Cursor
from rlu_attestation.errors import Malformed

CODE = "nvidia.report.opaque"
PDI_SIZE = 8
FWID_SIZE = 48
_MAX_OPAQUE = 0xFFFF
_NO_DEVICE = bytes(PDI_SIZE)
_SWITCH_GPUS, _SWITCH_PORTS, _NO_PORT = 8, 64, 0xFF

DRIVER_VERSION, VBIOS_VERSION, NVDEC0_STATUS, MSRSCNT, BOARD_ID = 3, 6, 11, 12, 14
CHIP_SKU, CHIP_SKU_MOD, PROJECT, PROJECT_SKU, PROJECT_SKU_MOD = 15, 16, 17, 18, 19
FWID, PROTECTED_PCIE_STATUS, PDI, SWITCH_GPU_PDIS = 20, 21, 22, 26
SYS_ENABLE_STATUS, OPAQUE_DATA_VERSION, CHIP_INFO, FEATURE_FLAG = 33, 34, 35, 36

GPU_NAMES: Mapping[int, str] = MappingProxyType(
    {
        1: "CERT_ISSUER_NAME",
        2: "CERT_AUTHORITY_KEY_IDENTIFIER",
        DRIVER_VERSION: "DRIVER_VERSION",
        4: "GPU_INFO",
        5: "SKU",
        VBIOS_VERSION: "VBIOS_VERSION",
        7: "MANUFACTURER_ID",
        8: "TAMPER_DETECTION",
        9: "SMC",
        10: "VPR",
        NVDEC0_STATUS: "NVDEC0_STATUS",
        MSRSCNT: "MSRSCNT",
        13: "CPRINFO",
        BOARD_ID: "BOARD_ID",
        CHIP_SKU: "CHIP_SKU",
        CHIP_SKU_MOD: "CHIP_SKU_MOD",
        PROJECT: "PROJECT",
        PROJECT_SKU: "PROJECT_SKU",
        PROJECT_SKU_MOD: "PROJECT_SKU_MOD",
        FWID: "FWID",
        PROTECTED_PCIE_STATUS: "PROTECTED_PCIE_STATUS",
        PDI: "SWITCH_PDI",
        32: "GPU_LINK_CONN",
        SYS_ENABLE_STATUS: "SYS_ENABLE_STATUS",
        OPAQUE_DATA_VERSION: "OPAQUE_DATA_VERSION",
        CHIP_INFO: "CHIP_INFO",
        FEATURE_FLAG: "FEATURE_FLAG",
    }
)
SWITCH_NAMES: Mapping[int, str] = MappingProxyType(
    {
        VBIOS_VERSION: "VBIOS_VERSION",
        MSRSCNT: "MSRSCNT",
        FWID: "FWID",
        PDI: "DEVICE_PDI",
        23: "DISABLED_PORTS",
        24: "SWITCH_POSITION_ID",
        25: "SWITCH_LOCK_STATUS",
        SWITCH_GPU_PDIS: "SWITCH_GPU_PDIS",
    }
)

_GPU_REQUIRED = (DRIVER_VERSION, VBIOS_VERSION)
_SWITCH_REQUIRED = (VBIOS_VERSION, PDI)
_VBIOS = re.compile(r"[0-9A-F]{2}(\.[0-9A-F]{2}){4}", re.ASCII)
_DRIVER = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){1,3}", re.ASCII)
_NVDEC0_DISABLED = 0x55


class DeviceKind(Enum):
    GPU = "gpu"
    SWITCH = "switch"


class Feature(Enum):
    """FEATURE_FLAG: how the GPU is passed to the guest."""

    SPT = 0
    MPT = 1
    PPCIE = 2


@dataclass(frozen=True, slots=True)
class OpaqueData:
    """What a device says about itself; the device's signature covers it.

    Attributes:
        kind: as which device it was read.
        fields: every type with its data, known or not, in the order of the report.
        driver: version of the GPU's driver; None for a switch.
        vbios: version of VBIOS or switch BIOS, five pairs of upper-case hexadecimal digits.
        board_id: number of the board; None when it is not given.
        project, project_sku, chip_sku: NVIDIA's names of board and chip variant; None when they are not given.
        fwid: SHA-384 identity of the first mutable firmware, 48 bytes; None with old firmware and with switches.
        nvdec0_disabled: measurement 35 of the RIM means nothing then.
        protected_pcie: PROTECTED_PCIE_STATUS is 0xAA; None when it is not given.
        feature: None when it is not given.
        switches: device ids of the NVSwitches at the GPU's links, without the unused ones; None when it does not list them.
        pdi: the switch's own device id, 8 bytes; None for a GPU.
        gpus: device ids of the GPUs at the switch's ports; None when it does not list them.
    """

    kind: DeviceKind
    fields: tuple[tuple[int, bytes], ...]
    driver: str | None
    vbios: str
    board_id: int | None
    project: str | None
    project_sku: str | None
    chip_sku: str | None
    fwid: bytes | None
    nvdec0_disabled: bool
    protected_pcie: bool | None
    feature: Feature | None
    switches: frozenset[bytes] | None
    pdi: bytes | None
    gpus: frozenset[bytes] | None


def parse_opaque(data: bytes, kind: DeviceKind) -> OpaqueData:
    """Read the opaque data of a GPU or a switch.

    Raises:
        Malformed: cut, a type given twice, a field that every report has missing, or a known field not of its form
            (`nvidia.report.opaque`).
    """
    cursor = Cursor(data, CODE, _MAX_OPAQUE)
    fields: dict[int, bytes] = {}
    while cursor.remaining:
        field = cursor.u16_le("DataType")
        if field in fields:
            raise Malformed(CODE, f"field {field} occurs twice")
        fields[field] = cursor.take(cursor.u16_le("DataSize"), "Data")
    return _gpu(fields) if kind is DeviceKind.GPU else _switch(fields)


def _gpu(fields: Mapping[int, bytes]) -> OpaqueData:
    _require(fields, _GPU_REQUIRED, GPU_NAMES)
    feature = _number(fields, FEATURE_FLAG, 2)
    if feature is not None and feature not in {known.value for known in Feature}:
        raise Malformed(CODE, f"FEATURE_FLAG {feature} is not known")
    return OpaqueData(
        kind=DeviceKind.GPU,
        fields=tuple(fields.items()),
        driver=_matching(_text(fields, DRIVER_VERSION), _DRIVER, "DRIVER_VERSION"),
        vbios=_vbios(fields[VBIOS_VERSION]),
        board_id=_number(fields, BOARD_ID, 4),
        project=_text(fields, PROJECT),
        project_sku=_text(fields, PROJECT_SKU),
        chip_sku=_text(fields, CHIP_SKU),
        fwid=_fwid(fields),
        nvdec0_disabled=_status(fields, NVDEC0_STATUS) == _NVDEC0_DISABLED,
        protected_pcie=_flag(fields, PROTECTED_PCIE_STATUS),
        feature=None if feature is None else Feature(feature),
        switches=_switches(fields),
        pdi=None,
        gpus=None,
    )


def _switch(fields: Mapping[int, bytes]) -> OpaqueData:
    _require(fields, _SWITCH_REQUIRED, SWITCH_NAMES)
    if len(fields[PDI]) != PDI_SIZE or fields[PDI] == _NO_DEVICE:
        raise Malformed(CODE, f"DEVICE_PDI is not a device id of {PDI_SIZE} bytes")
    return OpaqueData(
        kind=DeviceKind.SWITCH,
        fields=tuple(fields.items()),
        driver=None,
        vbios=_matching(_text(fields, VBIOS_VERSION), _VBIOS, "VBIOS_VERSION"),
        board_id=None,
        project=None,
        project_sku=None,
        chip_sku=None,
        fwid=_fwid(fields),
        nvdec0_disabled=False,
        protected_pcie=None,
        feature=None,
        switches=None,
        pdi=fields[PDI],
        gpus=_gpus(fields),
    )


def _require(fields: Mapping[int, bytes], required: tuple[int, ...], names: Mapping[int, str]) -> None:
    missing = [names[field] for field in required if field not in fields]
    if missing:
        raise Malformed(CODE, f"{', '.join(missing)} is missing: not a report of this kind of device")


def _vbios(data: bytes) -> str:
    """A GPU's: a number of four bytes, then the last part and three bytes of zero."""
    if len(data) != 8 or any(data[5:]):
        raise Malformed(CODE, "VBIOS_VERSION of a GPU has 5 bytes and 3 zeros")
    return ".".join(f"{byte:02X}" for byte in (*reversed(data[:4]), data[4]))


def _text(fields: Mapping[int, bytes], field: int) -> str | None:
    """ASCII, ended or filled up by zeros; empty text counts as not given."""
    if field not in fields:
        return None
    content = fields[field].rstrip(b"\0")
    text = content.decode("ascii") if content.isascii() else "\0"
    if text and not text.isprintable():
        raise Malformed(CODE, f"{GPU_NAMES.get(field, field)} is not printable ASCII")
    return text or None


def _matching(text: str | None, form: re.Pattern[str], name: str) -> str:
    if text is None or form.fullmatch(text) is None:
        raise Malformed(CODE, f"{name} is not a version")
    return text


def _number(fields: Mapping[int, bytes], field: int, size: int) -> int | None:
    if field not in fields:
        return None
    if len(fields[field]) != size:
        raise Malformed(CODE, f"{GPU_NAMES[field]} has {len(fields[field])} bytes, not {size}")
    return int.from_bytes(fields[field], "little")


def _status(fields: Mapping[int, bytes], field: int) -> int | None:
    """A byte that is 0xAA for on and 0x55 for off: no single flipped bit turns one into the other."""
    value = _number(fields, field, 1)
    if value not in (None, 0x55, 0xAA):
        raise Malformed(CODE, f"{GPU_NAMES[field]} is neither 0xAA nor 0x55")
    return value


def _flag(fields: Mapping[int, bytes], field: int) -> bool | None:
    value = _status(fields, field)
    return None if value is None else value == 0xAA


def _fwid(fields: Mapping[int, bytes]) -> bytes | None:
    found = fields.get(FWID)
    if found is not None and len(found) != FWID_SIZE:
        raise Malformed(CODE, f"FWID has {len(found)} bytes, not {FWID_SIZE}")
    return found


def _pdis(data: bytes) -> list[bytes]:
    return [data[at : at + PDI_SIZE] for at in range(0, len(data), PDI_SIZE)]


def _switches(fields: Mapping[int, bytes]) -> frozenset[bytes] | None:
    """SWITCH_PDI: the switch at each NVLink, zeros for a link that is not used."""
    if PDI not in fields:
        return None
    if len(fields[PDI]) % PDI_SIZE:
        raise Malformed(CODE, f"SWITCH_PDI is not a list of ids of {PDI_SIZE} bytes")
    return frozenset(_pdis(fields[PDI])) - {_NO_DEVICE}


def _gpus(fields: Mapping[int, bytes]) -> frozenset[bytes] | None:
    """SWITCH_GPU_PDIS: eight GPUs, then for each of 64 ports which of them is there, 0xFF for none."""
    if SWITCH_GPU_PDIS not in fields:
        return None
    data = fields[SWITCH_GPU_PDIS]
    if len(data) != _SWITCH_GPUS * PDI_SIZE + _SWITCH_PORTS:
        raise Malformed(CODE, f"SWITCH_GPU_PDIS has {len(data)} bytes")
    pdis, ports = _pdis(data[: _SWITCH_GPUS * PDI_SIZE]), data[_SWITCH_GPUS * PDI_SIZE :]
    if any(_SWITCH_GPUS <= port < _NO_PORT for port in ports):
        raise Malformed(CODE, "SWITCH_GPU_PDIS: a port names a GPU that is not listed")
    return frozenset(pdis[port] for port in ports if port != _NO_PORT) - {_NO_DEVICE}
