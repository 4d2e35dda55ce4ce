"""TPM2_MakeCredential in software (TPM 2.0 Library Part 1 section 24, annexes B.10 and C.6; Part 3 section 12.6).

What this makes can be opened only by the TPM that holds the endorsement key, and only for an object with the given Name that is loaded
there: `TPM2_ActivateCredential` proves that AK and EK are in one TPM. The EK's parameters follow from its key, as the templates of the
TCG EK Credential Profile fix them (RSA-2048 and P-256: SHA-256 and AES-128; P-384: SHA-384 and AES-256).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from rlu_attestation.errors import Unsupported
from rlu_attestation.x509 import PublicKey

IDENTITY, STORAGE, INTEGRITY = b"IDENTITY\x00", b"STORAGE\x00", b"INTEGRITY\x00"
MAX_CREDENTIAL = 32
_ORDERS = {
    "secp256r1": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "secp384r1": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}


@dataclass(frozen=True, slots=True)
class Challenge:
    """What goes to `TPM2_ActivateCredential`, both as marshalled there: TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET."""

    credential_blob: bytes
    secret: bytes


def make_credential(
    ek: PublicKey, name: bytes, credential: bytes, random: Callable[[int], bytes]
) -> Challenge:
    """Encrypt a credential to an endorsement key, bound to an object's Name.

    Args:
        ek: the key of a verified EK certificate.
        name: TPM Name of the object that must be in the same TPM.
        credential: 1 to 32 secret bytes.
        random: source of the seed and of the ephemeral key, such as `secrets.token_bytes`. OAEP draws its own padding.

    Raises:
        Unsupported: `ek.key` for other EKs than RSA-2048, P-256 and P-384.
    """
    if not 0 < len(credential) <= MAX_CREDENTIAL:
        raise ValueError(f"a credential has 1 to {MAX_CREDENTIAL} bytes")
    if isinstance(ek, rsa.RSAPublicKey) and ek.key_size == 2048:
        algorithm, key_bytes = "sha256", 16
        seed, secret = _rsa_secret(ek, random)
    elif isinstance(ek, ec.EllipticCurvePublicKey) and isinstance(ek.curve, ec.SECP256R1):
        algorithm, key_bytes = "sha256", 16
        seed, secret = _ecc_secret(ek, algorithm, random)
    elif isinstance(ek, ec.EllipticCurvePublicKey) and isinstance(ek.curve, ec.SECP384R1):
        algorithm, key_bytes = "sha384", 32
        seed, secret = _ecc_secret(ek, algorithm, random)
    else:
        raise Unsupported("ek.key", "the EK is neither RSA-2048 nor on P-256 or P-384")
    size = hashlib.new(algorithm).digest_size
    encryption_key = kdfa(algorithm, seed, STORAGE, name, b"", 8 * key_bytes)
    encryptor = Cipher(AES(encryption_key), CFB(bytes(16))).encryptor()
    identity = encryptor.update(_sized(credential)) + encryptor.finalize()
    integrity_key = kdfa(algorithm, seed, INTEGRITY, b"", b"", 8 * size)
    integrity = hmac.new(integrity_key, identity + name, algorithm).digest()
    return Challenge(_sized(_sized(integrity) + identity), _sized(secret))


def kdfa(algorithm: str, key: bytes, label: bytes, context_u: bytes, context_v: bytes, bits: int) -> bytes:
    """KDFa (Part 1 section 11.4.10.2): SP 800-108 in counter mode with HMAC; `label` ends in a zero byte, `bits` is a multiple of 8."""
    out = b""
    for counter in range(1, bits // 8 + 2):
        if 8 * len(out) >= bits:
            break
        fixed = label + context_u + context_v + bits.to_bytes(4, "big")
        out += hmac.new(key, counter.to_bytes(4, "big") + fixed, algorithm).digest()
    return out[: bits // 8]


def kdfe(algorithm: str, z: bytes, use: bytes, party_u: bytes, party_v: bytes) -> bytes:
    """KDFe (Part 1 section 11.4.10.3) for one digest of output: H(1 ‖ Z ‖ use ‖ PartyUInfo ‖ PartyVInfo); `use` ends in a zero byte."""
    return hashlib.new(algorithm, (1).to_bytes(4, "big") + z + use + party_u + party_v).digest()


def _rsa_secret(ek: rsa.RSAPublicKey, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    seed = random(32)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), IDENTITY)
    return seed, ek.encrypt(seed, oaep)


def _ecc_secret(
    ek: ec.EllipticCurvePublicKey, algorithm: str, random: Callable[[int], bytes]
) -> tuple[bytes, bytes]:
    size = (ek.curve.key_size + 7) // 8
    # 64 bits more than the order, reduced, leave no noticeable bias (FIPS 186-5 annex A.2.1).
    scalar = int.from_bytes(random(size + 8), "big") % (_ORDERS[ek.curve.name] - 1) + 1
    ephemeral = ec.derive_private_key(scalar, ek.curve)
    z = ephemeral.exchange(ec.ECDH(), ek)
    ours, theirs = ephemeral.public_key().public_numbers(), ek.public_numbers()
    x, y = ours.x.to_bytes(size, "big"), ours.y.to_bytes(size, "big")
    seed = kdfe(algorithm, z, IDENTITY, x, theirs.x.to_bytes(size, "big"))
    return seed, _sized(x) + _sized(y)


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
