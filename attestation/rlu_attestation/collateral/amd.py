"""AMD's Key Distribution Service: VCEK, signing keys and revocation lists (specification 57230, sections 2.2 and 4)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rlu_attestation import x509
from rlu_attestation.collateral.lists import CERTIFICATE_TYPES, want_list
from rlu_attestation.collateral.want import CERTIFICATES, Ask, Checked, FetchError, Services, Want
from rlu_attestation.errors import RluError, Unsupported
from rlu_attestation.evidence import sev_snp
from rlu_attestation.evidence.sev_snp import AttestationReport, ProductLine, Root, SevSnpEvidence, SigningKey
from rlu_attestation.x509 import Certificate

_CHAIN_TYPES = (*CERTIFICATE_TYPES, "text/plain")


def of_evidence(
    evidence: SevSnpEvidence, roots: Sequence[Root], at: datetime, services: Services
) -> tuple[Want, ...]:
    """What is published about a report that has its certificates: the root's revocation list.

    Raises:
        RluError: the certificates are not AMD's.
    """
    root = sev_snp.verify_root(evidence, roots)
    sev_snp.verify_chain(evidence, at)
    return (_list(evidence.ask, evidence.ark, root.product, evidence.report.signing_key, at, services),)


def of_report(
    report: AttestationReport, roots: Sequence[Root], at: datetime, services: Services
) -> tuple[Want, ...]:
    """What is published about a bare report: the certificates, and then the list.

    Raises:
        Unsupported: `collateral.vlek`: AMD hands a VLEK to its cloud provider only.
    """
    if report.signing_key is not SigningKey.VCEK:
        raise Unsupported(
            "collateral.vlek", "the certificate of a VLEK comes from the cloud provider, with the report"
        )

    def together(data: bytes) -> SevSnpEvidence:
        vek, ask, ark = x509.parse_many(data)
        return SevSnpEvidence(report, vek, ask, ark, None, None)

    def check(data: bytes) -> Checked:
        found = x509.parse_many(data)
        if len(found) != 3:
            raise Unsupported("collateral.chain", "VCEK, ASK and ARK are expected")
        sev_snp.verify(together(data), at, roots)
        until = min(one.not_after for one in found)
        return Checked("VCEK, ASK and ARK of this chip", found[0].not_before, until)

    def then(data: bytes) -> tuple[Want, ...]:
        return of_evidence(together(data), roots, at, services)

    return (
        Want(
            "VCEK, ASK and ARK", CERTIFICATES, lambda ask: _certificates(ask, report, services), check, then
        ),
    )


def _certificates(ask: Ask, report: AttestationReport, services: Services) -> bytes:
    """Version 2 of the report does not name the product: each that could be is asked for."""
    lines = [ProductLine.MILAN, ProductLine.GENOA]
    if report.cpuid_fam_id is not None and report.cpuid_mod_id is not None:
        lines = [sev_snp.product_of_cpuid(report.cpuid_fam_id, report.cpuid_mod_id)]
    failure: RluError | None = None
    for line in lines:
        base = f"{services.amd_kds}/vcek/v1/{line.value}"
        try:
            vcek = x509.parse(ask.get(f"{base}/{_query(report, line)}", CERTIFICATE_TYPES).content)
        except FetchError as error:
            failure = failure or error
            continue
        chain: tuple[Certificate, ...] = x509.parse_many(ask.get(f"{base}/cert_chain", _CHAIN_TYPES).content)
        return x509.to_pem(vcek, *chain)
    raise failure or FetchError("fetch.status", "no product line was asked for")


def _query(report: AttestationReport, line: ProductLine) -> str:
    """The chip and the TCB that the key was derived for, as section 4.1 spells them."""
    parts = report.reported_tcb.parts(line)
    levels = {
        "blSPL": parts.boot_loader,
        "teeSPL": parts.tee,
        "snpSPL": parts.snp,
        "ucodeSPL": parts.microcode,
    }
    if parts.fmc is not None:
        levels = {"fmcSPL": parts.fmc, **levels}
    text = "&".join(f"{name}={level:02}" for name, level in levels.items())
    return f"{report.chip_id[: line.hwid_size].hex()}?{text}"


def _list(
    ask: Certificate,
    ark: Certificate,
    line: ProductLine,
    signing_key: SigningKey,
    at: datetime,
    services: Services,
) -> Want:
    kind = "vlek" if signing_key is SigningKey.VLEK else "vcek"
    return want_list(f"{services.amd_kds}/{kind}/v1/{line.value}/crl", ark, (ask,), at)
