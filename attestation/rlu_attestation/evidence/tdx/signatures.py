"""ECDSA on P-256 with SHA-256, the one algorithm that Intel uses throughout; signatures are r ‖ s, 32 bytes each, big endian."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from rlu_attestation.errors import Untrusted
from rlu_attestation.x509 import DIGITAL_SIGNATURE, KEY_CERT_SIGN, Certificate

_SCALAR = 32


def signing_key(certificate: Certificate, step: str) -> ec.EllipticCurvePublicKey:
    """The P-256 key of a certificate that is for digital signatures and no authority's.

    Raises:
        Untrusted: `<step>.usage`, `.key`.
    """
    usage, constraints = certificate.key_usage(), certificate.basic_constraints()
    if usage is None or DIGITAL_SIGNATURE not in usage or KEY_CERT_SIGN in usage:
        raise Untrusted(f"{step}.usage", "the certificate is not for digital signatures alone")
    if constraints is not None and constraints[0]:
        raise Untrusted(f"{step}.usage", "the certificate is an authority's")
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Untrusted(f"{step}.key", "the certificate's key is not on curve P-256")
    return key


def point(key: bytes, code: str) -> ec.EllipticCurvePublicKey:
    """A public key from x ‖ y.

    Raises:
        Untrusted: not on the curve (`code`).
    """
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + key)
    except ValueError as error:
        raise Untrusted(code, "the key is not a point of curve P-256") from error


def verify_ecdsa(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, code: str) -> None:
    """Both values of s are accepted: nothing is identified by a signature's bytes.

    Raises:
        Untrusted: `code`.
    """
    r, s = int.from_bytes(signature[:_SCALAR], "big"), int.from_bytes(signature[_SCALAR:], "big")
    try:
        key.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise Untrusted(code, "the signature is not by the key that should have made it") from error
