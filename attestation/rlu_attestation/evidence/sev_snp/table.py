"""The certificate table that a host hands out with a report (GHCB specification 56421; configfs-tsm `auxblob`).

Entries of 24 bytes, GUID, offset, length, ended by one of zeros; then the certificates. The guest must not trust any of it: it only saves a
look-up, and every certificate is verified like one from elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from rlu_attestation.cursor import Cursor
from rlu_attestation.errors import Malformed

_CODE = "sev-snp.table"
_MAX_TABLE = 64 * 1024
_MAX_ENTRIES = 16
_ENTRY_SIZE = 24

_VCEK = UUID("63da758d-e664-4564-adc5-f4b93be8accd")
_VLEK = UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
_ASK = UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782")
_ARK = UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae")
_CRL = UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea")


@dataclass(frozen=True, slots=True)
class CertificateTable:
    """DER of what the host has; None for what it has not. Entries of other kinds are left out."""

    vcek: bytes | None
    vlek: bytes | None
    ask: bytes | None
    ark: bytes | None
    crl: bytes | None


def parse_certificate_table(data: bytes) -> CertificateTable:
    """Read a table.

    Raises:
        Malformed: not empty and no end, too many entries, an entry given twice or one that points outside the table (`sev-snp.table`).
    """
    if not data:
        return CertificateTable(None, None, None, None, None)
    cursor = Cursor(data, _CODE, _MAX_TABLE)
    found: dict[UUID, bytes] = {}
    for _ in range(_MAX_ENTRIES):
        guid = UUID(
            bytes=cursor.take(16, "GUID")
        )  # in the order of the text form, unlike most GUIDs in firmware
        offset, length = cursor.u32_le("OFFSET"), cursor.u32_le("LENGTH")
        if guid.int == 0 and not offset and not length:
            return CertificateTable(*(found.get(kind) for kind in (_VCEK, _VLEK, _ASK, _ARK, _CRL)))
        if guid in found:
            raise Malformed(_CODE, f"entry {guid} occurs twice")
        if offset < _ENTRY_SIZE or not length or offset + length > len(data):
            raise Malformed(_CODE, f"entry {guid} does not lie inside the table")
        found[guid] = data[offset : offset + length]
    raise Malformed(_CODE, f"more than {_MAX_ENTRIES - 1} entries")
