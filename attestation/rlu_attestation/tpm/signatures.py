"""Signatures that a TPM made, verified with the public area that names the only scheme the key may use."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

from rlu_attestation.errors import Untrusted
from rlu_attestation.tpm.attest import Signature
from rlu_attestation.tpm.constants import HASHES, Alg
from rlu_attestation.tpm.public import Public

SIGNING_HASHES = frozenset({Alg.SHA256, Alg.SHA384, Alg.SHA512})


def verify(signer: Public, message: bytes, signature: Signature, code: str) -> None:
    """Check a signature by a key whose public area fixes scheme and hash, as a restricted key's does.

    Raises:
        Untrusted: `code`, when scheme or hash are not the key's own, the hash is SHA-1, or the signature does not verify.
    """
    if signer.scheme is None or (signature.scheme, signature.hash) != (
        signer.scheme.scheme,
        signer.scheme.hash,
    ):
        raise Untrusted(code, "the signature's scheme or hash is not the one that the key is fixed to")
    if signature.hash not in SIGNING_HASHES:
        raise Untrusted(code, "signatures over SHA-1 are not accepted")
    key, algorithm = signer.public_key(), HASHES[signature.hash]
    try:
        # `parse_public` admits no scheme of the other kind of key, so the kind decides.
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(utils.encode_dss_signature(signature.r, signature.s), message, ec.ECDSA(algorithm))
        else:
            key.verify(signature.rsa, message, _padding(signature.scheme, algorithm), algorithm)
    except InvalidSignature as error:
        raise Untrusted(code, "the signature does not verify under the attestation key") from error


def _padding(scheme: Alg, algorithm: hashes.HashAlgorithm) -> padding.AsymmetricPadding:
    if scheme is Alg.RSASSA:
        return padding.PKCS1v15()
    # TPMs differ in the salt's length: Part 1 annex B.7 allows the digest's size or all that fits.
    return padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
