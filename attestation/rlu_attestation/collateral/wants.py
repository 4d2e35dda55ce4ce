"""What evidence needs from elsewhere, by its kind. The evidence's own certificates are verified first: nobody is asked about a forgery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from rlu_attestation import bundle as bundles
from rlu_attestation.collateral import amd, intel, lists, nvidia
from rlu_attestation.collateral.want import Services, Want
from rlu_attestation.errors import RluError, Unsupported
from rlu_attestation.evidence import gcp_vtpm, kind_of, sev_snp, tdx, tpm2
from rlu_attestation.evidence import nitro as nitro_evidence
from rlu_attestation.evidence import nvidia as nvidia_evidence
from rlu_attestation.evidence.sev_snp import REPORT_SIZE, product_of_name
from rlu_attestation.evidence.tpm2 import Tpm2Evidence
from rlu_attestation.names import common_name
from rlu_attestation.policy import Policy
from rlu_attestation.verifier.kinds import azure_vtpm as azure_room
from rlu_attestation.x509 import Certificate


@dataclass(frozen=True, slots=True)
class Settings:
    """What wants are made by: roots and ages of the policy, the time, and where to ask."""

    policy: Policy
    at: int
    services: Services

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.at, timezone.utc)

    def roots(self, kind: str) -> tuple[Certificate, ...]:
        return self.policy.roots.get(kind, ())


def of_file(data: bytes, settings: Settings) -> tuple[Want, ...]:
    """What a bundle, an evidence item, or a bare report of SEV-SNP or TDX needs.

    Raises:
        Unsupported: `collateral.kind`.
        RluError: it cannot be read, or its certificates do not verify.
    """
    if len(data) == REPORT_SIZE and data[:1] != b"{":
        report = sev_snp.parse_report(data)
        wants = amd.of_report(report, _snp_roots(settings), settings.moment, settings.services)
        return _for("sev-snp", wants)
    if tdx.is_quote(data):
        return _for("tdx", _tdx(tdx.from_parts(tdx.trim(data)), settings))
    kind = _item_kind(data)
    if kind is not None:
        return of_item(kind, data, settings)
    found: list[Want] = []
    for item in bundles.parse(data).evidence:
        found += of_item(item.kind, item.data, settings)
    return tuple(found)


def of_item(kind: str, data: bytes, settings: Settings) -> tuple[Want, ...]:
    """What one evidence item needs. Raises what `of_file` raises."""
    return _for(kind, _of_item(kind, data, settings))


def _for(kind: str, wants: Sequence[Want]) -> tuple[Want, ...]:
    return tuple(replace(want, evidence=kind) for want in wants)


def _of_item(kind: str, data: bytes, settings: Settings) -> tuple[Want, ...]:
    at, services = settings.moment, settings.services
    match kind:
        case "sev-snp":
            return amd.of_evidence(sev_snp.parse(data), _snp_roots(settings), at, services)
        case "tdx":
            return _tdx(tdx.parse(data), settings)
        case "nitro" | "nitrotpm":
            return _nitro(nitro_evidence.parse(data), settings)
        case "nvidia":
            age = timedelta(seconds=settings.policy.max_revocation_age_s)
            evidence = nvidia_evidence.parse(data)
            return nvidia.of_evidence(evidence, _nvidia_roots(settings), at, age, services)
        case "gcp-vtpm":
            return _google(gcp_vtpm.parse(data), settings)
        case "azure-vtpm":
            held = azure_room.hardware_of(azure_room.parse(data)).evidence
            if isinstance(held, tdx.TdxEvidence):
                return _tdx(held, settings)
            return amd.of_evidence(held, _snp_roots(settings), at, services)
        case "tpm2":
            return _tpm(tpm2.parse(data), at)
        case "none":
            return ()
    raise Unsupported(
        "collateral.kind", f"nothing is known here that is published about evidence of kind {kind}"
    )


def _tdx(evidence: tdx.TdxEvidence, settings: Settings) -> tuple[Want, ...]:
    roots = (*tdx.PINNED, *map(tdx.Root.of, settings.roots("tdx")))
    return intel.of_evidence(evidence, roots, settings.moment, settings.services)


def _nitro(evidence: nitro_evidence.NitroEvidence, settings: Settings) -> tuple[Want, ...]:
    """Documents bring their chain, so only the lists that it names are left."""
    roots = (*nitro_evidence.PINNED, *map(nitro_evidence.Root.of, settings.roots(evidence.kind.value)))
    nitro_evidence.verify_root(evidence, roots)
    return lists.want_lists(nitro_evidence.verify_chain(evidence, settings.moment), settings.moment)


def _google(evidence: gcp_vtpm.GcpVtpmEvidence, settings: Settings) -> tuple[Want, ...]:
    gcp_vtpm.verify_root(evidence, (*gcp_vtpm.PINNED, *map(gcp_vtpm.Root.of, settings.roots("gcp-vtpm"))))
    return lists.want_lists(gcp_vtpm.verify_chain(evidence, settings.moment), settings.moment)


def _tpm(evidence: Tpm2Evidence, at: datetime) -> tuple[Want, ...]:
    path = _path(evidence.ek_certificate, evidence.ek_chain)
    return (*lists.want_lists(path, at), *lists.want_issuer(path[-1], at))


def _path(leaf: Certificate, others: Sequence[Certificate]) -> tuple[Certificate, ...]:
    """The leaf, and what issued it by name, as far as it is here; signatures are looked at when the policy's roots are known."""
    path = [leaf]
    while path[-1].issuer != path[-1].subject:
        issuer = next((one for one in others if one.subject == path[-1].issuer and one not in path), None)
        if issuer is None:
            break
        path.append(issuer)
    return tuple(path)


def _snp_roots(settings: Settings) -> tuple[sev_snp.Root, ...]:
    added = ((common_name(one.subject, "sev-snp.root.name"), one) for one in settings.roots("sev-snp"))
    lines = (sev_snp.Root.of(one, product_of_name(name.rpartition("-")[2])) for name, one in added)
    return (*sev_snp.PINNED, *lines)


def _nvidia_roots(settings: Settings) -> nvidia_evidence.Roots:
    pinned = nvidia_evidence.PINNED
    devices = tuple(nvidia_evidence.Root.of(one, "of the policy") for one in settings.roots("nvidia"))
    rims = tuple(nvidia_evidence.Root.of(one, "of the policy") for one in settings.roots("nvidia-rim"))
    return nvidia_evidence.Roots(pinned.gpu + devices, pinned.switch + devices, pinned.rim + rims)


def _item_kind(data: bytes) -> str | None:
    try:
        return kind_of(data)
    except RluError:
        return None
