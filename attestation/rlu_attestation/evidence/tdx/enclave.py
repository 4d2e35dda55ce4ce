"""The report of the enclave that quotes, the TD quoting enclave ("TDX DCAP Quoting Library API", table "Enclave Report Body").

384 bytes. What the table reserves must be zero: the quoting enclave uses none of the later additions (key separation and sharing).
"""

from __future__ import annotations

from dataclasses import dataclass

from rlu_attestation.cursor import Cursor
from rlu_attestation.errors import Malformed

REPORT_SIZE = 384


@dataclass(frozen=True, slots=True)
class EnclaveReport:
    """An enclave's report taken apart; nothing of it is verified. `misc_select` and `attributes` are bytes as in memory."""

    raw: bytes
    cpu_svn: bytes
    misc_select: bytes
    attributes: bytes
    mr_enclave: bytes
    mr_signer: bytes
    isv_prod_id: int
    isv_svn: int
    report_data: bytes


def parse_enclave_report(data: bytes) -> EnclaveReport:
    """Take a report apart.

    Raises:
        Malformed: another length (`tdx.quote.encoding`), or a reserved byte (`tdx.quote.reserved`).
    """
    if len(data) != REPORT_SIZE:
        raise Malformed("tdx.quote.encoding", f"an enclave report has {REPORT_SIZE} bytes, not {len(data)}")
    cursor = Cursor(data, "tdx.quote.reserved", REPORT_SIZE)
    cpu_svn, misc_select = cursor.take(16, "CPUSVN"), cursor.take(4, "MISCSELECT")
    cursor.reserved(28, "what follows MISCSELECT")
    attributes, mr_enclave = cursor.take(16, "Attributes"), cursor.take(32, "MRENCLAVE")
    cursor.reserved(32, "what follows MRENCLAVE")
    mr_signer = cursor.take(32, "MRSIGNER")
    cursor.reserved(96, "what follows MRSIGNER")
    isv_prod_id, isv_svn = cursor.u16_le("ISV ProdID"), cursor.u16_le("ISV SVN")
    cursor.reserved(60, "what follows ISV SVN")
    report_data = cursor.take(64, "Report Data")
    cursor.end()
    return EnclaveReport(
        raw=data,
        cpu_svn=cpu_svn,
        misc_select=misc_select,
        attributes=attributes,
        mr_enclave=mr_enclave,
        mr_signer=mr_signer,
        isv_prod_id=isv_prod_id,
        isv_svn=isv_svn,
        report_data=report_data,
    )
