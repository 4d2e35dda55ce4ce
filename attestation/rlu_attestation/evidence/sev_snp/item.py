"""The evidence item `sev-snp` (FORMATS section 4.2): parsed into `SevSnpEvidence`, or put together from what the platform gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from rlu_attestation import canonical, crl, x509
from rlu_attestation.crl import CertificateList
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed
from rlu_attestation.evidence import MAX_ITEM
from rlu_attestation.evidence.binding import BindingPath, parse_binding
from rlu_attestation.evidence.sev_snp.report import AttestationReport, parse_report
from rlu_attestation.x509 import Certificate

KIND = "sev-snp"
_CODE = "sev-snp.item"
_REQUIRED = frozenset({"kind", "report", "vek_certificate", "ask_certificate", "ark_certificate", "binding"})
_OPTIONAL = frozenset({"crl"})


@dataclass(frozen=True, slots=True)
class SevSnpEvidence:
    """A well-formed report with its endorsements. Nothing of it is verified until each step has passed.

    Attributes:
        vek: certificate of the key that signed the report, VCEK or VLEK.
        ask: AMD's signing key for VCEKs, or the one for VLEKs (ASVK).
        ark: AMD's root key.
        crl: the ARK's revocation list, if one is stapled.
        binding: where the statement's binding is in the tree that REPORT_DATA holds the root of; None for a report without an item.
    """

    report: AttestationReport
    vek: Certificate
    ask: Certificate
    ark: Certificate
    crl: CertificateList | None
    binding: BindingPath | None


def parse(data: bytes) -> SevSnpEvidence:
    """Read an evidence item.

    Raises:
        Malformed: `statement.encoding`, `sev-snp.item`, `encoding.base64url`, `x509.encoding`, `crl.encoding`, or the `sev-snp.report.…`
            at fault.
        Unsupported: `sev-snp.report.…` for a version or algorithm that is not implemented.
    """
    item = canonical.decode(data, MAX_ITEM)
    if item.get("kind") != KIND:
        raise Malformed(_CODE, "not an evidence item of kind sev-snp")
    if not _REQUIRED <= item.keys() <= _REQUIRED | _OPTIONAL:
        raise Malformed(_CODE, "a key is missing or unknown")
    return from_parts(
        _bytes(item["report"]),
        _bytes(item["vek_certificate"]),
        _bytes(item["ask_certificate"]),
        _bytes(item["ark_certificate"]),
        crl_der=_bytes(item["crl"]) if "crl" in item else None,
        binding=parse_binding(item["binding"], _CODE),
    )


def from_parts(
    report: bytes,
    vek: bytes,
    ask: bytes,
    ark: bytes,
    *,
    crl_der: bytes | None = None,
    binding: BindingPath | None = None,
) -> SevSnpEvidence:
    """Evidence from a bare report and its endorsements in DER; raises what `parse` raises."""
    return SevSnpEvidence(
        report=parse_report(report),
        vek=x509.parse(vek),
        ask=x509.parse(ask),
        ark=x509.parse(ark),
        crl=None if crl_der is None else crl.parse(crl_der),
        binding=binding,
    )


def encode(
    *, report: bytes, vek: bytes, ask: bytes, ark: bytes, binding: BindingPath, crl_der: bytes | None = None
) -> bytes:
    """Put an item together; certificates and revocation list are DER.

    Raises:
        RluError: something that `parse` would refuse.
    """
    item: dict[str, Any] = {
        "kind": KIND,
        "report": b64u(report),
        "vek_certificate": b64u(vek),
        "ask_certificate": b64u(ask),
        "ark_certificate": b64u(ark),
        "binding": binding.to_json(),
    }
    if crl_der is not None:
        item["crl"] = b64u(crl_der)
    data = canonical.encode(item)
    parse(data)
    return data


def _bytes(value: object) -> bytes:
    return unb64u(cast(str, value))  # unb64u refuses what is not a string
