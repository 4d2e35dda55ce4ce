"""The identity of the TD quoting enclave, version 2 (Intel PCS API version 4, "Get TDX QE Identity"). Nothing here is verified."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rlu_attestation.errors import Malformed, Unsupported
from rlu_attestation.evidence.tdx import signed_json
from rlu_attestation.evidence.tdx.tcb_info import SvnLevel, svn_levels

CODE = "tdx.qe_identity.encoding"


@dataclass(frozen=True, slots=True)
class QeIdentity:
    """Which enclave may quote. Values and masks are bytes in the order of the enclave's report."""

    issue_date: datetime
    next_update: datetime
    tcb_evaluation_data_number: int
    misc_select: bytes
    misc_select_mask: bytes
    attributes: bytes
    attributes_mask: bytes
    mr_signer: bytes
    isv_prod_id: int
    levels: tuple[SvnLevel, ...]


def parse_qe_identity(text: str) -> QeIdentity:
    """Read a QE identity.

    Raises:
        Malformed: `tdx.qe_identity.encoding`.
        Unsupported: of another enclave or version (`tdx.qe_identity.version`), a status (`tdx.qe_identity.status`) or a member
            (`tdx.qe_identity.encoding.member`) that is not known.
    """
    fields = signed_json.read(text, CODE, "QE identity")
    name, version = fields.text("id"), fields.number("version", 0xFFFF)
    if (name, version) != ("TD_QE", 2):
        raise Unsupported(
            "tdx.qe_identity.version", f"identity {name!r} version {version} is not TD_QE version 2"
        )
    identity = QeIdentity(
        issue_date=fields.time("issueDate"),
        next_update=fields.time("nextUpdate"),
        tcb_evaluation_data_number=fields.number("tcbEvaluationDataNumber", 0xFFFFFFFF),
        misc_select=fields.hexadecimal("miscselect", 4),
        misc_select_mask=fields.hexadecimal("miscselectMask", 4),
        attributes=fields.hexadecimal("attributes", 16),
        attributes_mask=fields.hexadecimal("attributesMask", 16),
        mr_signer=fields.hexadecimal("mrsigner", 32),
        isv_prod_id=fields.number("isvprodid", 0xFFFF),
        levels=svn_levels(fields, "tdx.qe_identity.status", CODE),
    )
    fields.end()
    if not identity.levels:
        raise Malformed(CODE, "a QE identity without levels")
    return identity
