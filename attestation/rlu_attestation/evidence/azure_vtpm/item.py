"""The evidence item `azure-vtpm` (FORMATS section 4.7): parsed into `AzureVtpmEvidence`, or put together from what the VM gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from rlu_attestation import canonical
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed
from rlu_attestation.evidence import max_item
from rlu_attestation.evidence.azure_vtpm.hcl import HclReport, ReportType, parse_hcl_report
from rlu_attestation.evidence.binding import BindingPath
from rlu_attestation.tpm import members
from rlu_attestation.tpm.members import TpmEvidence
from rlu_attestation.tpm.policy import PcrValues

KIND = "azure-vtpm"
_CODE = "azure-vtpm.item"
_REQUIRED = members.REQUIRED | {"kind", "hcl_report", "hardware"}
_CERTIFICATES = frozenset({"vek_certificate", "ask_certificate", "ark_certificate"})


@dataclass(frozen=True, slots=True)
class SevSnpHardware:
    """What AMD's report in the HCL report needs beside it, as in items of kind `sev-snp`: DER, not read here."""

    vek_certificate: bytes
    ask_certificate: bytes
    ark_certificate: bytes
    crl: bytes | None = None

    def to_json(self) -> dict[str, Any]:
        value = {name: b64u(getattr(self, name)) for name in sorted(_CERTIFICATES)}
        return {"kind": "sev-snp", **value, **({} if self.crl is None else {"crl": b64u(self.crl)})}


@dataclass(frozen=True, slots=True)
class TdxHardware:
    """The quote that the host made of the TDREPORT, and its collateral, as in items of kind `tdx`; not read here."""

    quote: bytes
    collateral: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"kind": "tdx", "quote": b64u(self.quote)}
        return value if self.collateral is None else {**value, "collateral": dict(self.collateral)}


Hardware = SevSnpHardware | TdxHardware


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureVtpmEvidence(TpmEvidence):
    """A well-formed item. Nothing of it is verified: every field is the attester's word until its step has passed.

    Attributes:
        hcl: the paravisor's report, with the hardware's inside.
        hardware: what else is needed to verify the latter, by the kind that knows it.
    """

    hcl: HclReport
    hardware: Hardware

    @property
    def hardware_kind(self) -> str:
        """The kind of evidence under this one: `sev-snp`, with `hcl.hardware_report` as its report, or `tdx`."""
        return "sev-snp" if isinstance(self.hardware, SevSnpHardware) else "tdx"


def parse(data: bytes) -> AzureVtpmEvidence:
    """Read an evidence item.

    Raises:
        Malformed: `statement.encoding`, `azure-vtpm.item`, `encoding.base64url`, `azure-vtpm.hcl.encoding`,
            `azure-vtpm.runtime.encoding`, or the `tpm2.…` of the structure at fault.
        Unsupported: one of these, for what is not implemented.
    """
    item = canonical.decode(data, max_item(KIND))
    if item.get("kind") != KIND:
        raise Malformed(_CODE, "not an evidence item of kind azure-vtpm")
    if not _REQUIRED <= item.keys() <= _REQUIRED | members.OPTIONAL:
        raise Malformed(_CODE, "a key is missing or unknown")
    hcl, hardware = parse_hcl_report(_bytes(item["hcl_report"])), _hardware(item["hardware"])
    if (hcl.report_type is ReportType.SNP) is not isinstance(hardware, SevSnpHardware):
        raise Malformed(_CODE, f"the HCL report is of {hcl.report_type.name}, hardware of another kind")
    tpm = members.parse_members(item, _CODE)
    return AzureVtpmEvidence(
        hcl=hcl,
        hardware=hardware,
        ak_public=tpm.ak_public,
        key_public=tpm.key_public,
        certify=tpm.certify,
        quote=tpm.quote,
        pcrs=tpm.pcrs,
        binding=tpm.binding,
        event_log=tpm.event_log,
        ima_log=tpm.ima_log,
    )


def encode(
    *,
    hcl_report: bytes,
    hardware: Hardware,
    ak_public: bytes,
    key_public: bytes,
    certify: tuple[bytes, bytes],
    quote: tuple[bytes, bytes],
    pcrs: PcrValues,
    binding: BindingPath,
    event_log: bytes | None = None,
    ima_log: bytes | None = None,
) -> bytes:
    """Put an item together; `hcl_report` is without padding, `certify` and `quote` are (TPMS_ATTEST, TPMT_SIGNATURE).

    Raises:
        RluError: something that `parse` would refuse.
    """
    item = {"kind": KIND, "hcl_report": b64u(hcl_report), "hardware": hardware.to_json()}
    item |= members.encode_members(
        ak_public=ak_public,
        key_public=key_public,
        certify=certify,
        quote=quote,
        pcrs=pcrs,
        binding=binding,
        event_log=event_log,
        ima_log=ima_log,
    )
    data = canonical.encode(item)
    parse(data)
    return data


def _hardware(value: object) -> Hardware:
    if not isinstance(value, dict):
        raise Malformed(_CODE, "hardware must be an object")
    keys = value.keys() - {"kind"}
    if value.get("kind") == "sev-snp" and _CERTIFICATES <= keys <= _CERTIFICATES | {"crl"}:
        found = {name: _bytes(value[name]) for name in _CERTIFICATES}
        return SevSnpHardware(**found, crl=_bytes(value["crl"]) if "crl" in value else None)
    if value.get("kind") == "tdx" and {"quote"} <= keys <= {"quote", "collateral"}:
        collateral = value.get("collateral", {})
        if not isinstance(collateral, dict):
            raise Malformed(_CODE, "collateral must be an object")
        return TdxHardware(_bytes(value["quote"]), collateral if "collateral" in value else None)
    raise Malformed(_CODE, "hardware is of another kind than sev-snp and tdx, or a key is missing or unknown")


def _bytes(value: object) -> bytes:
    return unb64u(cast(str, value))  # unb64u refuses what is not a string
