"""The kinds of evidence that may stand alone: how each is read, and, of those that have a form of their own (`bare`), recognised.

A TPM's evidence is many structures, which no file format of a vendor holds together: of such kinds only RLU's evidence item is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from rlu_attestation import evidence as items
from rlu_attestation.assemble import bare
from rlu_attestation.assemble.pieces import Pieces
from rlu_attestation.bundle import Collateral
from rlu_attestation.errors import RluError, Unsupported

NOTHING = Pieces()


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


def _parse_snp(data: bytes) -> Any:
    from rlu_attestation.evidence import sev_snp

    return sev_snp.parse(data)


def _parse_tdx(data: bytes) -> Any:
    from rlu_attestation.evidence import tdx

    return tdx.parse(data)


def _parse_nitro(data: bytes) -> Any:
    from rlu_attestation.evidence import nitro

    return nitro.parse(data)


def _parse_nvidia(data: bytes) -> Any:
    from rlu_attestation.evidence import nvidia

    return nvidia.parse(data)


def _parse_tpm2(data: bytes) -> Any:
    from rlu_attestation.evidence import tpm2

    return tpm2.parse(data)


def _parse_gcp(data: bytes) -> Any:
    from rlu_attestation.evidence import gcp_vtpm

    return gcp_vtpm.parse(data)


def _parse_azure(data: bytes) -> Any:
    from rlu_attestation.evidence import azure_vtpm

    return azure_vtpm.parse(data)


def _nitro(kind: str, what: str) -> Form:
    return Form(what, _parse_nitro, partial(bare.is_nitro, kind), partial(bare.assemble_nitro, kind))


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
        "sev-snp": Form("an AMD SEV-SNP report", _parse_snp, bare.is_snp, bare.assemble_snp),
        "tdx": Form("an Intel TDX quote", _parse_tdx, bare.is_tdx, bare.assemble_tdx, takes_log=True),
        "nitro": _nitro("nitro", "an AWS Nitro Enclaves document"),
        "nitrotpm": _nitro("nitrotpm", "an AWS NitroTPM document"),
        "nvidia": Form("an NVIDIA device report", _parse_nvidia, bare.is_nvidia, bare.assemble_nvidia),
        "tpm2": Form("TPM 2.0 evidence", _parse_tpm2),
        "gcp-vtpm": Form("evidence of a Google virtual TPM", _parse_gcp),
        "azure-vtpm": Form("evidence of an Azure virtual TPM", _parse_azure),
    }
)
"""Every kind that `verify_evidence` knows, in the order in which a file is recognised."""
