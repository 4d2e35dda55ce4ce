"""Everything random in the vectors comes from labels, so that they are the same bytes every time.

`deterministic` makes the fakes of the tests do so too: keys from labels, ECDSA by RFC 6979, serial numbers by counting. It changes modules
of this process for good, so vectors are only ever made in a process of their own.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def secret(label: str) -> bytes:
    """32 bytes."""
    return hashlib.sha256(b"rlu/vectors/" + label.encode()).digest()


def signing_key(label: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key."""
    number = int.from_bytes(secret(f"key/{label}"), "big")
    return ec.derive_private_key(number % (_P256_ORDER - 1) + 1, ec.SECP256R1())


def sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """r ‖ s."""
    r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(SHA256(), deterministic_signing=True)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def deterministic() -> None:
    """Make the fakes deterministic, from now on and in this process only."""
    from fakes import tpm

    algorithm = ec.ECDSA
    original = x509.CertificateBuilder.sign

    class ByRfc6979(algorithm):  # type: ignore[misc,valid-type]
        def __init__(self, digest: Any, deterministic_signing: bool = True) -> None:
            super().__init__(digest, deterministic_signing=deterministic_signing)

    def signed(self: Any, key: Any, digest: Any, *rest: Any, **settings: Any) -> Any:
        return original(self, key, digest, *rest, **settings, ecdsa_deterministic=True)

    def labelled(kind: str, label: str) -> ec.EllipticCurvePrivateKey:
        # RSA keys cannot be derived from a label; P-256 takes their place.
        return signing_key(f"{kind}/{label}")

    serials = itertools.count(1)
    ec.ECDSA = ByRfc6979  # type: ignore[misc]
    x509.CertificateBuilder.sign = signed  # type: ignore[method-assign]
    x509.random_serial_number = lambda: 0x1000 + next(serials)
    tpm.private_key = labelled  # type: ignore[assignment]
    from fakes import pki

    pki.private_key = labelled  # type: ignore[attr-defined]
