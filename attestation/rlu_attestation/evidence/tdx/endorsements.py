"""The steps on what Intel endorses: texts signed by its TCB signing key, and certificates that its lists do not name.

Collateral brings issuer chains of its own; they must end in the very root that the quote's chain ends in.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rlu_attestation import chain
from rlu_attestation.crl import CertificateList, verify_not_revoked
from rlu_attestation.errors import Untrusted
from rlu_attestation.evidence.tdx.collateral import Collateral
from rlu_attestation.evidence.tdx.item import TdxEvidence
from rlu_attestation.evidence.tdx.qe_identity import QeIdentity, parse_qe_identity
from rlu_attestation.evidence.tdx.signatures import signing_key, verify_ecdsa
from rlu_attestation.evidence.tdx.tcb_info import TcbInfo, parse_tcb_info
from rlu_attestation.names import common_name
from rlu_attestation.x509 import Certificate

_SIGNER_NAME = "Intel SGX TCB Signing"


def verify_signed_text(
    text: str,
    signature: bytes,
    issuer_chain: tuple[Certificate, ...],
    root: Certificate,
    at: datetime,
    step: str,
) -> Certificate:
    """The TCB signing key, certified by the root and valid at a time, signed a text as it stands; returns its certificate.

    Raises:
        RluError: `<step>.signature`; `<step>.signer.root`, `.name`, `.usage`, `.key` and the causes of `chain.verify_chain`.
    """
    signer, anchor = issuer_chain
    prefix = f"{step}.signer"
    if anchor != root:
        raise Untrusted(f"{prefix}.root", "the issuer chain ends in another root than the quote's")
    chain.verify_chain(signer, (), (root,), at, prefix)
    if common_name(signer.subject, f"{prefix}.name") != _SIGNER_NAME:
        raise Untrusted(f"{prefix}.name", f"the signer is not named {_SIGNER_NAME}")
    key = signing_key(signer, prefix)
    verify_ecdsa(key, signature, text.encode("ascii"), f"{step}.signature")
    return signer


def verify_tcb_info(evidence: TdxEvidence, at: datetime) -> TcbInfo:
    """tdx.tcb_info: Intel's TCB signing key signed the text of the TCB information, which is current at a time; returns it.

    Raises:
        Untrusted: `tdx.collateral.missing`; `tdx.tcb_info.signature`, `.not_yet_valid`, `.stale`; `tdx.tcb_info.signer.` and a cause.
        Malformed, Unsupported: what `parse_tcb_info` raises.
    """
    step, stapled = "tdx.tcb_info", _collateral(evidence)
    verify_signed_text(
        stapled.tcb_info,
        stapled.tcb_info_signature,
        stapled.tcb_info_issuer_chain,
        evidence.quote.root,
        at,
        step,
    )
    found = parse_tcb_info(stapled.tcb_info)
    _verify_current(found.issue_date, found.next_update, at, step)
    return found


def verify_qe_identity(evidence: TdxEvidence, at: datetime) -> QeIdentity:
    """tdx.qe_identity: Intel's TCB signing key signed the text of the QE identity, which is current at a time; returns it.

    Raises:
        Untrusted: `tdx.collateral.missing`; `tdx.qe_identity.signature`, `.not_yet_valid`, `.stale`; `tdx.qe_identity.signer.` and a cause.
        Malformed, Unsupported: what `parse_qe_identity` raises.
    """
    step, stapled = "tdx.qe_identity", _collateral(evidence)
    verify_signed_text(
        stapled.qe_identity,
        stapled.qe_identity_signature,
        stapled.qe_identity_issuer_chain,
        evidence.quote.root,
        at,
        step,
    )
    found = parse_qe_identity(stapled.qe_identity)
    _verify_current(found.issue_date, found.next_update, at, step)
    return found


def verify_revocation(
    evidence: TdxEvidence, at: datetime, beside: Sequence[CertificateList] = ()
) -> tuple[CertificateList, CertificateList]:
    """tdx.revocation: the PCK is not on its authority's list, and that authority and the TCB signers are not on the root's; returns both.

    Lists are those of the collateral and those `beside` it; both must be current at a time. The chains must have been verified.

    Raises:
        RluError: `tdx.collateral.missing`; `tdx.revocation.pck_crl.` or `tdx.revocation.root_ca_crl.` and a cause of
            `crl.verify_not_revoked`; `tdx.revocation.issuer` when the list's issuer chain is not the PCK authority's, or
            `tdx.revocation.issuer.` and a cause of `chain.verify_chain`.
    """
    step, quote, stapled = "tdx.revocation", evidence.quote, _collateral(evidence)
    issuer, anchor = stapled.pck_crl_issuer_chain
    # A renewed certificate for the same key is the same authority.
    if anchor != quote.root or (issuer.subject, issuer.spki) != (quote.pck_ca.subject, quote.pck_ca.spki):
        raise Untrusted(f"{step}.issuer", "the issuer chain of the PCK's list is not that of the PCK")
    chain.verify_chain(issuer, (), (quote.root,), at, f"{step}.issuer")
    pck_crl = verify_not_revoked(quote.pck, quote.pck_ca, (*beside, stapled.pck_crl), at, f"{step}.pck_crl")
    lists, prefix = (*beside, stapled.root_ca_crl), f"{step}.root_ca_crl"
    root_crl = verify_not_revoked(quote.pck_ca, quote.root, lists, at, prefix)
    for certificate in (issuer, stapled.tcb_info_issuer_chain[0], stapled.qe_identity_issuer_chain[0]):
        verify_not_revoked(certificate, quote.root, lists, at, prefix)
    return pck_crl, root_crl


def _collateral(evidence: TdxEvidence) -> Collateral:
    if evidence.collateral is None:
        raise Untrusted("tdx.collateral.missing", "no collateral is stapled to the quote")
    return evidence.collateral


def _verify_current(issue_date: datetime, next_update: datetime, at: datetime, step: str) -> None:
    if at < issue_date:
        raise Untrusted(f"{step}.not_yet_valid", f"issued at {issue_date.isoformat()}")
    if at > next_update:
        raise Untrusted(f"{step}.stale", f"to be renewed by {next_update.isoformat()}")
