"""Evidence, as RLU's items and as the hardware gives it: which kind, and how that kind explains itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from rlu_attestation.errors import RluError, Unsupported
from rlu_attestation.evidence import kind_of
from rlu_attestation.explain.section import Row, Section

Rows = Iterable[tuple[str, str, str]]


class _Kind(NamedTuple):
    """How one kind explains itself: its item, and its bare form. Kinds are imported when they are used."""

    title: str
    item: Callable[[bytes], Rows]
    bare: Callable[[bytes], Rows] | None = None


def explain_evidence(data: bytes) -> Section:
    """An item of evidence.

    Raises:
        Malformed: it is of a known kind and broken.
        Unsupported: `inspect.kind`.
    """
    kind = kind_of(data)
    if kind == "tpm2":
        from rlu_attestation.evidence import tpm2
        from rlu_attestation.explain.tpm import explain_tpm2

        return explain_tpm2(tpm2.parse(data))
    if kind == "none":
        return Section("no evidence", (Row("kind", "none", "a software key: no hardware speaks for it"),))
    found = _KINDS.get(kind)
    if found is None:
        raise Unsupported("inspect.kind", "evidence of a kind that is not known here")
    return Section(f"{found.title} evidence", (Row("kind", kind), *(Row(*row) for row in found.item(data))))


def explain_bare(kind: str, data: bytes) -> Section:
    """Evidence as the hardware gives it, of a kind that `assemble.recognise` named.

    Raises:
        Malformed, Unsupported: what the kind's parser raises.
    """
    found = _KINDS[kind]
    assert found.bare is not None, "only kinds with a bare form are recognised"
    rows = (Row("kind", kind, f"rlu verify FILE --kind {kind}"), *(Row(*row) for row in found.bare(data)))
    return Section(f"{found.title} evidence, as the hardware gave it", rows)


def explain_hcl(data: bytes) -> Section:
    """The report of an Azure paravisor. Raises Malformed, Unsupported."""
    from rlu_attestation.evidence import azure_vtpm

    report = azure_vtpm.parse_hcl_report(azure_vtpm.trim_nv(data))
    rows = tuple(Row(*row) for row in azure_vtpm.describe_hcl_report(report))
    try:
        inner: tuple[Section, ...] = (explain_bare("sev-snp", report.hardware_report),)
    except RluError:
        inner = ()
    return Section("Report of an Azure paravisor (HCL)", rows, inner)


def _sev_snp(data: bytes) -> Rows:
    from rlu_attestation.evidence import sev_snp

    return sev_snp.describe(sev_snp.parse(data))


def _report(data: bytes) -> Rows:
    from rlu_attestation.evidence import sev_snp

    return sev_snp.describe_report(sev_snp.parse_report(data))


def _tdx(data: bytes) -> Rows:
    from rlu_attestation.evidence import tdx

    return tdx.describe(tdx.parse(data))


def _quote(data: bytes) -> Rows:
    from rlu_attestation.evidence import tdx

    return tdx.describe_quote(tdx.parse_quote(tdx.trim(data)))


def _nitro(data: bytes) -> Rows:
    from rlu_attestation.evidence import nitro

    return nitro.describe(nitro.parse(data).document)


def _document(data: bytes) -> Rows:
    from rlu_attestation.evidence import nitro

    return nitro.describe(nitro.parse_document(data))


def _nvidia(data: bytes) -> Rows:
    from rlu_attestation.evidence import nvidia

    return nvidia.describe(nvidia.parse(data))


def _device(data: bytes) -> Rows:
    from rlu_attestation.evidence import nvidia

    try:
        return nvidia.describe_report(nvidia.parse_report(data, nvidia.DeviceKind.GPU))
    except RluError:
        try:
            return nvidia.describe_report(nvidia.parse_report(data, nvidia.DeviceKind.SWITCH))
        except RluError:
            pass
        raise


def _gcp(data: bytes) -> Rows:
    from rlu_attestation.evidence import gcp_vtpm

    return gcp_vtpm.describe(gcp_vtpm.parse(data))


def _azure(data: bytes) -> Rows:
    from rlu_attestation.evidence import azure_vtpm

    return azure_vtpm.describe(azure_vtpm.parse(data))


_KINDS = {
    "sev-snp": _Kind("AMD SEV-SNP", _sev_snp, _report),
    "tdx": _Kind("Intel TDX", _tdx, _quote),
    "nitro": _Kind("AWS Nitro Enclaves", _nitro, _document),
    "nitrotpm": _Kind("AWS NitroTPM", _nitro, _document),
    "nvidia": _Kind("NVIDIA GPU", _nvidia, _device),
    "gcp-vtpm": _Kind("Google Compute Engine vTPM", _gcp),
    "azure-vtpm": _Kind("Azure confidential VM vTPM", _azure),
}
