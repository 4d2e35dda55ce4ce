"""TDX quotes, versions 4 and 5 ("TDX DCAP Quoting Library API", appendix A.3 and A.4).

    header (48) ‖ [v5: body type (2) ‖ body size (4)] ‖ body ‖ size (4) ‖ signature data
    signature data = signature (64) ‖ attestation key (64) ‖ certification data of type 6
    type 6         = QE report (384) ‖ its signature (64) ‖ QE authentication data ‖ certification data of type 5
    type 5         = the PCK's chain in PEM: PCK, its authority, the root

All integers are little endian. Nothing may be left over at any level; platforms that hand out a quote in a larger buffer are what
`trim` is for. SGX quotes, other keys than ECDSA P-256 and other certification data are recognised and refused as unsupported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlu_attestation import x509
from rlu_attestation.cursor import Cursor
from rlu_attestation.errors import Malformed, RluError, Unsupported
from rlu_attestation.evidence.tdx.body import BODY_SIZES, BodyType, TdReport, read_td_report
from rlu_attestation.evidence.tdx.enclave import REPORT_SIZE, EnclaveReport, parse_enclave_report
from rlu_attestation.x509 import Certificate

MAX_QUOTE = 64 * 1024
INTEL_QE_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")

_CODE = "tdx.quote.encoding"
_VERSIONS = (4, 5)
_SGX_VERSION = 3
_TEE_SGX, _TEE_TDX = 0x00, 0x81
_ECDSA_P256 = 2
_PCK_CHAIN, _QE_REPORT = 5, 6
_HEADER = 48
_SIGNATURE = 64
_CHAIN = 3
_PEM = re.compile(
    rb"(?:-----BEGIN CERTIFICATE-----\r?\n[A-Za-z0-9+/=\r\n]+-----END CERTIFICATE-----(?:\r?\n)*)+\x00?"
)


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote taken apart; nothing of it is verified. Signatures are r ‖ s, the attestation key x ‖ y, big endian.

    Attributes:
        signed: header and body, the bytes that the attestation key signed.
        user_data: 20 bytes; the quoting enclave puts its identity into the first 16.
        pck, pck_ca, root: the chain in the certification data, as it stands there.
    """

    raw: bytes
    version: int
    qe_vendor_id: bytes
    user_data: bytes
    body_type: BodyType
    report: TdReport
    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: EnclaveReport
    qe_report_signature: bytes
    qe_authentication_data: bytes
    pck: Certificate
    pck_ca: Certificate
    root: Certificate


def trim(buffer: bytes) -> bytes:
    """The quote at the start of a buffer that the platform filled up with zero bytes.

    What follows the quote must be zero to be cut off; any other buffer is given back as it is, for `parse_quote` to refuse.
    """
    try:
        end = _length(Cursor(buffer, _CODE, MAX_QUOTE))
    except RluError:
        return buffer
    return buffer if any(buffer[end:]) else buffer[:end]


def parse_quote(data: bytes) -> Quote:
    """Take a quote apart.

    Raises:
        Malformed: lengths that do not fit or leftovers (`tdx.quote.encoding`), reserved bits or bytes (`tdx.quote.reserved`), or a chain
            that is not three certificates in PEM (`tdx.quote.chain`, `x509.encoding`).
        Unsupported: `tdx.quote.sgx`, `.version`, `.tee_type`, `.algorithm`, `.qe_vendor`, `.body_type`, `.certification_data`.
    """
    cursor = Cursor(data, _CODE, MAX_QUOTE)
    version, user_data = _header(cursor)
    body_type = BodyType.TD10 if version == _VERSIONS[0] else _body_type(cursor)
    report = read_td_report(cursor, body_type)
    signed = cursor.since(0)
    body = _sized(cursor, cursor.u32_le("size of the signature data"), "signature data")
    cursor.end()
    signature, attestation_key = body.take(_SIGNATURE, "signature"), body.take(64, "attestation key")
    outer = _certification_data(body, _QE_REPORT, "QE certification data")
    body.end()
    qe_report = parse_enclave_report(outer.take(REPORT_SIZE, "QE report"))
    qe_report_signature = outer.take(_SIGNATURE, "QE report signature")
    authentication = outer.take(outer.u16_le("size of QE authentication data"), "QE authentication data")
    inner = _certification_data(outer, _PCK_CHAIN, "PCK certification data")
    outer.end()
    pck, pck_ca, root = pem_chain(inner.take(inner.remaining, "PCK chain"), _CHAIN, "tdx.quote.chain")
    return Quote(
        raw=data,
        version=version,
        qe_vendor_id=INTEL_QE_VENDOR_ID,
        user_data=user_data,
        body_type=body_type,
        report=report,
        signed=signed,
        signature=signature,
        attestation_key=attestation_key,
        qe_report=qe_report,
        qe_report_signature=qe_report_signature,
        qe_authentication_data=authentication,
        pck=pck,
        pck_ca=pck_ca,
        root=root,
    )


