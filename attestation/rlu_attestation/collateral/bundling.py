"""One file that verifies offline, years later: evidence, what endorses it, the roots it ended in, and the policy. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timezone

from rlu_attestation.bundle import COLLATERAL, MAX_COLLATERAL, Bundle, BundledPolicy, Collateral
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.evidence import gcp_vtpm, nitro, nvidia, sev_snp, tdx, tpm2
from rlu_attestation.policy import Policy
from rlu_attestation.verifier.kinds import azure_vtpm as azure_room
from rlu_attestation.x509 import Certificate


def complete(
    bundle: Bundle,
    pieces: Iterable[tuple[str, bytes]],
    policy: Policy,
    parts: BundledPolicy,
    at: int,
) -> Bundle:
    """The bundle with pieces, policy and fingerprints of roots added; what it holds already is not added twice.

    Args:
        pieces: kind and content; certificates, which are no collateral, are passed over.
        at: when the verification took place that the fingerprints are of, in seconds since the epoch.

    Raises:
        Malformed: `bundle.encoding`: more pieces than a bundle may hold.
    """
    added = (Collateral(kind, data) for kind, data in pieces if kind in COLLATERAL)
    every = tuple(dict.fromkeys((*bundle.collateral, *added)))
    if len(every) > MAX_COLLATERAL:
        raise Malformed("bundle.encoding", f"a bundle holds at most {MAX_COLLATERAL} pieces of collateral")
    return replace(bundle, collateral=every, roots=roots_of(bundle, every, policy, at), policy=parts)


def roots_of(bundle: Bundle, collateral: Iterable[Collateral], policy: Policy, at: int) -> tuple[bytes, ...]:
    """SHA-256 of the root certificates that a verification of this evidence ends in, for readers to look up; in the order found."""
    moment = datetime.fromtimestamp(at, timezone.utc)
    found: list[Certificate] = []
    for item in bundle.evidence:
        try:
            found += _ends(item.kind, item.data, policy, moment)
        except RluError:
            continue  # the verification says what is wrong with it
    for piece in collateral:
        if piece.kind == "nvidia-rim":
            found.append(nvidia.parse_rim(piece.data).certificates[-1])
    return tuple(dict.fromkeys(one.fingerprint for one in found))


def _ends(kind: str, data: bytes, policy: Policy, at: datetime) -> list[Certificate]:
    match kind:
        case "sev-snp":
            return [sev_snp.parse(data).ark]
        case "tdx":
            return [tdx.parse(data).quote.root]
        case "nitro" | "nitrotpm":
            return [nitro.parse(data).document.cabundle[0]]
        case "nvidia":
            node = nvidia.parse(data)
            return [
                *(device.chain[-1] for device in node.devices),
                *(rim.certificates[-1] for rim in node.rims),
            ]
        case "gcp-vtpm":
            return [gcp_vtpm.parse(data).root_certificate]
        case "azure-vtpm":
            held = azure_room.hardware_of(azure_room.parse(data)).evidence
            return [held.quote.root if isinstance(held, tdx.TdxEvidence) else held.ark]
        case "tpm2":
            evidence = tpm2.parse(data)
            registrars = [one for one in policy.registrars if one.subject == evidence.ak_certificate.issuer]
            return [tpm2.verify_ek_chain(evidence, policy.ek_roots, at)[-1], *registrars]
    return []
