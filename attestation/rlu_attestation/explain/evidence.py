"""Evidence items: which kind, and how that kind explains itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rlu_attestation.errors import Unsupported
from rlu_attestation.evidence import azure_vtpm, gcp_vtpm, kind_of, nitro, sev_snp, tpm2
from rlu_attestation.explain.section import Row, Section
from rlu_attestation.explain.tpm import explain_tpm2

_TITLES = {
    sev_snp.KIND: "AMD SEV-SNP evidence",
    nitro.Kind.NITRO.value: "AWS Nitro Enclaves evidence",
    nitro.Kind.NITROTPM.value: "AWS NitroTPM evidence",
    gcp_vtpm.KIND: "Google Compute Engine vTPM evidence",
    azure_vtpm.KIND: "Azure confidential VM vTPM evidence",
}


def explain_evidence(data: bytes) -> Section:
    """An item of evidence.

    Raises:
        Malformed: it is of a known kind and broken.
        Unsupported: `inspect.kind`.
    """
    kind = kind_of(data)
    if kind == tpm2.KIND:
        return explain_tpm2(tpm2.parse(data))
    if kind == "none":
        return Section("no evidence", (Row("kind", "none", "a software key: no hardware speaks for it"),))
    rows = _DESCRIBED.get(kind)
    if rows is None:
        raise Unsupported("inspect.kind", "evidence of a kind that is not known here")
    described = tuple(Row(*row) for row in rows(data))
    return Section(_TITLES[kind], (Row("kind", kind), *described))


def _sev_snp(data: bytes) -> Iterable[tuple[str, str, str]]:
    return sev_snp.describe(sev_snp.parse(data))


def _nitro(data: bytes) -> Iterable[tuple[str, str, str]]:
    return nitro.describe(nitro.parse(data).document)


def _gcp_vtpm(data: bytes) -> Iterable[tuple[str, str, str]]:
    return gcp_vtpm.describe(gcp_vtpm.parse(data))


def _azure_vtpm(data: bytes) -> Iterable[tuple[str, str, str]]:
    return azure_vtpm.describe(azure_vtpm.parse(data))


_DESCRIBED: dict[str, Callable[[bytes], Iterable[tuple[str, str, str]]]] = {
    sev_snp.KIND: _sev_snp,
    **dict.fromkeys(nitro.KINDS, _nitro),
    gcp_vtpm.KIND: _gcp_vtpm,
    azure_vtpm.KIND: _azure_vtpm,
}
