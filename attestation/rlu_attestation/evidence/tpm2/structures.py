"""TPM structures from their marshalled bytes: TPM 2.0 Library, Part 2: Structures (revision 1.59 and later), under its names.

Every reader takes exactly one structure; reserved bits, unknown selectors, impossible sizes and leftovers refuse. `raw` is the structure as
it was read, because names and signatures are over those bytes. Nothing here is verified.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from rlu_attestation.cursor import Cursor
from rlu_attestation.errors import Malformed, Unsupported
from rlu_attestation.evidence.tpm2.constants import (
    DEFINED_ATTRIBUTES,
    HASHES,
    TPM_GENERATED_VALUE,
    Alg,
    Attribute,
    Curve,
    Structure,
    digest,
    digest_size,
)

MAX_STRUCTURE = 4096
_MAX_NAME = 2 + 64
_MAX_RSA = 512
_RSA_BITS = frozenset({1024, 2048, 3072, 4096})
_MAX_COORDINATE = 66
_MAX_BANKS = 16
_CURVES: dict[Curve, ec.EllipticCurve] = {
    Curve.NIST_P256: ec.SECP256R1(),
    Curve.NIST_P384: ec.SECP384R1(),
    Curve.NIST_P521: ec.SECP521R1(),
}
_RSA_SCHEMES = frozenset({Alg.RSASSA, Alg.RSAPSS, Alg.RSAES, Alg.OAEP})
_ECC_SCHEMES = frozenset({Alg.ECDSA, Alg.ECDH})


@dataclass(frozen=True, slots=True)
class Symmetric:
    """TPMT_SYM_DEF_OBJECT other than TPM_ALG_NULL."""

    algorithm: Alg
    key_bits: int
    mode: Alg


@dataclass(frozen=True, slots=True)
class Scheme:
    """TPMT_RSA_SCHEME or TPMT_ECC_SCHEME other than TPM_ALG_NULL; RSAES has no hash."""

    scheme: Alg
    hash: Alg | None


@dataclass(frozen=True, slots=True)
class RsaKey:
    """TPMS_RSA_PARMS and TPM2B_PUBLIC_KEY_RSA."""

    key_bits: int
    exponent: int
    modulus: bytes


@dataclass(frozen=True, slots=True)
class EccKey:
    """TPMS_ECC_PARMS and TPMS_ECC_POINT."""

    curve: Curve
    x: bytes
    y: bytes


@dataclass(frozen=True, slots=True)
class Public:
    """TPMT_PUBLIC of an RSA or ECC key."""

    raw: bytes
    name_alg: Alg
    attributes: Attribute
    auth_policy: bytes
    symmetric: Symmetric | None
    scheme: Scheme | None
    key: RsaKey | EccKey

    def public_key(self) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
        """The key for verifying signatures; what `parse_public` returned always has one."""
        try:
            if isinstance(self.key, RsaKey):
                return rsa.RSAPublicNumbers(
                    self.key.exponent, int.from_bytes(self.key.modulus, "big")
                ).public_key()
            x, y = int.from_bytes(self.key.x, "big"), int.from_bytes(self.key.y, "big")
            return ec.EllipticCurvePublicNumbers(x, y, _CURVES[self.key.curve]).public_key()
        except ValueError as error:
            raise Malformed("tpm2.public", "the numbers are not a public key") from error


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


def name_of(public: Public) -> bytes:
    """The object's Name: nameAlg and the digest of its public area under it (Part 1 section 16)."""
    return public.name_alg.to_bytes(2, "big") + digest(public.name_alg, public.raw)


