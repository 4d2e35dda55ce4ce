"""The verification steps of TPM evidence, one function each; the verifier composes and numbers them.

Each takes the parsed evidence and what it is held against, returns what it proved, and raises `Untrusted` with a code `<step>.<cause>`. A
step looks at one thing only: that the parts it relies on are genuine is proved by *other* steps, so a verdict needs all of them.

    ek.chain         the EK certificate leads to a trusted TPM vendor's root
    ek.vendor        whose TPM that is, and whether it is an emulator (a report, judged by policy)
    ak.certificate   a trusted registrar saw this AK and this EK in one TPM

and, of `rlu_attestation.tpm.checks`, `ak.attributes`, `key.attributes`, `key.policy`, `key.certify`, `quote.signature`, `quote.binding`,
`quote.pcrs`, `quote.clock` and `quote.eventlog`.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import datetime

from rlu_attestation import endorsement, x509
from rlu_attestation.chain import verify_chain
from rlu_attestation.endorsement import AIK_PURPOSE, Endorsement
from rlu_attestation.errors import Untrusted
from rlu_attestation.evidence.tpm2.ek import EK_PURPOSE, TpmVendor, vendor_of
from rlu_attestation.evidence.tpm2.item import Tpm2Evidence
from rlu_attestation.tpm.public import name_of
from rlu_attestation.x509 import Certificate

_EK_USAGES = frozenset({x509.KEY_ENCIPHERMENT, x509.KEY_AGREEMENT})


def verify_ek_chain(
    evidence: Tpm2Evidence, roots: Sequence[Certificate], at: datetime
) -> tuple[Certificate, ...]:
    """ek.chain: the EK certificate leads to a given root at a time; returns the path, EK certificate first.

    Raises:
        RluError: `ek.chain.` and a cause of `chain.verify_chain`, or `usage`.
    """
    return verify_ek_certificate(evidence.ek_certificate, evidence.ek_chain, roots, at)


def verify_ek_certificate(
    leaf: Certificate, intermediates: Sequence[Certificate], roots: Sequence[Certificate], at: datetime
) -> tuple[Certificate, ...]:
    """The same for a certificate that is not in evidence, as a registrar gets it."""
    step = "ek.chain"
    handled = frozenset({x509.SUBJECT_ALTERNATIVE_NAME, x509.EXTENDED_KEY_USAGE, x509.CERTIFICATE_POLICIES})
    path = verify_chain(leaf, intermediates, roots, at, step, handled)
    usage, purposes, constraints = leaf.key_usage(), leaf.extended_key_usage(), leaf.basic_constraints()
    if usage is not None and not usage & _EK_USAGES:
        raise Untrusted(
            f"{step}.usage",
            "the certificate's key may not be used for decryption, so it is no EK certificate",
        )
    if (purposes is not None and EK_PURPOSE not in purposes) or (constraints is not None and constraints[0]):
        raise Untrusted(f"{step}.usage", "the certificate is not meant for an endorsement key")
    return path


def ek_vendor(evidence: Tpm2Evidence) -> TpmVendor:
    """ek.vendor: manufacturer, model and version from the EK certificate, and whether that is a software TPM.

    Raises:
        Malformed: `ek.vendor.encoding`.
    """
    return vendor_of(evidence.ek_certificate)


def verify_ak_certificate(
    evidence: Tpm2Evidence, registrars: Sequence[Certificate], at: datetime
) -> Endorsement:
    """ak.certificate: a given registrar certified this AK for this EK; returns what it endorses.

    Raises:
        RluError: `ak.certificate.` and a cause of `chain.verify_chain`, or `usage`, `extension`, `key`, `ak_name`, `ek_spki`.
    """
    step = "ak.certificate"
    leaf = evidence.ak_certificate
    handled = frozenset({x509.EXTENDED_KEY_USAGE, x509.SUBJECT_ALTERNATIVE_NAME})
    verify_chain(leaf, evidence.ak_chain, registrars, at, step, handled)
    if AIK_PURPOSE not in (leaf.extended_key_usage() or ()):
        raise Untrusted(f"{step}.usage", "the certificate is not meant for an attestation key")
    constraints, usage = leaf.basic_constraints(), leaf.key_usage()
    if constraints is None or constraints[0] or (usage is not None and x509.DIGITAL_SIGNATURE not in usage):
        raise Untrusted(f"{step}.usage", "the certificate is an authority's, or not for signatures")
    endorsed = endorsement.of_certificate(leaf)
    if evidence.ak_public.spki() != leaf.spki:
        raise Untrusted(f"{step}.key", "the certificate is for another key than the AK")
    if not hmac.compare_digest(endorsed.ak_name, name_of(evidence.ak_public)):
        raise Untrusted(f"{step}.ak_name", "the registrar endorsed another AK")
    if not hmac.compare_digest(endorsed.ek_spki_sha256, evidence.ek_certificate.spki_sha256):
        raise Untrusted(
            f"{step}.ek_spki", "the registrar saw the AK under another EK than that of the EK certificate"
        )
    return endorsed
