"""The verification steps of TDX evidence, one function each; the verifier composes them, `verify` runs them in order.

Each takes the parsed evidence and what it is held against, returns what it proved, and raises `Untrusted` with a code `<step>.<cause>`. A
step looks at one thing only: a verdict needs all of them.

    tdx.root             the chain in the quote ends in a trusted root, byte for byte, which signed itself
    tdx.chain            PCK ← PCK authority ← root hold at the given time
    tdx.pck              the leaf is a PCK certificate, and names a platform and its TCB
    tdx.qe_report        the PCK signed the quoting enclave's report
    tdx.attestation_key  the quoting enclave vouches for the attestation key
    tdx.signature        the attestation key signed header and body of the quote
    tdx.tcb_info         Intel signed the TCB information, and it is current at the given time
    tdx.qe_identity      Intel signed the QE identity, and it is current at the given time
    tdx.qe               the quoting enclave is the one of that identity, of a security version that is not revoked
    tdx.module           the TDX module is one that the TCB information names, of a security version that is not revoked
    tdx.tcb              the TCB information is for this platform, which reaches one of its levels, and none that is revoked
    tdx.revocation       current lists of the PCK's authority and of the root name none of the certificates
    tdx.binding          REPORTDATA commits to this instance statement
    tdx.event_log        the firmware's log, where one is stapled, leads to RTMR 0 to 2, and to RTMR 3 if it extends it

Those on what Intel endorses are in `endorsements`, that on the log in `event_log`. A step that needs collateral fails with
`tdx.collateral.missing` when the item has none. TCB statuses other than `Revoked`, and how the TD is configured (debug, for one), are
claims for a policy to judge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec

from rlu_attestation import chain
from rlu_attestation.errors import Untrusted
from rlu_attestation.evidence.tdx import tcb
from rlu_attestation.evidence.tdx.body import REPORT_DATA_SIZE
from rlu_attestation.evidence.tdx.claims import TdxClaims, claims_of
from rlu_attestation.evidence.tdx.enclave import EnclaveReport
from rlu_attestation.evidence.tdx.endorsements import verify_qe_identity, verify_tcb_info
from rlu_attestation.evidence.tdx.item import TdxEvidence
from rlu_attestation.evidence.tdx.pck import PckExtensions, parse_extensions
from rlu_attestation.evidence.tdx.qe_identity import QeIdentity
from rlu_attestation.evidence.tdx.roots import PINNED, Root
from rlu_attestation.evidence.tdx.signatures import point, signing_key, verify_ecdsa
from rlu_attestation.evidence.tdx.status import TcbStatus
from rlu_attestation.evidence.tdx.tcb import ModuleLevel, TcbEvaluation
from rlu_attestation.evidence.tdx.tcb_info import SvnLevel, TcbInfo
from rlu_attestation.names import common_name
from rlu_attestation.x509 import Certificate

_PATH = 3
_PCK_NAME = "Intel SGX PCK Certificate"
_PCK_AUTHORITIES = frozenset({"Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"})


def verify(evidence: TdxEvidence, at: datetime, roots: Sequence[Root] = PINNED) -> TdxClaims:
    """Run every step but revocation and binding, in order, and give the claims.

    The caller still owes `verify_revocation` and `verify_binding` (or `verify_report_data`): a genuine quote of the past, or of another
    instance, passes this.

    Raises:
        RluError: the first step that refuses.
    """
    verify_root(evidence, roots)
    verify_chain(evidence, at)
    pck = verify_pck(evidence)
    verify_qe_report(evidence)
    verify_attestation_key(evidence)
    verify_signature(evidence)
    tcb_info = verify_tcb_info(evidence, at)
    identity = verify_qe_identity(evidence, at)
    qe = verify_qe(evidence, identity)
    module = verify_module(evidence, tcb_info)
    evaluation = verify_tcb(evidence, pck, tcb_info, module, qe)
    return claims_of(evidence, pck, tcb_info, identity, evaluation)


def verify_root(evidence: TdxEvidence, roots: Sequence[Root] = PINNED) -> Root:
    """tdx.root: the root in the quote's chain is a trusted one; returns which.

    Raises:
        RluError: `tdx.root.unknown`, `.signature`, `.algorithm`, `.key`, `.weak_key`.
    """
    step, anchor = "tdx.root", evidence.quote.root
    for root in roots:
        if root.is_of(anchor):
            # Implied by the fingerprint of Intel's own root; an operator's root is held to it too.
            chain.verify_signed_by(anchor, anchor, step)
            return root
    raise Untrusted(f"{step}.unknown", f"no trusted root has the fingerprint {anchor.fingerprint.hex()}")


def verify_chain(evidence: TdxEvidence, at: datetime) -> tuple[Certificate, ...]:
    """tdx.chain: the PCK is certified by its authority and that by the root, all valid at a time.

    Raises:
        RluError: `tdx.chain.` and a cause of `chain.verify_chain`, or `length`.
    """
    step, quote = "tdx.chain", evidence.quote
    path = chain.verify_chain(quote.pck, (quote.pck_ca,), (quote.root,), at, step)
    if len(path) != _PATH:
        raise Untrusted(f"{step}.length", "a chain is PCK, PCK authority, root")
    return path


def verify_pck(evidence: TdxEvidence) -> PckExtensions:
    """tdx.pck: the leaf is a PCK certificate of a PCK authority, with a P-256 key for signatures; returns what it says of the platform.

    Raises:
        Untrusted: `tdx.pck.name`, `.issuer`, `.usage`, `.key`.
        Malformed: `tdx.pck.extension`, `.name`, `.issuer`.
        Unsupported: `tdx.pck.extension_unknown`.
    """
    step, pck = "tdx.pck", evidence.quote.pck
    if common_name(pck.subject, f"{step}.name") != _PCK_NAME:
        raise Untrusted(f"{step}.name", f"the certificate is not named {_PCK_NAME}")
    if common_name(pck.issuer, f"{step}.issuer") not in _PCK_AUTHORITIES:
        raise Untrusted(f"{step}.issuer", "the certificate is not by a PCK platform or processor authority")
    signing_key(pck, step)
    return parse_extensions(pck)


def verify_qe_report(evidence: TdxEvidence) -> EnclaveReport:
    """tdx.qe_report: the PCK signed the quoting enclave's report, ECDSA P-256 with SHA-256; returns the report.

    Raises:
        Untrusted: `tdx.qe_report.signature`, `.usage`, `.key`.
    """
    step, quote = "tdx.qe_report", evidence.quote
    key = signing_key(quote.pck, step)
    verify_ecdsa(key, quote.qe_report_signature, quote.qe_report.raw, f"{step}.signature")
    return quote.qe_report


def verify_attestation_key(evidence: TdxEvidence) -> ec.EllipticCurvePublicKey:
    """tdx.attestation_key: the QE report's data is SHA-256(attestation key ‖ QE authentication data) and 32 zero bytes; returns the key.

    Raises:
        Untrusted: `tdx.attestation_key.mismatch`, `.point` (not on curve P-256).
    """
    step, quote = "tdx.attestation_key", evidence.quote
    digest = hashlib.sha256(quote.attestation_key + quote.qe_authentication_data).digest()
    if quote.qe_report.report_data != digest.ljust(REPORT_DATA_SIZE, b"\x00"):
        raise Untrusted(f"{step}.mismatch", "the quoting enclave does not vouch for the attestation key")
    return point(quote.attestation_key, f"{step}.point")


def verify_signature(evidence: TdxEvidence) -> None:
    """tdx.signature: the attestation key signed header and body, ECDSA P-256 with SHA-256.

    Raises:
        Untrusted: `tdx.signature.point`, `.invalid`.
    """
    step, quote = "tdx.signature", evidence.quote
    key = point(quote.attestation_key, f"{step}.point")
    verify_ecdsa(key, quote.signature, quote.signed, f"{step}.invalid")


def verify_qe(evidence: TdxEvidence, identity: QeIdentity) -> SvnLevel:
    """tdx.qe: the QE report is of the enclave that the identity describes; returns the level that its security version reaches.

    Raises:
        Untrusted: `tdx.qe.mrsigner`, `.isvprodid`, `.miscselect`, `.attributes`, `.unsupported`, `.revoked`.
    """
    step, report = "tdx.qe", evidence.quote.qe_report
    if report.mr_signer != identity.mr_signer:
        raise Untrusted(f"{step}.mrsigner", "the quoting enclave has another signer than Intel's")
    if report.isv_prod_id != identity.isv_prod_id:
        raise Untrusted(f"{step}.isvprodid", f"product {report.isv_prod_id} is not the TD quoting enclave")
    if _masked(report.misc_select, identity.misc_select_mask) != identity.misc_select:
        raise Untrusted(f"{step}.miscselect", f"MISCSELECT {report.misc_select.hex()} is not the identity's")
    if _masked(report.attributes, identity.attributes_mask) != identity.attributes:
        raise Untrusted(f"{step}.attributes", f"attributes {report.attributes.hex()} are not the identity's")
    level = tcb.svn_level(identity.levels, report.isv_svn)
    if level is None:
        raise Untrusted(
            f"{step}.unsupported", f"quoting enclave version {report.isv_svn} is below every level"
        )
    if level.status is TcbStatus.REVOKED:
        raise Untrusted(f"{step}.revoked", f"quoting enclave version {report.isv_svn} is revoked")
    return level


def verify_module(evidence: TdxEvidence, tcb_info: TcbInfo) -> ModuleLevel:
    """tdx.module: the TDX module that launched the TD has the signer and attributes of an identity, and reaches one of its levels.

    Raises:
        Untrusted: `tdx.module.unknown`, `.mrsigner`, `.attributes`, `.unsupported`, `.revoked`.
    """
    step, report = "tdx.module", evidence.quote.report
    found = tcb.module_level(tcb_info, report.tee_tcb_svn, step)
    if report.mr_signer_seam != found.module.mr_signer:
        raise Untrusted(f"{step}.mrsigner", "the TDX module has another signer than the TCB information says")
    if _masked(report.seam_attributes, found.module.attributes_mask) != found.module.attributes:
        raise Untrusted(
            f"{step}.attributes", "the TDX module has other attributes than the TCB information says"
        )
    return found


def verify_tcb(
    evidence: TdxEvidence, pck: PckExtensions, tcb_info: TcbInfo, module: ModuleLevel, qe: SvnLevel
) -> TcbEvaluation:
    """tdx.tcb: the TCB information is for the PCK's platform, which reaches one of its levels; returns what levels and statuses come to.

    Raises:
        Untrusted: `tdx.tcb.fmspc`, `.pceid`, and what `tcb.evaluate` raises.
    """
    step, report = tcb.STEP, evidence.quote.report
    if pck.fmspc != tcb_info.fmspc:
        raise Untrusted(
            f"{step}.fmspc", f"TCB information for {tcb_info.fmspc.hex()}, the platform is {pck.fmspc.hex()}"
        )
    if pck.pce_id != tcb_info.pce_id:
        raise Untrusted(
            f"{step}.pceid", f"TCB information for PCE {tcb_info.pce_id.hex()}, not {pck.pce_id.hex()}"
        )
    return tcb.evaluate(tcb_info, pck.tcb, module, qe, report.tee_tcb_svn, report.tee_tcb_svn_2)


def verify_binding(evidence: TdxEvidence, binding: bytes) -> None:
    """tdx.binding: REPORTDATA is the root over this statement's binding, left-aligned and zero-padded (FORMATS section 3).

    Args:
        evidence: the parsed item.
        binding: `H("rlu/instance/v1" ‖ claims bytes)` of the statement, 32 bytes.

    Raises:
        Untrusted: `tdx.binding.mismatch`, `.missing` for a quote without an item.
        Malformed: `proof.inclusion` when the path does not fit the tree.
    """
    step = "tdx.binding"
    if evidence.binding is None:
        raise Untrusted(f"{step}.missing", "a bare quote says nothing about where the binding is")
    if evidence.quote.report.report_data != evidence.binding.root(binding).ljust(REPORT_DATA_SIZE, b"\x00"):
        raise Untrusted(f"{step}.mismatch", "the quote was not made for this statement")


def verify_report_data(evidence: TdxEvidence, expected: bytes) -> None:
    """tdx.report_data: REPORTDATA is exactly these 64 bytes; for quotes that are not RLU's. Nothing is padded.

    Raises:
        Untrusted: `tdx.report_data.mismatch`.
    """
    if len(expected) != REPORT_DATA_SIZE:
        raise ValueError(f"REPORTDATA has {REPORT_DATA_SIZE} bytes")
    if evidence.quote.report.report_data != expected:
        raise Untrusted("tdx.report_data.mismatch", "REPORTDATA is not what was expected")


def _masked(value: bytes, mask: bytes) -> bytes:
    return bytes(a & b for a, b in zip(value, mask, strict=True))
