"""The verification steps of Nitro documents, one function each; the verifier composes them, `verify` runs them in order.

Each takes the parsed evidence and what it is held against, returns what it proved, and raises `Untrusted` with a code
`<kind>.<step>.<cause>`, `<kind>` being `nitro` or `nitrotpm`. A step looks at one thing only: a verdict needs all of them.

    root         `cabundle` begins with a trusted root, byte for byte, that signed itself
    chain        `certificate` and `cabundle`, in that order and complete, hold at the given time
    certificate  the signer's certificate is an end entity's, for signatures, with a P-384 key
    signature    the signer signed the payload's bytes
    timestamp    the document was made inside its certificate's validity, and lately
    revocation   for every certificate that names a revocation list, a current one is stapled and does not name it
    binding      `user_data` commits to this instance statement

AWS says that revocation lists are not to be consulted for Nitro (they cover authorities of days only); the step exists because a policy may
ask for it, and a policy that does not must say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from rlu_attestation import chain, x509
from rlu_attestation.crl import CertificateList, verify_path_not_revoked
from rlu_attestation.errors import Malformed, Untrusted
from rlu_attestation.evidence.nitro.claims import NitroClaims, region_of
from rlu_attestation.evidence.nitro.item import NitroEvidence
from rlu_attestation.evidence.nitro.roots import PINNED, Root
from rlu_attestation.names import common_name
from rlu_attestation.x509 import Certificate

MAX_SKEW = timedelta(minutes=1)
"""How far a document may lie in the verifier's future, for clocks that differ."""
_SCALAR_SIZE = 48


def verify(evidence: NitroEvidence, at: datetime, roots: Sequence[Root] = PINNED) -> NitroClaims:
    """Run root, chain, certificate and signature, in order, and give the claims.

    The caller still owes `verify_timestamp`, `verify_revocation` and `verify_binding` (or `verify_nonce`): a genuine document of another
    instance passes this.

    Raises:
        RluError: the first step that refuses.
    """
    verify_root(evidence, roots)
    verify_chain(evidence, at)
    verify_certificate(evidence)
    verify_signature(evidence)
    return claims_of(evidence)


def claims_of(evidence: NitroEvidence) -> NitroClaims:
    """The claims of evidence whose every step passed."""
    return NitroClaims(evidence.document.kind, _region(evidence), evidence.document)


def verify_root(evidence: NitroEvidence, roots: Sequence[Root] = PINNED) -> Root:
    """root: the first of `cabundle` is a trusted root; returns which.

    Raises:
        RluError: `<kind>.root.unknown`, `.signature`, `.algorithm`, `.key`, `.weak_key`.
    """
    step, anchor = f"{evidence.kind.value}.root", evidence.document.cabundle[0]
    for root in roots:
        if root.is_of(anchor):
            chain.verify_signed_by(anchor, anchor, step)
            return root
    raise Untrusted(f"{step}.unknown", f"no trusted root has the fingerprint {anchor.fingerprint.hex()}")


def verify_chain(evidence: NitroEvidence, at: datetime) -> tuple[Certificate, ...]:
    """chain: `certificate` leads through all of `cabundle`, last to first, to the root; returns that path.

    Raises:
        RluError: `<kind>.chain.` and a cause of `chain.verify_chain`, or `order`.
    """
    step, document = f"{evidence.kind.value}.chain", evidence.document
    anchor, *others = document.cabundle
    path = chain.verify_chain(document.certificate, others, (anchor,), at, step)
    if path != (document.certificate, *reversed(document.cabundle)):
        raise Untrusted(
            f"{step}.order", "cabundle is not the chain from the root to the signer's issuer, in order"
        )
    return path


def verify_certificate(evidence: NitroEvidence) -> ec.EllipticCurvePublicKey:
    """certificate: the signer's certificate is no authority's, is for digital signatures, and its key is P-384; returns the key.

    Raises:
        Untrusted: `<kind>.certificate.usage`, `.key`.
    """
    step, leaf = f"{evidence.kind.value}.certificate", evidence.document.certificate
    usage, constraints = leaf.key_usage(), leaf.basic_constraints()
    if usage is None or x509.DIGITAL_SIGNATURE not in usage or x509.KEY_CERT_SIGN in usage:
        raise Untrusted(f"{step}.usage", "the signer's certificate is not for digital signatures")
    if constraints is not None and (constraints[0] or constraints[1] is not None):
        raise Untrusted(f"{step}.usage", "the signer's certificate is an authority's")
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise Untrusted(f"{step}.key", "the signer's key is not on curve P-384")
    return key


