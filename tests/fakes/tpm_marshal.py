"""TPM structures written out by hand, apart from the code under test: Part 2 of the TPM 2.0 Library.

Every field can be set to anything, also to what no TPM would write, so that perturbations are made at the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils

ALG = {"sha1": 0x0004, "sha256": 0x000B, "sha384": 0x000C, "sha512": 0x000D, "null": 0x0010}
RSASSA, RSAPSS, ECDSA = 0x0014, 0x0016, 0x0018
CURVES = {"secp256r1": 0x0003, "secp384r1": 0x0004, "secp521r1": 0x0005}
GENERATED, CERTIFY, QUOTE = 0xFF544347, 0x8017, 0x8018

FIXED_TPM, FIXED_PARENT, SENSITIVE_DATA_ORIGIN, USER_WITH_AUTH = 1 << 1, 1 << 4, 1 << 5, 1 << 6
NO_DA, RESTRICTED, DECRYPT, SIGN = 1 << 10, 1 << 16, 1 << 17, 1 << 18
AK_ATTRIBUTES = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | USER_WITH_AUTH | RESTRICTED | SIGN
KEY_ATTRIBUTES = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | NO_DA | SIGN


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def sized(data: bytes) -> bytes:
    return u16(len(data)) + data


def public(
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    *,
    attributes: int,
    scheme: tuple[int, str] | None,
    name_alg: str = "sha256",
    auth_policy: bytes = b"",
    symmetric: bytes = b"\x00\x10",
    exponent: int = 0,
) -> bytes:
    """TPMT_PUBLIC."""
    kind = 0x0001 if isinstance(key, rsa.RSAPublicKey) else 0x0023
    head = u16(kind) + u16(ALG[name_alg]) + u32(attributes) + sized(auth_policy) + symmetric
    head += u16(ALG["null"]) if scheme is None else u16(scheme[0]) + u16(ALG[scheme[1]])
    if isinstance(key, rsa.RSAPublicKey):
        modulus = key.public_numbers().n.to_bytes(key.key_size // 8, "big")
        return head + u16(key.key_size) + u32(exponent) + sized(modulus)
    numbers, size = key.public_numbers(), (key.curve.key_size + 7) // 8
    point = sized(numbers.x.to_bytes(size, "big")) + sized(numbers.y.to_bytes(size, "big"))
    return head + u16(CURVES[key.curve.name]) + u16(ALG["null"]) + point


def selection(banks: Mapping[str, Iterable[int]], size: int = 3) -> bytes:
    """TPML_PCR_SELECTION."""
    out = u32(len(banks))
    for bank, pcrs in banks.items():
        bits = bytearray(size)
        for pcr in pcrs:
            bits[pcr // 8] |= 1 << pcr % 8
        out += u16(ALG[bank]) + bytes([size]) + bytes(bits)
    return out


def attest(
    attested: bytes,
    *,
    kind: int,
    signer: bytes,
    extra_data: bytes = b"",
    clock: int = 1000,
    reset_count: int = 7,
    restart_count: int = 0,
    safe: int = 1,
    firmware: int = 0x2019102300163636,
    magic: int = GENERATED,
) -> bytes:
    """TPMS_ATTEST."""
    head = u32(magic) + u16(kind) + sized(signer) + sized(extra_data)
    return (
        head + u64(clock) + u32(reset_count) + u32(restart_count) + bytes([safe]) + u64(firmware) + attested
    )


def ecdsa_signature(der: bytes, digest: str, size: int) -> bytes:
    """TPMT_SIGNATURE of ECDSA from a DER signature."""
    r, s = utils.decode_dss_signature(der)
    return u16(ECDSA) + u16(ALG[digest]) + sized(r.to_bytes(size, "big")) + sized(s.to_bytes(size, "big"))


def rsa_signature(scheme: int, digest: str, signature: bytes) -> bytes:
    """TPMT_SIGNATURE of RSASSA or RSAPSS."""
    return u16(scheme) + u16(ALG[digest]) + sized(signature)
