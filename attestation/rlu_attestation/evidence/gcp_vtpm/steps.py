"""The verification steps of evidence from a Compute Engine instance, one function each; the verifier composes them.

Each takes the parsed evidence and what it is held against, returns what it proved, and raises `Untrusted` with a code `<step>.<cause>`. A
step looks at one thing only: a verdict needs all of them.

    gcp-vtpm.root         `root_certificate` is one of Google's roots, byte for byte, and signed itself
    gcp-vtpm.chain        the AK certificate leads to it, valid at the given time
    gcp-vtpm.certificate  the AK certificate is an end entity's, for signatures, and names a production instance
    gcp-vtpm.ak           it is for the AK that signed
    gcp-vtpm.revocation   for every certificate that names a revocation list, a current one is stapled and does not name it

and, of `rlu_attestation.tpm.checks`, `ak.attributes`, `key.attributes`, `key.policy`, `key.certify`, `quote.signature`, `quote.binding`,
`quote.pcrs`, `quote.clock`, `quote.eventlog` and `quote.ima`.

No registrar takes part: Google made the virtual TPM and knows its keys. It is software of the host's, so that all of this rests on Google's
word. Certificates of keys for encryption (EKs) come from the same authorities; keyUsage tells them apart. The extended key usage does not:
certificates of the older hierarchy call every key of the TPM an EK (tcg-kp-EKCertificate), those of the newer one carry none at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rlu_attestation import chain, x509
from rlu_attestation.crl import CertificateList, verify_path_not_revoked
from rlu_attestation.errors import Untrusted
from rlu_attestation.evidence.gcp_vtpm.claims import GcpVtpmClaims
from rlu_attestation.evidence.gcp_vtpm.instance import GceInstance, instance_of
from rlu_attestation.evidence.gcp_vtpm.item import GcpVtpmEvidence
from rlu_attestation.evidence.gcp_vtpm.roots import PINNED, Root
from rlu_attestation.tpm import checks
from rlu_attestation.x509 import Certificate

_PURPOSES = frozenset({"2.23.133.8.1", "2.23.133.8.3"})
"""tcg-kp-EKCertificate, which Google's older certificates carry for AKs too, and tcg-kp-AIKCertificate."""
_HANDLED = frozenset({x509.SUBJECT_ALTERNATIVE_NAME, x509.EXTENDED_KEY_USAGE})
_FORBIDDEN = frozenset({x509.KEY_ENCIPHERMENT, x509.KEY_AGREEMENT, x509.KEY_CERT_SIGN})


def verify(evidence: GcpVtpmEvidence, at: datetime, roots: Sequence[Root] = PINNED) -> GcpVtpmClaims:
    """Run every step but revocation and binding, in order, and give the claims.

    The caller still owes `verify_revocation` and `verify_quote_binding`, and must compare what `verify_key_attributes` returns with the
    key that signs the statement: genuine evidence of another instance passes this.

    Raises:
        RluError: the first step that refuses.
    """
    verify_root(evidence, roots)
    verify_chain(evidence, at)
    instance = verify_certificate(evidence)
    verify_ak(evidence)
    checks.verify_ak_attributes(evidence)
    checks.verify_key_attributes(evidence)
    checks.verify_key_policy(evidence)
    checks.verify_key_certify(evidence)
    checks.verify_quote_signature(evidence)
    pcrs = checks.verify_quote_pcrs(evidence)
    checks.verify_quote_clock(evidence)
    checks.verify_quote_eventlog(evidence)
    checks.verify_quote_ima(evidence)
    return GcpVtpmClaims(instance, pcrs)


def verify_root(evidence: GcpVtpmEvidence, roots: Sequence[Root] = PINNED) -> Root:
    """gcp-vtpm.root: the root certificate is a trusted one; returns which.

    Raises:
        RluError: `gcp-vtpm.root.unknown`, `.signature`, `.algorithm`, `.key`, `.weak_key`.
    """
    step, anchor = "gcp-vtpm.root", evidence.root_certificate
    for root in roots:
        if root.is_of(anchor):
            # Implied by the fingerprint of a certificate that Google published; an operator's own root is held to it too.
            chain.verify_signed_by(anchor, anchor, step)
            return root
    raise Untrusted(f"{step}.unknown", f"no trusted root has the fingerprint {anchor.fingerprint.hex()}")


def verify_chain(evidence: GcpVtpmEvidence, at: datetime) -> tuple[Certificate, ...]:
    """gcp-vtpm.chain: the AK certificate leads to the root at a time; returns the path, AK certificate first.

    Raises:
        RluError: `gcp-vtpm.chain.` and a cause of `chain.verify_chain`.
    """
    anchor = evidence.root_certificate
    return chain.verify_chain(
        evidence.ak_certificate, evidence.ak_chain, (anchor,), at, "gcp-vtpm.chain", _HANDLED
    )


def verify_certificate(evidence: GcpVtpmEvidence) -> GceInstance:
    """gcp-vtpm.certificate: the AK certificate is no authority's, is for signatures, and names a production instance; returns that.

    Raises:
        Untrusted: `gcp-vtpm.certificate.usage`, `.no_instance`, `.not_production`.
        Malformed: `gcp-vtpm.certificate.extension`.
    """
    step, leaf = "gcp-vtpm.certificate", evidence.ak_certificate
    usage, constraints, purposes = leaf.key_usage(), leaf.basic_constraints(), leaf.extended_key_usage()
    if usage is None or x509.DIGITAL_SIGNATURE not in usage or usage & _FORBIDDEN:
        raise Untrusted(f"{step}.usage", "the certificate is not for a key that only signs, so not for an AK")
    if constraints is None or constraints[0]:
        raise Untrusted(f"{step}.usage", "the certificate is an authority's, or does not say that it is none")
    if purposes is not None and not purposes & _PURPOSES:
        raise Untrusted(f"{step}.usage", "the certificate is not meant for a key of a TPM")
    instance = instance_of(leaf)
    if not instance.is_production:
        raise Untrusted(f"{step}.not_production", "Google made the certificate in a test environment")
    return instance


def verify_ak(evidence: GcpVtpmEvidence) -> None:
    """gcp-vtpm.ak: the certificate is for the AK's key.

    Raises:
        Untrusted: `gcp-vtpm.ak.key`.
    """
    if evidence.ak_public.spki() != evidence.ak_certificate.spki:
        raise Untrusted("gcp-vtpm.ak.key", "the certificate is for another key than the AK")


def verify_revocation(
    evidence: GcpVtpmEvidence, at: datetime, beside: Sequence[CertificateList] = ()
) -> tuple[CertificateList, ...]:
    """gcp-vtpm.revocation: every certificate below the root that names a revocation list is cleared by one stapled or `beside` it.

    Returns the lists. AK certificates of the newer hierarchy name none.

    Raises:
        RluError: `gcp-vtpm.revocation.` and a cause of `crl.verify_not_revoked`; `gcp-vtpm.chain.…` without a chain.
    """
    path, lists = verify_chain(evidence, at), (*beside, *evidence.crls)
    return verify_path_not_revoked(path, lists, at, "gcp-vtpm.revocation")
