"""The kinds of evidence that may stand alone: how each is recognised, and how it is put together.

A TPM's evidence is many structures, which no file format of a vendor holds together: of such kinds only RLU's evidence item is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from rlu_attestation import evidence as items
from rlu_attestation.assemble.pieces import Pieces
from rlu_attestation.bundle import Collateral
from rlu_attestation.errors import RluError, Unsupported
from rlu_attestation.x509 import Certificate

NOTHING = Pieces()
_SNP_REPORT = 1184
_COSE_ES384 = b"\x84\x44\xa1\x01\x38\x22"
_SPDM_1_1_REQUEST = b"\x11\xe0"


class Incomplete(RluError):
    """Evidence came without what it cannot be verified without; nothing was verified."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Assembled:
    """Evidence for `EvidenceContext`, with the collateral beside it.

    Attributes:
        unused: what was given and has no place in evidence of this kind, in words.
    """

    kind: str
    evidence: Any
    collateral: tuple[Collateral, ...]
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """How one kind looks.

    Attributes:
        what: in words.
        parse: reads RLU's evidence item.
        is_bare: whether a file is of this kind, as the hardware gives it; a guess by its first bytes.
        assemble: puts such a file together with what endorses it, and says how many of the certificates it used. None: no bare form.
        takes_log: whether an event log belongs to it.
    """

    what: str
    parse: Callable[[bytes], Any]
    is_bare: Callable[[bytes], bool] = lambda data: False
    assemble: Callable[[bytes, Pieces], tuple[Any, int]] | None = None
    takes_log: bool = False


def recognise(data: bytes) -> str | None:
    """The kind of evidence that a file looks like, item or bare; None for none. Nothing is verified."""
    if data[:1] == b"{":
        try:
            named = items.kind_of(data)
        except RluError:
            return None
        return named if named in FORMS else None
    return next((kind for kind, form in FORMS.items() if form.is_bare(data)), None)


def assemble(kind: str, data: bytes, pieces: Pieces = NOTHING) -> Assembled:
    """Put evidence together.

    Args:
        kind: one of `FORMS`.
        data: an evidence item, or the file that the hardware gave.

    Raises:
        Incomplete: `assemble.missing`, with what is missing and where it comes from.
        Unsupported: `assemble.form`: this kind has no bare form; or what the kind's parser raises.
        Malformed: what the kind's parser raises.
    """
    form, used = FORMS[kind], 0
    if data[:1] == b"{":
        evidence = form.parse(data)
        if form.takes_log and pieces.event_log is not None:
            evidence = replace(evidence, event_log=pieces.event_log)
    elif form.assemble is None:
        raise Unsupported(
            "assemble.form",
            f"{form.what} has no form of its own outside an evidence item (FORMATS section 4): give the item, a JSON file",
        )
    else:
        evidence, used = form.assemble(data, pieces)
    return Assembled(
        kind,
        evidence,
        pieces.collateral,
        pieces.unused(used, takes=COLLATERAL_OF[kind], takes_log=form.takes_log),
    )


# --- AMD ----------------------------------------------------------------------------------------------------------------


def _parse_snp(data: bytes) -> Any:
    from rlu_attestation.evidence import sev_snp

    return sev_snp.parse(data)


def _is_snp(data: bytes) -> bool:
    version = int.from_bytes(data[:4], "little")
    return len(data) == _SNP_REPORT and version in (2, 3, 5)


def _assemble_snp(data: bytes, pieces: Pieces) -> tuple[Any, int]:
    from rlu_attestation.evidence import sev_snp

    leaves, authorities = _split(pieces.certificates)
    roots = [found for found in authorities if found.issuer == found.subject]
    keys = [found for found in authorities if found.issuer != found.subject]
    vek = next(iter(leaves), None)
    ask = _linked(keys, vek)
    ark = _linked(roots, ask)
    missing = [
        name
        for name, found in (
            ("the certificate of the key that signed it (VCEK or VLEK)", vek),
            ("AMD's signing key (ASK or ASVK)", ask),
            ("AMD's root (ARK)", ark),
        )
        if found is None
    ]
    if vek is None or ask is None or ark is None:
        raise Incomplete(
            "assemble.missing",
            f"a SEV-SNP report is verified with {', '.join(missing)}: pass them by --with; AMD's Key Distribution Service "
            "(kdsintf.amd.com/vcek/v1) and the host's certificate table hold them",
        )
    return sev_snp.from_parts(data, vek.raw, ask.raw, ark.raw), 3


def _split(certificates: Sequence[Certificate]) -> tuple[list[Certificate], list[Certificate]]:
    """Leaves and authorities."""
    leaves: list[Certificate] = []
    authorities: list[Certificate] = []
    for found in certificates:
        constraints = found.basic_constraints()
        (authorities if constraints is not None and constraints[0] else leaves).append(found)
    return leaves, authorities


def _linked(candidates: Sequence[Certificate], below: Certificate | None) -> Certificate | None:
    """The candidate that says it issued `below`, else the first: a chain that does not fit is for the verifier to refuse."""
    fits = (found for found in candidates if below is not None and found.subject == below.issuer)
    return next(fits, next(iter(candidates), None))


