"""The verification steps of SEV-SNP evidence, one function each; the verifier composes them, `verify` runs them in order.

Each takes the parsed evidence and what it is held against, returns what it proved, and raises `Untrusted` with a code `<step>.<cause>`. A
step looks at one thing only: a verdict needs all of them.

    sev-snp.root        the ARK is one of the trusted roots, byte for byte, and signed itself
    sev-snp.chain       VEK ← ASK ← ARK hold at the given time
    sev-snp.vek         the VEK certificate is for the kind of key that the report says it was signed with
    sev-snp.product     root, certificate and report are of one product line
    sev-snp.tcb         the VEK was derived for the TCB that the report names
    sev-snp.chip_id     the VCEK is that of the chip in the report (a VLEK belongs to a provider, not to a chip)
    sev-snp.signature   the VEK signed the report
    sev-snp.vmpl        the guest asked for the report, not the host
    sev-snp.revocation  the ARK's list, current at the given time, does not name the ASK
    sev-snp.binding     REPORT_DATA commits to this instance statement

AMD gives every VCEK and VLEK serial number 0 and publishes no list over them; a compromised chip shows in its TCB only, so that revocation
speaks about the ASK.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from rlu_attestation import chain
from rlu_attestation.crl import CertificateList, verify_not_revoked
from rlu_attestation.errors import Untrusted
from rlu_attestation.evidence.sev_snp.claims import SevSnpClaims
from rlu_attestation.evidence.sev_snp.item import SevSnpEvidence
from rlu_attestation.evidence.sev_snp.product import ProductLine, TcbParts, product_of_cpuid
from rlu_attestation.evidence.sev_snp.report import REPORT_DATA_SIZE, VMPL_HOST, SigningKey
from rlu_attestation.evidence.sev_snp.roots import PINNED, Root
from rlu_attestation.evidence.sev_snp.vek import VekExtensions, parse_extensions
from rlu_attestation.names import common_name
from rlu_attestation.x509 import Certificate

_PATH = 3
_VEK_NAMES = {SigningKey.VCEK: "SEV-VCEK", SigningKey.VLEK: "SEV-VLEK"}


def verify(evidence: SevSnpEvidence, at: datetime, roots: Sequence[Root] = PINNED) -> SevSnpClaims:
    """Run every step but revocation and binding, in order, and give the claims.

    The caller still owes `verify_revocation` and `verify_binding` (or `verify_report_data`): a genuine report of the past, or of another
    instance, passes this.

    Raises:
        RluError: the first step that refuses.
    """
    root = verify_root(evidence, roots)
    verify_chain(evidence, at)
    extensions = verify_vek(evidence)
    product = verify_product(evidence, root)
    verify_tcb(evidence, product)
    verify_chip_id(evidence, product)
    verify_signature(evidence)
    verify_vmpl(evidence)
    return claims_of(evidence, product, extensions)


def claims_of(evidence: SevSnpEvidence, product: ProductLine, extensions: VekExtensions) -> SevSnpClaims:
    """The claims of evidence whose every step passed; `product` and `extensions` are what those steps gave.

    Raises:
        Malformed: `sev-snp.tcb.reserved`.
    """
    report = evidence.report
    return SevSnpClaims(
        product=product,
        signing_key=report.signing_key,
        csp_id=extensions.csp_id,
        current_tcb=report.current_tcb.parts(product),
        reported_tcb=report.reported_tcb.parts(product),
        committed_tcb=report.committed_tcb.parts(product),
        launch_tcb=report.launch_tcb.parts(product),
        report=report,
    )


def verify_root(evidence: SevSnpEvidence, roots: Sequence[Root] = PINNED) -> Root:
    """sev-snp.root: the ARK certificate is a trusted one; returns which.

    Raises:
        RluError: `sev-snp.root.unknown`, `.signature`, `.algorithm`, `.key`, `.weak_key`.
    """
    step = "sev-snp.root"
    for root in roots:
        if root.is_of(evidence.ark):
            # Implied by the fingerprint of a certificate that AMD published; an operator's own root is held to it too.
            chain.verify_signed_by(evidence.ark, evidence.ark, step)
            return root
    raise Untrusted(
        f"{step}.unknown", f"no trusted root has the fingerprint {evidence.ark.fingerprint.hex()}"
    )


def verify_chain(evidence: SevSnpEvidence, at: datetime) -> tuple[Certificate, ...]:
    """sev-snp.chain: the VEK is certified by the ASK and that by the ARK, all valid at a time.

    Raises:
        RluError: `sev-snp.chain.` and a cause of `chain.verify_chain`, or `length`.
    """
    step = "sev-snp.chain"
    path = chain.verify_chain(evidence.vek, (evidence.ask,), (evidence.ark,), at, step)
    if len(path) != _PATH:
        raise Untrusted(f"{step}.length", "a chain is VEK, ASK, ARK")
    return path


def verify_vek(evidence: SevSnpEvidence) -> VekExtensions:
    """sev-snp.vek: the certificate is for the kind of key that SIGNING_KEY names, and for a P-384 key.

    Raises:
        Untrusted: `sev-snp.vek.signing_key`, `.name`, `.key`.
        Malformed: `sev-snp.vek.extension`, `.name`.
        Unsupported: `sev-snp.vek.version`, `sev-snp.product.unknown`.
    """
    step = "sev-snp.vek"
    extensions = parse_extensions(evidence.vek)
    if extensions.kind is not evidence.report.signing_key:
        raise Untrusted(
            f"{step}.signing_key",
            f"the report names {evidence.report.signing_key.name}, the certificate is for a {extensions.kind.name}",
        )
    if common_name(evidence.vek.subject, f"{step}.name") != _VEK_NAMES[extensions.kind]:
        raise Untrusted(f"{step}.name", f"the certificate is not named {_VEK_NAMES[extensions.kind]}")
    _p384(evidence.vek, f"{step}.key")
    return extensions


def verify_product(evidence: SevSnpEvidence, root: Root) -> ProductLine:
    """sev-snp.product: root, certificate and (from version 3) the CPU in the report are of one line; returns it.

    Raises:
        Untrusted: `sev-snp.product.root`, `.cpuid`.
        Unsupported: `sev-snp.product.unknown`.
    """
    step = "sev-snp.product"
    product = parse_extensions(evidence.vek).product
    if product is not root.product:
        raise Untrusted(
            f"{step}.root", f"a certificate for {product.value} under the root of {root.product.value}"
        )
    family, model = evidence.report.cpuid_fam_id, evidence.report.cpuid_mod_id
    if family is not None and model is not None:
        reported = product_of_cpuid(family, model)
        if reported is not product:
            raise Untrusted(
                f"{step}.cpuid", f"the report is of {reported.value}, the certificate for {product.value}"
            )
    return product


def verify_tcb(evidence: SevSnpEvidence, product: ProductLine) -> TcbParts:
    """sev-snp.tcb: the certificate is for exactly REPORTED_TCB; returns its parts.

    Raises:
        Untrusted: `sev-snp.tcb.mismatch`.
        Malformed: `sev-snp.tcb.reserved`.
    """
    certified = parse_extensions(evidence.vek).tcb
    if certified != evidence.report.reported_tcb:
        raise Untrusted(
            "sev-snp.tcb.mismatch",
            f"the certificate is for TCB {certified.raw.hex()}, the report names {evidence.report.reported_tcb.raw.hex()}",
        )
    return certified.parts(product)


def verify_chip_id(evidence: SevSnpEvidence, product: ProductLine) -> bytes | None:
    """sev-snp.chip_id: a VCEK's certificate names the chip in the report; returns the hardware id, None with a VLEK.

    Raises:
        Untrusted: `sev-snp.chip_id.mismatch`, `.masked` (the host hides the id, so that it cannot be compared).
    """
    step = "sev-snp.chip_id"
    hwid, chip_id = parse_extensions(evidence.vek).hwid, evidence.report.chip_id
    if hwid is None:
        return None
    if not any(chip_id):
        raise Untrusted(
            f"{step}.masked", "CHIP_ID is masked: the chip cannot be compared with the certificate's"
        )
    if hwid != chip_id[: product.hwid_size] or any(chip_id[product.hwid_size :]):
        raise Untrusted(f"{step}.mismatch", "the certificate is of another chip than the report")
    return hwid


def verify_signature(evidence: SevSnpEvidence) -> None:
    """sev-snp.signature: the VEK signed the report, ECDSA P-384 with SHA-384.

    Raises:
        Untrusted: `sev-snp.signature.unsigned`, `.key`, `.invalid`.
    """
    step, report = "sev-snp.signature", evidence.report
    # MASK_CHIP_KEY keeps the firmware from using the VCEK; a VLEK signs all the same.
    if report.signing_key is SigningKey.NONE or (
        report.mask_chip_key and report.signing_key is SigningKey.VCEK
    ):
        raise Untrusted(f"{step}.unsigned", "the report says that the firmware did not sign it")
    key = _p384(evidence.vek, f"{step}.key")
    signature = utils.encode_dss_signature(report.signature_r, report.signature_s)
    try:
        key.verify(signature, report.signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise Untrusted(
            f"{step}.invalid", "the report is not signed by the key of its certificate"
        ) from error


def verify_vmpl(evidence: SevSnpEvidence) -> int:
    """sev-snp.vmpl: the guest requested the report; returns the privilege level it did so from.

    Raises:
        Untrusted: `sev-snp.vmpl.host`.
    """
    if evidence.report.vmpl == VMPL_HOST:
        raise Untrusted("sev-snp.vmpl.host", "the host requested this report, not the guest")
    return evidence.report.vmpl


def verify_revocation(
    evidence: SevSnpEvidence, at: datetime, beside: Sequence[CertificateList] = ()
) -> CertificateList:
    """sev-snp.revocation: a list of the ARK, stapled or `beside` the evidence, is current at a time and does not name the ASK.

    Raises:
        RluError: `sev-snp.revocation.` and a cause of `crl.verify_not_revoked`; `missing` when there is none.
    """
    lists = (*beside, *(() if evidence.crl is None else (evidence.crl,)))
    return verify_not_revoked(evidence.ask, evidence.ark, lists, at, "sev-snp.revocation")


def verify_binding(evidence: SevSnpEvidence, binding: bytes) -> None:
    """sev-snp.binding: REPORT_DATA is the root over this statement's binding, left-aligned and zero-padded (FORMATS section 3).

    Args:
        evidence: the parsed item.
        binding: `H("rlu/instance/v1" ‖ claims bytes)` of the statement, 32 bytes.

    Raises:
        Untrusted: `sev-snp.binding.mismatch`, `.missing` for a report without an item.
        Malformed: `proof.inclusion` when the path does not fit the tree.
    """
    step = "sev-snp.binding"
    if evidence.binding is None:
        raise Untrusted(f"{step}.missing", "a bare report says nothing about where the binding is")
    if evidence.report.report_data != evidence.binding.root(binding).ljust(REPORT_DATA_SIZE, b"\x00"):
        raise Untrusted(f"{step}.mismatch", "the report was not made for this statement")


def verify_report_data(evidence: SevSnpEvidence, expected: bytes) -> None:
    """sev-snp.report_data: REPORT_DATA is exactly these 64 bytes; for reports that are not RLU's. Nothing is padded.

    Raises:
        Untrusted: `sev-snp.report_data.mismatch`.
    """
    if len(expected) != REPORT_DATA_SIZE:
        raise ValueError(f"REPORT_DATA has {REPORT_DATA_SIZE} bytes")
    if evidence.report.report_data != expected:
        raise Untrusted("sev-snp.report_data.mismatch", "REPORT_DATA is not what was expected")


def _p384(certificate: Certificate, code: str) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise Untrusted(code, "the certificate's key is not on curve P-384")
    return key
