"""Evidence as each vendor's hardware gives it, outside RLU's item: what it looks like, and how it is put together with what endorses it.

Functions `is_…` guess by the first bytes. Functions `assemble_…` give the evidence, and how many of the certificates they used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlu_attestation.assemble.pieces import Pieces
from rlu_attestation.errors import RluError
from rlu_attestation.x509 import Certificate

_SNP_REPORT = 1184
_COSE_ES384 = b"\x84\x44\xa1\x01\x38\x22"
_SPDM_1_1_REQUEST = b"\x11\xe0"


class Incomplete(RluError):
    """Evidence came without what it cannot be verified without; nothing was verified."""

    exit_code = 2


# --- AMD ----------------------------------------------------------------------------------------------------------------


def is_snp(data: bytes) -> bool:
    version = int.from_bytes(data[:4], "little")
    return len(data) == _SNP_REPORT and version in (2, 3, 5)


def assemble_snp(data: bytes, pieces: Pieces) -> tuple[Any, int]:
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


def is_tdx(data: bytes) -> bool:
    """Version 4 or 5, and the TEE type of a trust domain."""
    return data[:2] in (b"\4\0", b"\5\0") and data[4:8] == b"\x81\0\0\0"


def assemble_tdx(data: bytes, pieces: Pieces) -> tuple[Any, int]:
    from rlu_attestation.evidence import tdx

    return tdx.from_parts(tdx.trim(data), event_log=pieces.event_log), 0


# --- AWS ----------------------------------------------------------------------------------------------------------------


def is_nitro(kind: str, data: bytes) -> bool:
    if not data.removeprefix(b"\xd2").startswith(_COSE_ES384):
        return False
    # The name of the field with the measurements is what tells the two kinds apart.
    return (b"\x6dnitrotpm_pcrs" in data) == (kind == "nitrotpm")


def assemble_nitro(kind: str, data: bytes, pieces: Pieces) -> tuple[Any, int]:
    from rlu_attestation.evidence import nitro

    return nitro.from_parts(data, nitro.Kind(kind)), 0


# --- NVIDIA -------------------------------------------------------------------------------------------------------------


def is_nvidia(data: bytes) -> bool:
    return data.startswith(_SPDM_1_1_REQUEST)


def assemble_nvidia(data: bytes, pieces: Pieces) -> tuple[Any, int]:
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