# --- Intel --------------------------------------------------------------------------------------------------------------


def _parse_tdx(data: bytes) -> Any:
    from rlu_attestation.evidence import tdx

    return tdx.parse(data)


def _is_tdx(data: bytes) -> bool:
    """Version 4 or 5, and the TEE type of a trust domain."""
    return data[:2] in (b"\4\0", b"\5\0") and data[4:8] == b"\x81\0\0\0"


def _assemble_tdx(data: bytes, pieces: Pieces) -> tuple[Any, int]:
    from rlu_attestation.evidence import tdx

    return tdx.from_parts(tdx.trim(data), event_log=pieces.event_log), 0


# --- AWS ----------------------------------------------------------------------------------------------------------------


def _parse_nitro(data: bytes) -> Any:
    from rlu_attestation.evidence import nitro

    return nitro.parse(data)


def _nitro(kind: str) -> Form:
    def is_bare(data: bytes) -> bool:
        if not data.removeprefix(b"\xd2").startswith(_COSE_ES384):
            return False
        # The name of the field with the measurements is what tells the two kinds apart.
        return (b"\x6dnitrotpm_pcrs" in data) == (kind == "nitrotpm")

    def put(data: bytes, pieces: Pieces) -> tuple[Any, int]:
        from rlu_attestation.evidence import nitro

        return nitro.from_parts(data, nitro.Kind(kind)), 0

    what = "an AWS NitroTPM document" if kind == "nitrotpm" else "an AWS Nitro Enclaves document"
    return Form(what, _parse_nitro, is_bare, put)


# --- NVIDIA -------------------------------------------------------------------------------------------------------------


def _parse_nvidia(data: bytes) -> Any:
    from rlu_attestation.evidence import nvidia

    return nvidia.parse(data)


def _is_nvidia(data: bytes) -> bool:
    return data.startswith(_SPDM_1_1_REQUEST)


def _assemble_nvidia(data: bytes, pieces: Pieces) -> tuple[Any, int]:
    from rlu_attestation.evidence import nvidia

    chain = _ordered(pieces.certificates)
    if not chain:
        raise Incomplete(
            "assemble.missing",
            "an NVIDIA report is verified with the device's certificate chain, as NVML hands it out with the report: pass it by --with",
        )
    parts = nvidia.DeviceParts(data, tuple(found.raw for found in chain))
    try:
        return nvidia.from_parts([parts]), len(chain)
    except RluError:
        try:
            return nvidia.from_parts([], [parts]), len(chain)  # a switch has other fields
        except RluError:
            pass
        raise


def _ordered(certificates: Sequence[Certificate]) -> list[Certificate]:
    """Leaf first, each followed by the one that says it issued it; without the certificates of other chains."""
    issuers = {found.issuer for found in certificates if found.issuer != found.subject}
    chain = [found for found in certificates if found.subject not in issuers][:1]
    while chain and chain[-1].issuer != chain[-1].subject:
        above = next((f for f in certificates if f.subject == chain[-1].issuer and f not in chain), None)
        if above is None:
            break
        chain.append(above)
    return chain


# --- TPMs ---------------------------------------------------------------------------------------------------------------


def _parse_tpm2(data: bytes) -> Any:
    from rlu_attestation.evidence import tpm2

    return tpm2.parse(data)


def _parse_gcp(data: bytes) -> Any:
    from rlu_attestation.evidence import gcp_vtpm

    return gcp_vtpm.parse(data)


def _parse_azure(data: bytes) -> Any:
    from rlu_attestation.evidence import azure_vtpm

    return azure_vtpm.parse(data)


COLLATERAL_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sev-snp": ("x509-crl",),
        "tdx": ("tdx-collateral", "x509-crl"),
        "nitro": ("x509-crl",),
        "nitrotpm": ("x509-crl",),
        "nvidia": ("nvidia-rim", "ocsp-response"),
        "tpm2": ("x509-crl",),
        "gcp-vtpm": ("x509-crl",),
        "azure-vtpm": ("tdx-collateral", "x509-crl"),
    }
)
"""Kind of evidence to the kinds of collateral that its steps look at."""

FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "sev-snp": Form("an AMD SEV-SNP report", _parse_snp, _is_snp, _assemble_snp),
        "tdx": Form("an Intel TDX quote", _parse_tdx, _is_tdx, _assemble_tdx, takes_log=True),
        "nitro": _nitro("nitro"),
        "nitrotpm": _nitro("nitrotpm"),
        "nvidia": Form("an NVIDIA device report", _parse_nvidia, _is_nvidia, _assemble_nvidia),
        "tpm2": Form("TPM 2.0 evidence", _parse_tpm2),
        "gcp-vtpm": Form("evidence of a Google virtual TPM", _parse_gcp),
        "azure-vtpm": Form("evidence of an Azure virtual TPM", _parse_azure),
    }
)
"""Every kind that `verify_evidence` knows, in the order in which a file is recognised."""