def pem_chain(text: bytes, size: int, code: str) -> tuple[Certificate, ...]:
    """Certificates in PEM, exactly so many, with nothing between them and nothing after them but line ends and one NUL.

    Nobody signed the PEM, so it may have one form only, that of `x509.to_pem`, with line feeds or carriage returns before them.

    Raises:
        Malformed: `code`, or `x509.encoding`.
    """
    if _PEM.fullmatch(text) is None:
        raise Malformed(code, "a chain is certificates in PEM and nothing else")
    found = x509.parse_many(text)
    if len(found) != size:
        raise Malformed(code, f"a chain of {size} certificates belongs here, not of {len(found)}")
    if text.replace(b"\r\n", b"\n").rstrip(b"\n\x00") != x509.to_pem(*found).rstrip(b"\n"):
        raise Malformed(
            code, "certificates in PEM have lines of 64 characters, and no bits beyond their last byte"
        )
    return found


def _length(cursor: Cursor) -> int:
    version, _ = _header(cursor)
    body_type = BodyType.TD10 if version == _VERSIONS[0] else _body_type(cursor)
    cursor.take(BODY_SIZES[body_type], "body")
    cursor.take(cursor.u32_le("size of the signature data"), "signature data")
    return cursor.position


def _header(cursor: Cursor) -> tuple[int, bytes]:
    version = cursor.u16_le("Version")
    if version == _SGX_VERSION:
        raise Unsupported("tdx.quote.sgx", "a version 3 quote is of an SGX enclave, not of a trust domain")
    if version not in _VERSIONS:
        raise Unsupported("tdx.quote.version", f"quote version {version} is not one of {_VERSIONS}")
    key_type, tee_type = cursor.u16_le("Attestation Key Type"), cursor.u32_le("TEE Type")
    if tee_type == _TEE_SGX:
        raise Unsupported("tdx.quote.sgx", "the quote is of an SGX enclave, not of a trust domain")
    if tee_type != _TEE_TDX:
        raise Unsupported("tdx.quote.tee_type", f"TEE type {tee_type:#x} is not known")
    if key_type != _ECDSA_P256:
        raise Unsupported("tdx.quote.algorithm", f"attestation key type {key_type} is not ECDSA P-256")
    if any(cursor.take(4, "reserved bytes of the header")):
        raise Malformed("tdx.quote.reserved", "reserved bytes of the header are not zero")
    vendor = cursor.take(16, "QE Vendor ID")
    if vendor != INTEL_QE_VENDOR_ID:
        raise Unsupported("tdx.quote.qe_vendor", f"quoting enclaves of vendor {vendor.hex()} are not known")
    return version, cursor.take(20, "User Data")


def _body_type(cursor: Cursor) -> BodyType:
    number, size = cursor.u16_le("body type"), cursor.u32_le("body size")
    if number == BodyType.SGX:
        raise Unsupported("tdx.quote.sgx", "the body is an SGX enclave's report, not a trust domain's")
    if number not in (BodyType.TD10, BodyType.TD15):
        raise Unsupported("tdx.quote.body_type", f"body type {number} is not TD report 1.0 or 1.5")
    body_type = BodyType(number)
    if size != BODY_SIZES[body_type]:
        raise Malformed(_CODE, f"a body of type {number} has {BODY_SIZES[body_type]} bytes, not {size}")
    return body_type


def _certification_data(cursor: Cursor, expected: int, field: str) -> Cursor:
    kind = cursor.u16_le(f"type of the {field}")
    if kind != expected:
        raise Unsupported("tdx.quote.certification_data", f"{field} of type {kind}; only {expected} is read")
    return _sized(cursor, cursor.u32_le(f"size of the {field}"), field)


def _sized(cursor: Cursor, size: int, field: str) -> Cursor:
    return Cursor(cursor.take(size, field), _CODE, MAX_QUOTE)


def is_quote(data: bytes) -> bool:
    """Whether a file looks like a TDX quote: version, key type and TEE type say so."""
    try:
        _header(Cursor(data[:_HEADER], _CODE, _HEADER))
    except RluError:
        return False
    return True