def verify_signature(evidence: NitroEvidence) -> None:
    """signature: the key of `certificate` signed the payload, as its bytes came.

    Raises:
        Untrusted: `<kind>.signature.invalid`, `<kind>.certificate.…`.
    """
    key, document = verify_certificate(evidence), evidence.document
    r = int.from_bytes(document.signature[:_SCALAR_SIZE], "big")
    s = int.from_bytes(document.signature[_SCALAR_SIZE:], "big")
    try:
        key.verify(utils.encode_dss_signature(r, s), document.signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise Untrusted(
            f"{evidence.kind.value}.signature.invalid",
            "the payload is not signed by the key of the certificate",
        ) from error


def verify_timestamp(evidence: NitroEvidence, at: datetime, max_age: timedelta) -> datetime:
    """timestamp: the document was made while its certificate was valid, not after `at`, and at most `max_age` before; returns when.

    Raises:
        Untrusted: `<kind>.timestamp.outside_certificate`, `.future`, `.stale`.
    """
    step, document = f"{evidence.kind.value}.timestamp", evidence.document
    created, leaf = document.created, document.certificate
    # Certificates count in seconds; one that ends at 12:00:00 still covers 12:00:00.999 (RFC 5280 section 4.1.2.5).
    if not leaf.not_before <= created.replace(microsecond=0) <= leaf.not_after:
        raise Untrusted(
            f"{step}.outside_certificate",
            f"made at {created.isoformat()}, when the signer's certificate was not valid",
        )
    if created - at > MAX_SKEW:
        raise Untrusted(f"{step}.future", f"made at {created.isoformat()}, after the time of verification")
    if at - created > max_age:
        raise Untrusted(f"{step}.stale", f"made at {created.isoformat()}, more than {max_age} before")
    return created


def verify_revocation(
    evidence: NitroEvidence, at: datetime, beside: Sequence[CertificateList] = ()
) -> tuple[CertificateList, ...]:
    """revocation: every certificate below the root that names a revocation list is cleared by one stapled or `beside` it; returns those.

    The instance's and the signer's own certificates name none: they live for a day and for three hours. The chain must have been verified.

    Raises:
        RluError: `<kind>.revocation.` and a cause of `crl.verify_not_revoked`.
    """
    step, cabundle = f"{evidence.kind.value}.revocation", evidence.document.cabundle
    path = (evidence.document.certificate, *reversed(cabundle))
    return verify_path_not_revoked(path, (*beside, *evidence.crls), at, step)


def verify_binding(evidence: NitroEvidence, binding: bytes) -> None:
    """binding: `user_data` is exactly the 32-byte root over this statement's binding (FORMATS section 3).

    It is not looked for in `nonce`: software in an enclave may sign any nonce it is sent, as AWS's protocol intends, and would
    thereby vouch for a statement it never made.

    Args:
        evidence: the parsed item.
        binding: `H("rlu/instance/v1" ‖ claims bytes)` of the statement, 32 bytes.

    Raises:
        Untrusted: `<kind>.binding.mismatch`, `.missing` for a document without an item.
        Malformed: `proof.inclusion` when the path does not fit the tree.
    """
    step = f"{evidence.kind.value}.binding"
    if evidence.binding is None:
        raise Untrusted(f"{step}.missing", "a bare document says nothing about where the binding is")
    if evidence.document.user_data != evidence.binding.root(binding):
        raise Untrusted(f"{step}.mismatch", "the document was not made for this statement")


def verify_nonce(evidence: NitroEvidence, expected: bytes) -> None:
    """nonce: the document carries exactly this one; for documents that are not RLU's.

    Raises:
        Untrusted: `<kind>.nonce.missing`, `.mismatch`.
    """
    step, nonce = f"{evidence.kind.value}.nonce", evidence.document.nonce
    if nonce is None:
        raise Untrusted(f"{step}.missing", "the document has no nonce")
    if nonce != expected:
        raise Untrusted(f"{step}.mismatch", "the document's nonce is not the one expected")


def _region(evidence: NitroEvidence) -> str | None:
    try:
        name = common_name(evidence.document.certificate.subject, "nitro.certificate.name")
    except Malformed:  # a name of another form gives no region, and takes nothing from the signature
        return None
    return region_of(name, evidence.document.module_id)
