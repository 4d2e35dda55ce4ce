"""The claims of a verified instance, each with how it is known (design P8).

Being signed by the instance key makes a claim *asserted*: hardware holds the key, which proves nothing of the software that uses it. What a
TPM emulator holds is asserted too, since whoever runs the emulator can change it.
"""

from __future__ import annotations

from rlu_attestation.encoding import b64u
from rlu_attestation.instance import InstanceClaims, PostureValue, Software
from rlu_attestation.policy import spell
from rlu_attestation.verdict import Claim, Source
from rlu_attestation.verifier.context import TpmProof, VerifiedInstance
from rlu_attestation.verifier.tpm import describe_pcrs, describe_vendor


def claims_of(instance: VerifiedInstance) -> tuple[Claim, ...]:
    """The claims, by the names of `catalogue.CLAIMS`."""
    claims = instance.claims
    lock = "; ".join(f"{role}: {_posture(posture)}" for role, posture in sorted(claims.lock.items()))
    return (
        *_hardware(instance.tpm, claims),
        Claim("verified_boot", "on" if claims.oemboot else "off or unknown", Source.ASSERTED),
        Claim("debug", claims.dbgstat, Source.ASSERTED),
        Claim("tls", _tls(claims), Source.ASSERTED),
        Claim("model", f"{claims.model_name}, manifest {b64u(claims.model_manifest)}", Source.ASSERTED),
        Claim("engine", _software(claims.engine, "arguments"), Source.ASSERTED),
        Claim("gateway", _software(claims.gateway, "image"), Source.ASSERTED),
        Claim("hardware_profile", claims.hardware_profile, Source.ASSERTED),
        Claim("lock", lock or "nothing stated", Source.ASSERTED),
        Claim("log", _log(claims), Source.ASSERTED),
        *_place(instance.tpm, claims),
    )


def _hardware(tpm: TpmProof | None, claims: InstanceClaims) -> tuple[Claim, ...]:
    if tpm is None:
        return (Claim("key", f"software key {claims.ueid}", Source.ASSERTED),)
    # Who runs an emulator reads its keys, writes its PCRs, and made its CA.
    proved = Source.ASSERTED if tpm.vendor.emulator else Source.HARDWARE
    kind = "key of an emulated TPM" if tpm.vendor.emulator else "TPM key"
    return (
        Claim("key", f"{kind} {claims.ueid}", proved),
        Claim(
            "tpm", describe_vendor(tpm.vendor), Source.ASSERTED if tpm.vendor.emulator else Source.ENDORSED
        ),
        Claim("pcrs", describe_pcrs(tpm.pcrs), proved),
    )


def _place(tpm: TpmProof | None, claims: InstanceClaims) -> tuple[Claim, ...]:
    stated = {"region": claims.region, "boundary": claims.boundary, "site": claims.site}
    endorsed: dict[str, str] = {}
    if tpm is not None:
        place = tpm.endorsement
        endorsed = {"region": place.region, "boundary": place.boundary, "site": place.site}
    return tuple(
        Claim(name, value, Source.ENDORSED if endorsed.get(name) == value else Source.ASSERTED)
        for name, value in stated.items()
    )


def _tls(claims: InstanceClaims) -> str:
    spki = claims.tls.spki_sha256
    return claims.tls.origin if spki is None else f"{claims.tls.origin}, key {b64u(spki)}"


def _software(software: Software, digest: str) -> str:
    stated = "" if software.digest is None else f", {digest} {b64u(software.digest)}"
    return f"{software.name} {software.version}{stated}"


def _posture(posture: dict[str, PostureValue]) -> str:
    return ", ".join(f"{key}={spell(value)}" for key, value in sorted(posture.items()))


def _log(claims: InstanceClaims) -> str:
    predecessor = claims.predecessor
    after = "" if predecessor is None else f", after {predecessor.issuer}"
    return f"start {claims.start_count}{after}"
