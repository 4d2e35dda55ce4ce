"""Numbers of the TPM 2.0 Library, Part 2: Structures, under their own names."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from cryptography.hazmat.primitives import hashes

TPM_GENERATED_VALUE = 0xFF544347
"""Begins every structure that a TPM signed of its own; a restricted key signs nothing else that begins so."""


class Alg(IntEnum):
    """TPM_ALG_ID, those that occur here."""

    RSA = 0x0001
    SHA1 = 0x0004
    AES = 0x0006
    SHA256 = 0x000B
    SHA384 = 0x000C
    SHA512 = 0x000D
    NULL = 0x0010
    RSASSA = 0x0014
    RSAES = 0x0015
    RSAPSS = 0x0016
    OAEP = 0x0017
    ECDSA = 0x0018
    ECDH = 0x0019
    ECC = 0x0023
    CFB = 0x0043


class Curve(IntEnum):
    """TPM_ECC_CURVE."""

    NIST_P256 = 0x0003
    NIST_P384 = 0x0004
    NIST_P521 = 0x0005


class Structure(IntEnum):
    """TPM_ST."""

    ATTEST_CERTIFY = 0x8017
    ATTEST_QUOTE = 0x8018


class Command(IntEnum):
    """TPM_CC."""

    POLICY_AUTH_VALUE = 0x0000016B
    POLICY_PCR = 0x0000017F


class Attribute(IntFlag):
    """TPMA_OBJECT."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    FIRMWARE_LIMITED = 1 << 8
    SVN_LIMITED = 1 << 9
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18
    X509_SIGN = 1 << 19


DEFINED_ATTRIBUTES = 0
for _attribute in Attribute:
    DEFINED_ATTRIBUTES |= _attribute.value

HASHES: dict[Alg, hashes.HashAlgorithm] = {
    Alg.SHA1: hashes.SHA1(),  # noqa: S303 - read, never relied on
    Alg.SHA256: hashes.SHA256(),
    Alg.SHA384: hashes.SHA384(),
    Alg.SHA512: hashes.SHA512(),
}
"""Hash algorithms whose digests can be read; where SHA-1 is acceptable (as a PCR bank's size, never in a signature) the reader says."""

BANKS: dict[Alg, str] = {Alg.SHA1: "sha1", Alg.SHA256: "sha256", Alg.SHA384: "sha384", Alg.SHA512: "sha512"}
"""Names of PCR banks in FORMATS section 4."""


def digest_size(algorithm: Alg) -> int:
    """Bytes of a digest."""
    return HASHES[algorithm].digest_size


def digest(algorithm: Alg, data: bytes) -> bytes:
    """Hash with an algorithm of the TPM's registry."""
    state = hashes.Hash(HASHES[algorithm])
    state.update(data)
    return state.finalize()
