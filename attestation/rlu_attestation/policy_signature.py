"""Detached signatures on policies (FORMATS section 13): who maintains a policy signs it, and who verifies by it knows only that key.

What is signed is the policy's digest (`policy_file.digest_of`), which covers the file and every file it names, so neither can be exchanged.
The key decides the algorithm; the file only has to agree. Reading keys and files is for the caller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from rlu_attestation import canonical, jose
from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed, RluError, Untrusted
from rlu_attestation.policy import PolicyError

PublicKey = ec.EllipticCurvePublicKey | Ed25519PublicKey
PrivateKey = ec.EllipticCurvePrivateKey | Ed25519PrivateKey

ES256, ED25519 = "ES256", "Ed25519"
DIGEST_SIZE, SIGNATURE_SIZE = 32, 64
MAX_SIGNATURE, MAX_KEY = 4096, 16 * 1024
_CONTEXT = b"rlu/policy-signature/v1"
_CODE = "policy.signature.encoding"


def sign(digest: bytes, private_key: PrivateKey) -> bytes:
    """Sign a policy's digest; gives the signature file.

    Args:
        digest: 32 bytes, of `policy_file.digest_of`.
        private_key: on P-256 (ES256), or Ed25519.
    """
    if len(digest) != DIGEST_SIZE:
        raise ValueError("a policy's digest has 32 bytes")
    public = private_key.public_key()
    members = {"alg": algorithm(public), "kid": b64u(key_id(public)), "policy_sha256": b64u(digest)}
    message = _message(members)
    if isinstance(private_key, Ed25519PrivateKey):
        signature = private_key.sign(message)
    else:
        r, s = utils.decode_dss_signature(private_key.sign(message, ec.ECDSA(SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return canonical.encode({**members, "signature": b64u(signature)})


def verify_signature(digest: bytes, signature: bytes, public_key: PublicKey) -> None:
    """Check that the holder of a key signed the policy of a digest.

    Args:
        digest: 32 bytes, of the policy as it was read.
        signature: the signature file, as `sign` gives it; one line break at its end is accepted.
        public_key: the key that the caller trusts for policies.

    Raises:
        Malformed: `policy.signature.encoding`.
        Untrusted: `policy.signature.algorithm`, `.kid`, `.digest`, `.invalid`.
    """
    if len(digest) != DIGEST_SIZE:
        raise ValueError("a policy's digest has 32 bytes")
    try:
        with Members(canonical.decode(signature.removesuffix(b"\n"), MAX_SIGNATURE), "policy signature") as m:
            members = {"alg": m.text("alg"), "kid": m.text("kid"), "policy_sha256": m.text("policy_sha256")}
            raw = m.binary("signature", SIGNATURE_SIZE)
    except RluError as error:
        raise Malformed(_CODE, error.message) from error
    if members["alg"] != algorithm(public_key):
        raise Untrusted(
            "policy.signature.algorithm",
            f"the signature is not by the key's algorithm, {algorithm(public_key)}",
        )
    if members["kid"] != b64u(key_id(public_key)):
        raise Untrusted("policy.signature.kid", "the policy is signed by another key than the one you trust")
    if members["policy_sha256"] != b64u(digest):
        raise Untrusted(
            "policy.signature.digest", "the signature is on another policy, or on other files that it names"
        )
    _verify(public_key, _message(members), raw)


def generate(alg: str) -> tuple[bytes, bytes]:
    """A new key: private (PKCS #8) and public (SubjectPublicKeyInfo), in PEM. `alg` is ES256 or Ed25519."""
    key: PrivateKey = (
        Ed25519PrivateKey.generate() if alg == ED25519 else ec.generate_private_key(ec.SECP256R1())
    )
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    )


def algorithm(key: PublicKey) -> str:
    """`ES256` (RFC 7518) or `Ed25519` (RFC 9864)."""
    return ED25519 if isinstance(key, Ed25519PublicKey) else ES256


def key_id(key: PublicKey) -> bytes:
    """RFC 7638 thumbprint of the key's JWK (RFC 8037 for Ed25519), 32 bytes."""
    if isinstance(key, Ed25519PublicKey):
        jwk = {"crv": "Ed25519", "kty": "OKP", "x": b64u(key.public_bytes(Encoding.Raw, PublicFormat.Raw))}
        return hashlib.sha256(canonical.encode(jwk)).digest()
    return jose.thumbprint(jose.public_jwk(key))


def load_public_key(pem: bytes) -> PublicKey:
    """A public key in PEM (SubjectPublicKeyInfo).

    Raises:
        PolicyError: `policy.key`.
    """
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PolicyError("policy.key", "not a public key in PEM (SubjectPublicKeyInfo)") from error
    if isinstance(key, Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise PolicyError("policy.key", "policies are signed by keys on P-256 or by Ed25519 keys")


def load_private_key(pem: bytes) -> PrivateKey:
    """A private key in PEM (PKCS #8 or SEC 1), not encrypted.

    Raises:
        PolicyError: `policy.key`.
    """
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PolicyError("policy.key", "not a private key in PEM without a password") from error
    if isinstance(key, Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise PolicyError("policy.key", "policies are signed by keys on P-256 or by Ed25519 keys")


def _message(members: Mapping[str, str]) -> bytes:
    """What the key signs: everything in the file but the signature."""
    return _CONTEXT + b"\x00" + canonical.encode(members)


def _verify(key: PublicKey, message: bytes, signature: bytes) -> None:
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, message)
        else:
            jose.verify_es256(key, message, signature)
    except (InvalidSignature, Untrusted) as error:
        raise Untrusted("policy.signature.invalid", "the signature on the policy does not verify") from error
