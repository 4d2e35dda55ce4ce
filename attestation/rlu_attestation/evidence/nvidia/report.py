"""A device's report: an SPDM 1.1 GET_MEASUREMENTS request and the MEASUREMENTS response to it, as NVML and NSCQ hand them out.

DMTF DSP0274 version 1.1.0, sections 10.11 (GET_MEASUREMENTS, MEASUREMENTS) and 10.11.1 (measurement block). Integers are little endian.
The device signs request and response together; all measurements must have been asked for. Reserved fields refuse when set.

The opaque data of the response is NVIDIA's; `rlu_attestation.evidence.nvidia.opaque` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlu_attestation.cursor import Cursor
from rlu_attestation.errors import Malformed, Unsupported
from rlu_attestation.evidence.nvidia.opaque import DeviceKind, OpaqueData, parse_opaque

NONCE_SIZE = 32
DIGEST_SIZE = 48
SIGNATURE_SIZE = 96
MAX_REPORT = 64 * 1024

_ENCODING, _VERSION, _RESERVED = (
    "nvidia.report.encoding",
    "nvidia.report.version",
    "nvidia.report.reserved",
)
_REQUEST, _MEASUREMENTS = "nvidia.report.request", "nvidia.report.measurements"
_SPDM_1_1 = 0x11
_GET_MEASUREMENTS, _RESPONSE_MEASUREMENTS = 0xE0, 0x60
_SIGNED, _ALL = 0x01, 0xFF
_DMTF = 0x01
_RAW_BIT = 0x80


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement block.

    Attributes:
        index: 1 and up; a RIM's index is one less.
        value_type: DMTFSpecMeasurementValueType, bits 6 … 0.
        value: SHA-384 digest, 48 bytes.
    """

    index: int
    value_type: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """A report taken apart. Nothing about it is verified.

    Attributes:
        raw: request and response, with the signature.
        nonce: 32 bytes of the request, chosen by whoever asked.
        slot_id: certificate slot that the request names.
        measurements: in the order of their indexes, without gaps.
        response_nonce: 32 bytes of the device's.
        opaque: what the device says about itself.
        signature: r ‖ s, 48 bytes each.
    """

    raw: bytes
    nonce: bytes
    slot_id: int
    measurements: tuple[Measurement, ...]
    response_nonce: bytes
    opaque: OpaqueData
    signature: bytes

    @property
    def signed(self) -> bytes:
        """The bytes that the device signed."""
        return self.raw[:-SIGNATURE_SIZE]


def parse_report(data: bytes, kind: DeviceKind) -> Report:
    """Read a report of a GPU or a switch.

    Raises:
        Malformed: `nvidia.report.encoding`, `.reserved`, `.measurements`, `.opaque`.
        Unsupported: another SPDM version (`.version`), not everything asked for or not signed (`.request`), other kinds of measurements
            (`.measurements`).
    """
    cursor = Cursor(data, _ENCODING, MAX_REPORT)
    nonce, slot_id = _request(cursor)
    count = _response_header(cursor, slot_id)
    record = cursor.take(_u24(cursor, "MeasurementRecordLength"), "MeasurementRecordData")
    measurements = _record(record, count)
    response_nonce = cursor.take(NONCE_SIZE, "Nonce")
    opaque = parse_opaque(cursor.take(cursor.u16_le("OpaqueLength"), "OpaqueData"), kind)
    signature = cursor.take(SIGNATURE_SIZE, "Signature")
    cursor.end()
    return Report(data, nonce, slot_id, measurements, response_nonce, opaque, signature)


def _request(cursor: Cursor) -> tuple[bytes, int]:
    _message(cursor, _GET_MEASUREMENTS, "request")
    attributes, operation = cursor.u8("Param1"), cursor.u8("Param2")
    if (attributes, operation) != (_SIGNED, _ALL):
        raise Unsupported(
            _REQUEST,
            f"Param1 {attributes:#04x}, Param2 {operation:#04x}: a signature over all measurements must be asked for",
        )
    nonce = cursor.take(NONCE_SIZE, "Nonce")
    slot_id = cursor.u8("SlotIDParam")
    if slot_id & 0xF0:
        raise Malformed(_RESERVED, "bits 7 … 4 of SlotIDParam are reserved")
    return nonce, slot_id


def _response_header(cursor: Cursor, slot_id: int) -> int:
    _message(cursor, _RESPONSE_MEASUREMENTS, "response")
    # Param1 counts the measurements only when Param2 of the request was 0.
    if cursor.u8("Param1"):
        raise Malformed(_RESERVED, "Param1 of the response is reserved when all measurements are asked for")
    answered = cursor.u8("Param2")
    if answered != slot_id:
        raise Malformed(
            _RESERVED, f"the request names slot {slot_id}, Param2 of the response {answered:#04x}"
        )
    return cursor.u8("NumberOfBlocks")


def _message(cursor: Cursor, code: int, what: str) -> None:
    version = cursor.u8("SPDMVersion")
    if version != _SPDM_1_1:
        raise Unsupported(_VERSION, f"SPDMVersion {version:#04x} of the {what}; 1.1 is implemented")
    found = cursor.u8("RequestResponseCode")
    if found != code:
        raise Malformed(
            _ENCODING, f"RequestResponseCode {found:#04x} of the {what} where {code:#04x} belongs"
        )


def _u24(cursor: Cursor, field: str) -> int:
    return int.from_bytes(cursor.take(3, field), "little")


def _record(record: bytes, count: int) -> tuple[Measurement, ...]:
    """Measurement blocks, numbered from 1 without gaps: a device that leaves one out would escape the comparison."""
    if not count:
        raise Malformed(_MEASUREMENTS, "the response holds no measurements")
    cursor = Cursor(record, _MEASUREMENTS, MAX_REPORT)
    found = []
    for expected in range(1, count + 1):
        index, specification = cursor.u8("Index"), cursor.u8("MeasurementSpecification")
        if index != expected:
            raise Malformed(_MEASUREMENTS, f"measurement {index} where {expected} belongs")
        if specification != _DMTF:
            raise Unsupported(
                _MEASUREMENTS, f"MeasurementSpecification {specification:#04x} of measurement {index}"
            )
        if cursor.u16_le("MeasurementSize") != 3 + DIGEST_SIZE:
            raise Unsupported(_MEASUREMENTS, f"measurement {index} is not a SHA-384 digest")
        value_type = cursor.u8("DMTFSpecMeasurementValueType")
        if value_type & _RAW_BIT or cursor.u16_le("DMTFSpecMeasurementValueSize") != DIGEST_SIZE:
            raise Unsupported(_MEASUREMENTS, f"measurement {index} is not a SHA-384 digest")
        found.append(Measurement(index, value_type, cursor.take(DIGEST_SIZE, "DMTFSpecMeasurementValue")))
    cursor.end()
    return tuple(found)
