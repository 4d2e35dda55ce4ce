"""The HCL report of an Azure confidential VM, as it lies in the virtual TPM's NV index 0x01400001.

Microsoft documents the layout under "Guest attestation for confidential VMs" and in OpenVMM (`openhcl_attestation_protocol`,
`igvm_attest`): a header, the hardware's report in 1184 bytes, and the runtime data whose digest that report carries. Integers are little
endian. The hardware report is not read here: for SEV-SNP it is an ATTESTATION_REPORT, for TDX a TDREPORT, which only the same machine can
verify, so that a quote made from it comes beside.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass

from rlu_attestation.cursor import Cursor
from rlu_attestation.errors import Malformed, Unsupported
from rlu_attestation.evidence.azure_vtpm.runtime import RuntimeData, parse_runtime_data

HARDWARE_REPORT_SIZE, TD_REPORT_SIZE = 1184, 1024
MAX_HCL = 16 * 1024
_CODE = "azure-vtpm.hcl.encoding"
_SIGNATURE = b"HCLA"
_VERSIONS = (1, 2)
_AK_CERT_REQUEST = 2
_RUNTIME_VERSION = 1
_SHA256 = 1
_HEADER_SIZE = 32 + HARDWARE_REPORT_SIZE
_RUNTIME_HEADER_SIZE = 20


class ReportType(enum.IntEnum):
    """IGVM_REPORT_TYPE: whose hardware report it is."""

    SNP = 2
    TDX = 4


@dataclass(frozen=True, slots=True)
class HclReport:
    """A report taken apart; nothing is verified.

    Attributes:
        version: of the header.
        report_type: whose `hardware_report` it is.
        hardware_report: 1184 bytes of SEV-SNP, 1024 of TDX.
        runtime_data: the bytes whose digest the hardware report carries.
        runtime: the same, read.
    """

    raw: bytes
    version: int
    report_type: ReportType
    hardware_report: bytes
    runtime_data: bytes
    runtime: RuntimeData

    @property
    def report_data(self) -> bytes:
        """What the hardware report must carry: SHA-256 of the runtime data, then zeros, 64 bytes."""
        return hashlib.sha256(self.runtime_data).digest().ljust(64, b"\0")


def trim_nv(data: bytes) -> bytes:
    """The report at the start of the NV index, without the zeros behind it.

    Raises:
        Malformed: not a report, or something else than zeros behind it (`azure-vtpm.hcl.encoding`).
    """
    cursor = Cursor(data, _CODE, MAX_HCL)
    cursor.take(8, "header")
    size = cursor.u32_le("report_size")
    if len(data) < size:
        raise Malformed(_CODE, "the report is longer than the NV index")
    if any(data[size:]):
        raise Malformed(_CODE, "something else than zeros follows the report")
    return data[:size]


def parse_hcl_report(data: bytes) -> HclReport:
    """Read a report, exactly (see `trim_nv`).

    Raises:
        Malformed: `azure-vtpm.hcl.encoding`, `azure-vtpm.runtime.encoding`.
        Unsupported: `azure-vtpm.hcl.encoding` for another version, hardware or digest; `azure-vtpm.runtime.encoding` for other keys.
    """
    cursor = Cursor(data, _CODE, MAX_HCL)
    if cursor.take(4, "signature") != _SIGNATURE:
        raise Malformed(_CODE, "the report does not begin with HCLA")
    version = cursor.u32_le("version")
    if version not in _VERSIONS:
        raise Unsupported(_CODE, f"version {version} of the report is not supported here")
    if cursor.u32_le("report_size") != len(data):
        raise Malformed(_CODE, "report_size is not the report's size")
    if cursor.u32_le("request_type") != _AK_CERT_REQUEST:
        raise Malformed(_CODE, "request_type is not that of reports about an AK")
    cursor.reserved(4, "status")
    cursor.reserved(12, "reserved")
    hardware_report = cursor.take(HARDWARE_REPORT_SIZE, "hardware report")
    report_type = _runtime_header(cursor, len(data))
    if report_type is ReportType.TDX:
        if any(hardware_report[TD_REPORT_SIZE:]):
            raise Malformed(_CODE, "a TDREPORT has 1024 bytes, and zeros must follow it")
        hardware_report = hardware_report[:TD_REPORT_SIZE]
    runtime_data = cursor.take(cursor.remaining, "runtime data")
    return HclReport(
        data, version, report_type, hardware_report, runtime_data, parse_runtime_data(runtime_data)
    )


def _runtime_header(cursor: Cursor, size: int) -> ReportType:
    """IgvmAttestRequestData: sizes that must agree with the report's, and what the runtime data is for."""
    if cursor.u32_le("data_size") != size - _HEADER_SIZE:
        raise Malformed(_CODE, "data_size is not what follows the hardware report")
    version = cursor.u32_le("request data version")
    if version != _RUNTIME_VERSION:
        raise Unsupported(_CODE, f"version {version} of the runtime data is not supported here")
    number = cursor.u32_le("report_type")
    try:
        report_type = ReportType(number)
    except ValueError as error:
        raise Unsupported(_CODE, f"report_type {number} is neither SEV-SNP's nor TDX's") from error
    digest = cursor.u32_le("report_data_hash_type")
    if digest != _SHA256:
        raise Unsupported(_CODE, f"report_data_hash_type {digest} is not SHA-256")
    if cursor.u32_le("variable_data_size") != size - _HEADER_SIZE - _RUNTIME_HEADER_SIZE:
        raise Malformed(_CODE, "variable_data_size is not that of the runtime data")
    return report_type
