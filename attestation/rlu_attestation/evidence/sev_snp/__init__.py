"""AMD SEV-SNP evidence (FORMATS section 4.2): parse, verify step by step, claims.

For the verifier:

    evidence = sev_snp.parse(data)                        # SevSnpEvidence: well-formed, nothing verified
    root = sev_snp.verify_root(evidence, roots)           # step sev-snp.root        -> Root(product, …); `roots` default to AMD's
    sev_snp.verify_chain(evidence, at)                    # step sev-snp.chain       -> path of certificates
    sev_snp.verify_vek(evidence)                          # step sev-snp.vek         -> VekExtensions(kind, product, tcb, hwid, csp_id)
    product = sev_snp.verify_product(evidence, root)      # step sev-snp.product     -> ProductLine
    sev_snp.verify_tcb(evidence, product)                 # step sev-snp.tcb         -> TcbParts
    sev_snp.verify_chip_id(evidence, product)             # step sev-snp.chip_id     -> hardware id, or None with a VLEK
    sev_snp.verify_signature(evidence)                    # step sev-snp.signature
    sev_snp.verify_vmpl(evidence)                         # step sev-snp.vmpl        -> 0 … 3
    sev_snp.verify_revocation(evidence, at)               # step sev-snp.revocation  -> the revocation list
    sev_snp.verify_binding(evidence, binding)             # step sev-snp.binding

or `claims = sev_snp.verify(evidence, at, roots)`, which runs all but the last two. `from_parts` takes a bare report with its certificates;
`describe` gives rows for people; `encode` makes an item, and `parse_certificate_table` reads what the host hands out with a report.
"""

from __future__ import annotations

from rlu_attestation.evidence.sev_snp.claims import SevSnpClaims
from rlu_attestation.evidence.sev_snp.describe import Row, describe, describe_report
from rlu_attestation.evidence.sev_snp.item import KIND, SevSnpEvidence, encode, from_parts, parse
from rlu_attestation.evidence.sev_snp.product import (
    ProductLine,
    TcbParts,
    TcbVersion,
    product_of_cpuid,
    product_of_name,
)
from rlu_attestation.evidence.sev_snp.report import (
    REPORT_SIZE,
    AttestationReport,
    FirmwareVersion,
    GuestPolicy,
    PlatformInfo,
    SigningKey,
    parse_report,
)
from rlu_attestation.evidence.sev_snp.roots import PINNED, Root
from rlu_attestation.evidence.sev_snp.steps import (
    claims_of,
    verify,
    verify_binding,
    verify_chain,
    verify_chip_id,
    verify_product,
    verify_report_data,
    verify_revocation,
    verify_root,
    verify_signature,
    verify_tcb,
    verify_vek,
    verify_vmpl,
)
from rlu_attestation.evidence.sev_snp.table import CertificateTable, parse_certificate_table
from rlu_attestation.evidence.sev_snp.vek import VekExtensions, parse_extensions

__all__ = [
    "KIND",
    "PINNED",
    "REPORT_SIZE",
    "AttestationReport",
    "CertificateTable",
    "FirmwareVersion",
    "GuestPolicy",
    "PlatformInfo",
    "ProductLine",
    "Root",
    "Row",
    "SevSnpClaims",
    "SevSnpEvidence",
    "SigningKey",
    "TcbParts",
    "TcbVersion",
    "VekExtensions",
    "claims_of",
    "describe",
    "describe_report",
    "encode",
    "from_parts",
    "parse",
    "parse_certificate_table",
    "parse_extensions",
    "parse_report",
    "product_of_cpuid",
    "product_of_name",
    "verify",
    "verify_binding",
    "verify_chain",
    "verify_chip_id",
    "verify_product",
    "verify_report_data",
    "verify_revocation",
    "verify_root",
    "verify_signature",
    "verify_tcb",
    "verify_vek",
    "verify_vmpl",
]
