"""A TPM 2.0 whose AK a registrar checked: the key is in that TPM, and works only in the platform state that was quoted."""

from __future__ import annotations

from collections.abc import Sequence

from rlu_attestation import crl
from rlu_attestation.crl import CertificateList
from rlu_attestation.evidence import tpm2
from rlu_attestation.evidence.tpm2 import Tpm2Evidence, TpmVendor
from rlu_attestation.verdict import Claim, Source
from rlu_attestation.verifier.context import Subject
from rlu_attestation.verifier.kinds.tpm import check_tpm, describe_pcrs
from rlu_attestation.verifier.proof import Conditions, HardwareProof, Place
from rlu_attestation.verifier.trail import Failed, NotApplicable, Trail, absent_is_not_made, blocking, need
from rlu_attestation.x509 import Certificate

parse = tpm2.parse


def check(
    trail: Trail, conditions: Conditions, subject: Subject, held: Tpm2Evidence | Failed
) -> HardwareProof | Failed:
    """Run the steps; gives a `Failed` unless every one passed or was waived."""
    at, policy, run = conditions.moment, conditions.policy, trail.check
    chain = run("ek.chain", lambda: tpm2.verify_ek_chain(need(held), policy.ek_roots, at))
    revoked = run(
        "ek.revocation",
        lambda: absent_is_not_made(lambda: verify_not_revoked(need(chain), conditions)),
        lambda lists: f"{len(lists)} lists",
    )
    vendor = run("ek.vendor", lambda: tpm2.ek_vendor(need(held)), describe_vendor)
    place = run("ak.certificate", lambda: tpm2.verify_ak_certificate(need(held), policy.registrars, at))
    quoted = check_tpm(trail, subject, held)
    failed = blocking((chain, revoked, vendor, place, *quoted.results))
    if failed is not None:
        return failed
    endorsed = need(place)
    # Who runs an emulator reads its keys, writes its PCRs, and made its CA.
    emulated, pcrs = need(vendor).emulator, need(quoted.pcrs)
    return HardwareProof(
        kind=tpm2.KIND,
        what="emulated TPM" if emulated else "TPM",
        claims=(
            Claim("tpm", describe_vendor(need(vendor)), Source.ASSERTED if emulated else Source.ENDORSED),
            Claim("pcrs", describe_pcrs(pcrs), Source.ASSERTED if emulated else Source.HARDWARE),
        ),
        pcrs=pcrs,
        place=Place(endorsed.region, endorsed.boundary, endorsed.site, "the registrar"),
        emulated=emulated,
    )


def verify_not_revoked(path: Sequence[Certificate], conditions: Conditions) -> tuple[CertificateList, ...]:
    """The TPM's vendor revoked no certificate of the path, where it publishes lists.

    Raises:
        RluError: `ek.revocation.` and a cause of `crl.verify_not_revoked`.
    """
    lists = crl.verify_path_not_revoked(path, conditions.crls(), conditions.moment, "ek.revocation")
    if not lists:
        raise NotApplicable("no certificate of the chain names a revocation list")
    return lists


def describe_vendor(vendor: TpmVendor) -> str:
    """The TPM in words."""
    parts = (vendor.vendor or vendor.manufacturer or "unknown vendor", vendor.model, vendor.version)
    named = " ".join(part for part in parts if part)
    return f"{named}, an emulator" if vendor.emulator else named
