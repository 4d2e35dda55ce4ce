"""What a TPM signs, TPMS_ATTEST, and its signature, TPMT_SIGNATURE (TPM 2.0 Library, Part 2, sections 10.12 and 11.3), under its names.

Every reader takes exactly one structure; unknown selectors, impossible sizes and leftovers refuse. `raw` is the structure as it was read,
because signatures are over those bytes. Nothing here is verified.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlu_attestation.cursor import Cursor
from rlu_attestation.errors import Unsupported
from rlu_attestation.tpm.algorithm import MAX_STRUCTURE, read_algorithm, read_hash
from rlu_attestation.tpm.constants import TPM_GENERATED_VALUE, Alg, Structure
from rlu_attestation.tpm.public import MAX_RSA

_MAX_NAME = 2 + 64
_MAX_COORDINATE = 66
_MAX_BANKS = 16


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """TPML_PCR_SELECTION: banks in order, each with ascending PCR numbers."""

    raw: bytes
    banks: tuple[tuple[Alg, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class ClockInfo:
    """TPMS_CLOCK_INFO; `clock` in milliseconds."""

    clock: int
    reset_count: int
    restart_count: int
    safe: bool


@dataclass(frozen=True, slots=True)
class QuoteInfo:
    """TPMS_QUOTE_INFO."""

    pcr_select: PcrSelection
    pcr_digest: bytes


@dataclass(frozen=True, slots=True)
class CertifyInfo:
    """TPMS_CERTIFY_INFO."""

    name: bytes
    qualified_name: bytes


@dataclass(frozen=True, slots=True)
class Attest:
    """TPMS_ATTEST of a quote or a certification; the magic number was checked."""

    raw: bytes
    qualified_signer: bytes
    extra_data: bytes
    clock_info: ClockInfo
    firmware_version: int
    attested: QuoteInfo | CertifyInfo


@dataclass(frozen=True, slots=True)
class Signature:
    """TPMT_SIGNATURE: RSASSA and RSAPSS carry `rsa`, ECDSA `r` and `s`."""

    scheme: Alg
    hash: Alg
    rsa: bytes
    r: int
    s: int


def parse_attest(data: bytes) -> Attest:
    """Read a TPMS_ATTEST.

    Raises:
        Malformed: `tpm2.attest`; among others when it does not begin with TPM_GENERATED_VALUE.
        Unsupported: `tpm2.attest` for other types than quote and certify.
    """
    cursor = Cursor(data, "tpm2.attest", MAX_STRUCTURE)
    if cursor.u32("magic") != TPM_GENERATED_VALUE:
        raise cursor.malformed("the magic number is not TPM_GENERATED_VALUE: no TPM made this structure")
    kind = cursor.u16("type")
    signer = cursor.sized16("qualifiedSigner", _MAX_NAME)
    extra_data = cursor.sized16("extraData", 64)
    clock = ClockInfo(
        cursor.u64("clock"), cursor.u32("resetCount"), cursor.u32("restartCount"), _yes_no(cursor, "safe")
    )
    firmware = cursor.u64("firmwareVersion")
    attested: QuoteInfo | CertifyInfo
    if kind == Structure.ATTEST_QUOTE:
        attested = QuoteInfo(_pcr_selection(cursor), cursor.sized16("pcrDigest", 64))
    elif kind == Structure.ATTEST_CERTIFY:
        attested = CertifyInfo(cursor.sized16("name", _MAX_NAME), cursor.sized16("qualifiedName", _MAX_NAME))
    else:
        raise Unsupported(
            "tpm2.attest", f"attestation type 0x{kind:04x} is neither a quote nor a certification"
        )
    cursor.end()
    return Attest(data, signer, extra_data, clock, firmware, attested)


def parse_signature(data: bytes) -> Signature:
    """Read a TPMT_SIGNATURE.

    Raises:
        Malformed: `tpm2.signature`.
        Unsupported: `tpm2.signature` for other schemes than RSASSA, RSAPSS and ECDSA.
    """
    cursor = Cursor(data, "tpm2.signature", MAX_STRUCTURE)
    scheme = read_algorithm(cursor, "sigAlg", frozenset({Alg.RSASSA, Alg.RSAPSS, Alg.ECDSA}))
    algorithm = read_hash(cursor, "hash")
    if scheme is Alg.ECDSA:
        r, s = cursor.sized16("signatureR", _MAX_COORDINATE), cursor.sized16("signatureS", _MAX_COORDINATE)
        signature = Signature(scheme, algorithm, b"", int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    else:
        signature = Signature(scheme, algorithm, cursor.sized16("sig", MAX_RSA), 0, 0)
    cursor.end()
    return signature


def parse_pcr_selection(data: bytes) -> PcrSelection:
    """Read a TPML_PCR_SELECTION.

    Raises:
        Malformed: `tpm2.pcr_selection`.
    """
    cursor = Cursor(data, "tpm2.pcr_selection", MAX_STRUCTURE)
    selection = _pcr_selection(cursor)
    cursor.end()
    return selection


def _yes_no(cursor: Cursor, field: str) -> bool:
    value = cursor.u8(field)
    if value > 1:
        raise cursor.malformed(f"{field} is neither YES nor NO")
    return value == 1


def _pcr_selection(cursor: Cursor) -> PcrSelection:
    start = cursor.position
    count = cursor.u32("pcrSelect.count")
    if count > _MAX_BANKS:
        raise cursor.malformed("pcrSelect has more banks than there are hash algorithms")
    banks: list[tuple[Alg, tuple[int, ...]]] = []
    for _ in range(count):
        bank = read_hash(cursor, "pcrSelect.hash")
        size = cursor.u8("pcrSelect.sizeofSelect")
        if not 3 <= size <= 4:
            raise cursor.malformed("pcrSelect.sizeofSelect must be 3 or 4")
        bits = cursor.take(size, "pcrSelect.pcrSelect")
        if any(bank is other for other, _ in banks):
            raise cursor.malformed("pcrSelect names a bank twice")
        banks.append((bank, tuple(i for i in range(8 * size) if bits[i // 8] >> i % 8 & 1)))
    return PcrSelection(cursor.since(start), tuple(banks))
