"""Certificates of the keys that sign reports: VCEK and VLEK, and AMD's extensions in them (KDS specification 57230, section 3).

A VCEK belongs to one chip and names it (`hwID`); a VLEK is loaded by a cloud provider and names that (`cspID`). Both are derived for one
TCB, level by level in extensions of their own. All of them must be there, none twice, none unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlu_attestation import der
from rlu_attestation.errors import Malformed, Unsupported
from rlu_attestation.evidence.sev_snp.product import ProductLine, TcbVersion, product_of_name
from rlu_attestation.evidence.sev_snp.report import SigningKey
from rlu_attestation.names import printable
from rlu_attestation.x509 import Certificate

AMD_VEK = "1.3.6.1.4.1.3704.1."
STRUCT_VERSION, PRODUCT_NAME, SPL, HWID, CSP_ID = "1", "2", "3.", "4", "5"

_CODE = "sev-snp.vek.extension"
_IA5_STRING = 0x16
_CLASSIC_LEVELS = ("1", "2", "4", "5", "6", "7", "3", "8")
_TURIN_LEVELS = ("9", "1", "2", "3", "5", "6", "7", "8")
"""Extensions 3.n in the order of the bytes of TCB_VERSION: blSPL 1, teeSPL 2, snpSPL 3, spl4 … spl7, ucodeSPL 8, fmcSPL 9."""


@dataclass(frozen=True, slots=True)
class VekExtensions:
    """What AMD's extensions of a VCEK or VLEK certificate say. It holds once the certificate's chain was verified.

    Attributes:
        kind: VCEK with a `hwid`, or VLEK with a `csp_id`.
        tcb: the TCB_VERSION that the key was derived for.
    """

    kind: SigningKey
    product_name: str
    product: ProductLine
    tcb: TcbVersion
    hwid: bytes | None
    csp_id: str | None


def parse_extensions(certificate: Certificate) -> VekExtensions:
    """Read AMD's extensions.

    Raises:
        Malformed: an extension that is missing, unknown or not of its form (`sev-snp.vek.extension`).
        Unsupported: `sev-snp.vek.version`, `sev-snp.product.unknown`.
    """
    found = {
        extension.oid.removeprefix(AMD_VEK): extension.value
        for extension in certificate.extensions
        if extension.oid.startswith(AMD_VEK)
    }
    version = _integer(_take(found, STRUCT_VERSION))
    if version not in (0, 1):
        raise Unsupported("sev-snp.vek.version", f"structVersion {version} is not known")
    product_name = _text(_take(found, PRODUCT_NAME))
    product = product_of_name(product_name)
    levels = _TURIN_LEVELS if product is ProductLine.TURIN else _CLASSIC_LEVELS
    tcb = TcbVersion(bytes(_integer(_take(found, SPL + level)) for level in levels))
    hwid = _hwid(found.pop(HWID), product) if HWID in found else None
    csp_id = _text(found.pop(CSP_ID)) if CSP_ID in found else None
    if found:
        raise Malformed(
            _CODE,
            f"extensions {', '.join(sorted(found))} do not belong into a certificate for {product.value}",
        )
    if (hwid is None) == (csp_id is None):
        raise Malformed(_CODE, "exactly one of hwID and cspID tells a VCEK from a VLEK")
    kind = SigningKey.VCEK if csp_id is None else SigningKey.VLEK
    return VekExtensions(kind, product_name, product, tcb, hwid, csp_id)


def _take(found: dict[str, bytes], suffix: str) -> bytes:
    if suffix not in found:
        raise Malformed(_CODE, f"extension {AMD_VEK}{suffix} is missing")
    return found.pop(suffix)


def _integer(value: bytes) -> int:
    body = der.Reader(value, _CODE, len(value))
    number = body.integer("security patch level")
    body.end()
    if not 0 <= number <= 0xFF:
        raise Malformed(_CODE, f"a level of {number} does not fit a byte")
    return number


def _text(value: bytes) -> str:
    body = der.Reader(value, _CODE, len(value))
    content = body.element(_IA5_STRING, "IA5String").content
    body.end()
    return printable(content, _CODE)


def _hwid(value: bytes, product: ProductLine) -> bytes:
    """The raw bytes, as AMD's KDS writes them, or an OCTET STRING, as its specification does; the length tells which."""
    size = product.hwid_size
    if len(value) == size:
        return value
    body = der.Reader(value, _CODE, len(value))
    content = body.element(der.OCTET_STRING, "hwID").content
    body.end()
    if len(content) != size:
        raise Malformed(_CODE, f"hwID has {len(content)} bytes; those of {product.value} have {size}")
    return content