def parse_public(data: bytes) -> Public:
    """Read a TPMT_PUBLIC.

    Raises:
        Malformed: `tpm2.public`.
        Unsupported: `tpm2.public` for other types, hashes, schemes or curves than this package knows.
    """
    cursor = Cursor(data, "tpm2.public", MAX_STRUCTURE)
    kind = _alg(cursor, "type", frozenset({Alg.RSA, Alg.ECC}))
    name_alg = _hash(cursor, "nameAlg")
    bits = cursor.u32("objectAttributes")
    if bits & ~DEFINED_ATTRIBUTES:
        raise cursor.malformed("objectAttributes has reserved bits set")
    auth_policy = cursor.sized16("authPolicy", 64)
    if len(auth_policy) not in (0, digest_size(name_alg)):
        raise cursor.malformed("authPolicy is neither empty nor a digest of nameAlg")
    symmetric = _symmetric(cursor)
    scheme = _scheme(cursor, _RSA_SCHEMES if kind is Alg.RSA else _ECC_SCHEMES)
    key = _rsa_key(cursor) if kind is Alg.RSA else _ecc_key(cursor)
    cursor.end()
    public = Public(data, name_alg, Attribute(bits), auth_policy, symmetric, scheme, key)
    public.public_key()
    return public


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
    scheme = _alg(cursor, "sigAlg", frozenset({Alg.RSASSA, Alg.RSAPSS, Alg.ECDSA}))
    algorithm = _hash(cursor, "hash")
    if scheme is Alg.ECDSA:
        r, s = cursor.sized16("signatureR", _MAX_COORDINATE), cursor.sized16("signatureS", _MAX_COORDINATE)
        signature = Signature(scheme, algorithm, b"", int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    else:
        signature = Signature(scheme, algorithm, cursor.sized16("sig", _MAX_RSA), 0, 0)
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


def _alg(cursor: Cursor, field: str, allowed: frozenset[Alg]) -> Alg:
    value = cursor.u16(field)
    try:
        algorithm = Alg(value)
    except ValueError:
        algorithm = None
    if algorithm not in allowed:
        raise Unsupported(cursor.code, f"{field}: algorithm 0x{value:04x} is not supported here")
    return algorithm


def _hash(cursor: Cursor, field: str) -> Alg:
    return _alg(cursor, field, frozenset(HASHES))


def _yes_no(cursor: Cursor, field: str) -> bool:
    value = cursor.u8(field)
    if value > 1:
        raise cursor.malformed(f"{field} is neither YES nor NO")
    return value == 1


def _symmetric(cursor: Cursor) -> Symmetric | None:
    algorithm = _alg(cursor, "symmetric", frozenset({Alg.AES, Alg.NULL}))
    if algorithm is Alg.NULL:
        return None
    bits = cursor.u16("symmetric.keyBits")
    if bits not in (128, 192, 256):
        raise cursor.malformed("symmetric.keyBits is not an AES key size")
    return Symmetric(algorithm, bits, _alg(cursor, "symmetric.mode", frozenset({Alg.CFB})))


def _scheme(cursor: Cursor, allowed: frozenset[Alg]) -> Scheme | None:
    scheme = _alg(cursor, "scheme", allowed | {Alg.NULL})
    if scheme is Alg.NULL:
        return None
    return Scheme(scheme, None if scheme is Alg.RSAES else _hash(cursor, "scheme.hashAlg"))


def _rsa_key(cursor: Cursor) -> RsaKey:
    bits, exponent = cursor.u16("keyBits"), cursor.u32("exponent")
    modulus = cursor.sized16("unique", _MAX_RSA)
    if bits not in _RSA_BITS:
        raise Unsupported(cursor.code, f"RSA keys of {bits} bits are not supported here")
    if len(modulus) * 8 != bits or modulus[0] < 0x80:
        raise cursor.malformed("the modulus does not have keyBits bits")
    return RsaKey(bits, exponent or 65537, modulus)


def _ecc_key(cursor: Cursor) -> EccKey:
    value = cursor.u16("curveID")
    try:
        curve = Curve(value)
    except ValueError as error:
        raise Unsupported(cursor.code, f"curve 0x{value:04x} is not supported here") from error
    if _alg(cursor, "kdf", frozenset({Alg.NULL})) is not Alg.NULL:
        raise cursor.malformed("kdf must be TPM_ALG_NULL")
    size = (_CURVES[curve].key_size + 7) // 8
    x, y = cursor.sized16("unique.x", size), cursor.sized16("unique.y", size)
    return EccKey(curve, x, y)


def _pcr_selection(cursor: Cursor) -> PcrSelection:
    start = cursor.position
    count = cursor.u32("pcrSelect.count")
    if count > _MAX_BANKS:
        raise cursor.malformed("pcrSelect has more banks than there are hash algorithms")
    banks: list[tuple[Alg, tuple[int, ...]]] = []
    for _ in range(count):
        bank = _hash(cursor, "pcrSelect.hash")
        size = cursor.u8("pcrSelect.sizeofSelect")
        if not 3 <= size <= 4:
            raise cursor.malformed("pcrSelect.sizeofSelect must be 3 or 4")
        bits = cursor.take(size, "pcrSelect.pcrSelect")
        if any(bank is other for other, _ in banks):
            raise cursor.malformed("pcrSelect names a bank twice")
        banks.append((bank, tuple(i for i in range(8 * size) if bits[i // 8] >> i % 8 & 1)))
    return PcrSelection(cursor.since(start), tuple(banks))
