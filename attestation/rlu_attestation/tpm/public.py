"""Public areas of keys, TPMT_PUBLIC (TPM 2.0 Library, Part 2: Structures, revision 1.59 and later, section 12.2), under its names.

Reserved bits, unknown selectors, impossible sizes and leftovers refuse. `raw` is the structure as it was read, because names are over those
bytes. Nothing here is verified.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rlu_attestation.cursor import Cursor
from rlu_attestation.errors import Malformed, Unsupported
from rlu_attestation.tpm.algorithm import MAX_STRUCTURE, read_algorithm, read_hash
from rlu_attestation.tpm.constants import DEFINED_ATTRIBUTES, Alg, Attribute, Curve, digest, digest_size

MAX_RSA = 512
_RSA_BITS = frozenset({1024, 2048, 3072, 4096})
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

    def spki(self) -> bytes:
        """The key as a DER SubjectPublicKeyInfo."""
        return self.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


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
    kind = read_algorithm(cursor, "type", frozenset({Alg.RSA, Alg.ECC}))
    name_alg = read_hash(cursor, "nameAlg")
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


def _symmetric(cursor: Cursor) -> Symmetric | None:
    algorithm = read_algorithm(cursor, "symmetric", frozenset({Alg.AES, Alg.NULL}))
    if algorithm is Alg.NULL:
        return None
    bits = cursor.u16("symmetric.keyBits")
    if bits not in (128, 192, 256):
        raise cursor.malformed("symmetric.keyBits is not an AES key size")
    return Symmetric(algorithm, bits, read_algorithm(cursor, "symmetric.mode", frozenset({Alg.CFB})))


def _scheme(cursor: Cursor, allowed: frozenset[Alg]) -> Scheme | None:
    scheme = read_algorithm(cursor, "scheme", allowed | {Alg.NULL})
    if scheme is Alg.NULL:
        return None
    return Scheme(scheme, None if scheme is Alg.RSAES else read_hash(cursor, "scheme.hashAlg"))


def _rsa_key(cursor: Cursor) -> RsaKey:
    bits, exponent = cursor.u16("keyBits"), cursor.u32("exponent")
    modulus = cursor.sized16("unique", MAX_RSA)
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
    if read_algorithm(cursor, "kdf", frozenset({Alg.NULL})) is not Alg.NULL:
        raise cursor.malformed("kdf must be TPM_ALG_NULL")
    size = (_CURVES[curve].key_size + 7) // 8
    x, y = cursor.sized16("unique.x", size), cursor.sized16("unique.y", size)
    return EccKey(curve, x, y)
