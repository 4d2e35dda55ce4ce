"""SEV-SNP evidence: a report through configfs-tsm, endorsed by what the host hands out with it and by the collateral directory.

The certificate of the key that signed is chosen by trying: the one whose key verifies the report's signature. After a firmware update
the chip signs with another key, so several VCEK certificates may lie side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rlu_attestation import crl, x509
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import sev_snp
from rlu_attestation.evidence.binding import SINGLE
from rlu_attestation.evidence.sev_snp import AttestationReport, ProductLine, SigningKey
from rlu_attestation.x509 import Certificate
from rlu_server.attestor.collect import collateral
from rlu_server.attestor.collect.collateral import Collateral
from rlu_server.attestor.collect.collector import check_root
from rlu_server.attestor.collect.tsm import TsmReports
from rlu_server.attestor.errors import HardwareRefused, HardwareUnavailable, NotReady
from rlu_server.attestor.platform import Evidence, evidence_of

PROVIDER = "sev_guest"
PADDING = bytes(32)
"""REPORT_DATA has 64 bytes: the root, then these."""
KDS = "https://kdsintf.amd.com"


@dataclass(frozen=True, slots=True)
class Endorsements:
    """What AMD says of a report's key (DER): certificate, its issuers, and the root's revocation list."""

    vek: bytes
    ask: bytes
    ark: bytes
    crl: bytes | None


class SevSnpCollector:
    """Collector of `sev-snp` items.

    Args:
        directory: certificates and revocation list beyond the host's (`collateral.py`): VCEK or VLEK, ASK, ARK.
    """

    kind = sev_snp.KIND

    def __init__(self, reports: TsmReports, directory: Path) -> None:
        self._reports = reports
        self._directory = directory

    def collect(self, root: bytes) -> Evidence:
        """Evidence whose REPORT_DATA is `root`.

        Raises:
            AttestorError: as `TsmReports.report`; `sev-snp.report`, `sev-snp.raced`, `sev-snp.endorsement`, `collateral.…`.
        """
        check_root(root)
        answer = self._reports.report(PROVIDER, root + PADDING)
        try:
            report = sev_snp.parse_report(answer.outblob)
        except RluError as error:
            raise HardwareRefused("sev-snp.report", f"the report cannot be used: {error}") from error
        if report.report_data != root + PADDING:
            raise HardwareUnavailable("sev-snp.raced", "the report is over other data than was asked for")
        found = endorse(report, self._pool(answer.auxblob), self._directory)

        return evidence_of(
            sev_snp.encode(
                report=answer.outblob,
                vek=found.vek,
                ask=found.ask,
                ark=found.ark,
                binding=SINGLE,
                crl_der=found.crl,
            )
        )

    def _pool(self, auxblob: bytes) -> Collateral:
        """What the host gave, then the directory. The host's table is only a help: what is wrong in it is left out."""
        ours = collateral.load(self._directory)
        certificates: list[Certificate] = []
        crls = list(ours.crls)
        try:
            table = sev_snp.parse_certificate_table(auxblob)
        except RluError:
            return ours
        for der in (table.vcek, table.vlek, table.ask, table.ark):
            certificates += () if der is None else _readable(der)
        if table.crl is not None:
            crls += _readable_list(table.crl)
        return Collateral((*certificates, *ours.certificates), tuple(crls))


def endorse(report: AttestationReport, pool: Collateral, directory: Path) -> Endorsements:
    """Choose from a pool what belongs to a report.

    Raises:
        NotReady: something is missing (`sev-snp.endorsement`); the message says where AMD has it.
    """
    vek = _signer(report, pool, directory)
    ask = pool.issuer_of(vek)
    ark = None if ask is None else pool.issuer_of(ask)
    if ask is None or ark is None:
        raise NotReady(
            "sev-snp.endorsement",
            f"neither the host nor {directory} has AMD's ASK and ARK for this chip; "
            f"put there what {KDS}/{_key_name(report)}/v1/<product>/cert_chain gives",
        )
    found = pool.crl_of(ark)
    return Endorsements(vek.raw, ask.raw, ark.raw, None if found is None else found.raw)


def _readable(der: bytes) -> tuple[Certificate, ...]:
    try:
        return (x509.parse(der),)
    except RluError:
        return ()


def _readable_list(der: bytes) -> tuple[crl.CertificateList, ...]:
    try:
        return (crl.parse(der),)
    except RluError:
        return ()


def _signer(report: AttestationReport, pool: Collateral, directory: Path) -> Certificate:
    for candidate in pool.certificates:
        try:
            extensions = sev_snp.parse_extensions(candidate)
            if extensions.kind is report.signing_key and extensions.tcb == report.reported_tcb:
                sev_snp.verify_signature(
                    sev_snp.from_parts(report.raw, candidate.raw, candidate.raw, candidate.raw)
                )
                return candidate
        except RluError:
            continue
    raise NotReady(
        "sev-snp.endorsement",
        f"neither the host nor {directory} has the certificate of the key that signs this machine's reports; put there {_where(report)}",
    )


def _key_name(report: AttestationReport) -> str:
    return "vlek" if report.signing_key is SigningKey.VLEK else "vcek"


def _where(report: AttestationReport) -> str:
    """Where AMD has the certificate (KDS specification 57230, section 4)."""
    if report.signing_key is not SigningKey.VCEK:
        return "the VLEK certificate that your cloud provider hands out"
    try:
        if report.cpuid_fam_id is None or report.cpuid_mod_id is None:
            raise ValueError
        product = sev_snp.product_of_cpuid(report.cpuid_fam_id, report.cpuid_mod_id)
        levels = report.reported_tcb.parts(product)
    except (RluError, ValueError):
        return f"the VCEK certificate for chip {report.chip_id.hex()}, TCB {report.reported_tcb.raw.hex()} from {KDS}"
    hwid = report.chip_id[: product.hwid_size].hex()
    fmc = f"fmcSPL={levels.fmc}&" if product is ProductLine.TURIN else ""
    return (
        f"{KDS}/vcek/v1/{product.value}/{hwid}?{fmc}blSPL={levels.boot_loader}&teeSPL={levels.tee}"
        f"&snpSPL={levels.snp}&ucodeSPL={levels.microcode} (`rlu collateral fetch`)"
    )
