"""The claims of a verified instance, each with how it is known (design P8).

Being signed by the instance key makes a claim *asserted*: hardware holds the key, which proves nothing of the software that uses it. What a
TPM emulator holds is asserted too, since whoever runs the emulator can change it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from rlu_attestation.encoding import b64u
from rlu_attestation.instance import InstanceClaims, PostureValue
from rlu_attestation.models import FurtherModel, ModelSignature, Software
from rlu_attestation.policy import Policy, spell
from rlu_attestation.verdict import Claim, Source
from rlu_attestation.verifier.context import VerifiedInstance
from rlu_attestation.verifier.proof import LOWER_VMPL, HardwareProof, Place

SOFTWARE: Mapping[str, tuple[frozenset[str], ...]] = MappingProxyType(
    {
        "nitro": (frozenset({"pcr0"}), frozenset({"pcr1", "pcr2"})),
        "nitrotpm": (frozenset({"pcr4"}),),
        "sev-snp": (frozenset({"measurement"}),),
        "tdx": (frozenset({"mr_td", "rtmr1", "rtmr2"}),),
    }
)
"""Kind to the measurements of which a policy must name all of one set, so that it is known which software was started. The others say who
started it, where, or for what (HOST_DATA, MRCONFIGID, an instance's id …), which whoever starts other software can repeat."""
BOOT_PCR = 4
"""What a TPM's firmware started (TCG PC Client Platform Firmware Profile, section 3.3.4.5)."""


def claims_of(instance: VerifiedInstance, policy: Policy) -> tuple[Claim, ...]:
    """The claims, by the names of `catalogue.CLAIMS`."""
    claims, hardware = instance.claims, instance.hardware
    lock = "; ".join(f"{role}: {_posture(posture)}" for role, posture in sorted(claims.lock.items()))
    stated = software_source(hardware, policy)
    debug = Source.ASSERTED if hardware is None or hardware.debug is None else hardware.source
    return (
        *_hardware(hardware, claims),
        *_gpus(instance, stated),
        Claim("verified_boot", "on" if claims.oemboot else "off or unknown", stated),
        Claim("debug", debug_state(instance), debug),
        Claim("tls", _tls(claims), stated),
        Claim("model", "; ".join(map(_model, claims.models)), stated),
        Claim("engine", "; ".join(_software(one.engine, "arguments") for one in claims.models), stated),
        Claim("gateway", _software(claims.gateway, "image"), stated),
        Claim("hardware_profile", claims.hardware_profile, stated),
        Claim("lock", lock or "nothing stated", stated),
        Claim("log", _log(claims), stated),
        *_place(instance, stated),
    )


def debug_state(instance: VerifiedInstance) -> str:
    """RFC 9711 `dbgstat`: what the hardware proves, else what the statement says."""
    proved = None if instance.hardware is None else instance.hardware.debug
    if proved is None:
        return instance.claims.dbgstat
    if proved:
        return "enabled"
    # A statement that knows less than its own evidence says "enabled".
    stated = instance.claims.dbgstat
    return "disabled" if stated == "enabled" else stated


def software_source(hardware: HardwareProof | None, policy: Policy) -> Source:
    """How well that is known which only the software says.

    `measured` when a TEE measured that software and the policy names its measurements (`SOFTWARE`), for then it is known which software
    speaks. `asserted` otherwise: root on a machine with a TPM can say anything.
    """
    if hardware is None or hardware.emulated or not hardware.isolated or hardware.debug:
        return Source.ASSERTED
    if LOWER_VMPL in (hardware.hazards or {}):
        return Source.ASSERTED
    if hardware.pcrs is not None:
        covered = any(BOOT_PCR in values for values in (policy.pcrs or {}).values())
    else:
        covered = says_software(hardware.kind, policy.measurements.get(hardware.kind) or {})
    return Source.MEASURED if covered else Source.ASSERTED


def says_software(kind: str, named: Iterable[str]) -> bool:
    """Whether measurements of these names say which software was started."""
    return any(software <= set(named) for software in SOFTWARE.get(kind, ()))


def _hardware(proof: HardwareProof | None, claims: InstanceClaims) -> tuple[Claim, ...]:
    if proof is None:
        return (Claim("key", f"software key {claims.ueid}", Source.ASSERTED),)
    source = Source.ASSERTED if proof.emulated else proof.source
    tcb = () if proof.tcb is None else (Claim("tcb", str(proof.tcb), source),)
    return (Claim("key", f"key {claims.ueid} of {proof.what}", source), *proof.claims, *tcb)


def _gpus(instance: VerifiedInstance, stated: Source) -> tuple[Claim, ...]:
    """GPUs that answered are genuine; that they are this machine's is known only from the software that asked them."""
    gpus, proof = instance.claims.gpus, instance.gpus
    if gpus is None:
        return ()
    text = f"{gpus.count} × {gpus.name}, {gpus.memory_mib} MiB each, driver {gpus.driver}, VBIOS {gpus.vbios}"
    if proof is None:
        return (Claim("gpus", f"{text}, not attested", stated),)
    measured = (
        "attested" if all(gpu.measured for gpu in proof.gpus) else "attested, measurements not compared"
    )
    return (Claim("gpus", f"{text}, {measured}, {proof.switches} switches", stated),)


def _place(instance: VerifiedInstance, stated: Source) -> tuple[Claim, ...]:
    claims = instance.claims
    values = {"region": claims.region, "boundary": claims.boundary, "site": claims.site}
    place = Place() if instance.hardware is None else instance.hardware.place
    endorsed = {"region": place.region, "boundary": place.boundary, "site": place.site}
    return tuple(
        Claim(name, value, Source.ENDORSED if endorsed[name] == value else stated)
        for name, value in values.items()
    )


def _tls(claims: InstanceClaims) -> str:
    spki = claims.tls.spki_sha256
    return claims.tls.origin if spki is None else f"{claims.tls.origin}, key {b64u(spki)}"


def _model(model: FurtherModel) -> str:
    told = f"{model.name}, manifest {b64u(model.manifest)}"
    match model.signature:
        case None:
            return told
        case ModelSignature("verified", bytes(signer)):
            return f"{told}, signed by {b64u(signer)}"
        case ModelSignature("failed"):
            return f"{told}, NOT what was signed or not signed by who is trusted"
        case _:
            return f"{told}, NOT signed"


def _software(software: Software, digest: str) -> str:
    stated = "" if software.digest is None else f", {digest} {b64u(software.digest)}"
    return f"{software.name} {software.version}{stated}"


def _posture(posture: dict[str, PostureValue]) -> str:
    return ", ".join(f"{key}={spell(value)}" for key, value in sorted(posture.items()))


def _log(claims: InstanceClaims) -> str:
    predecessor = claims.predecessor
    after = "" if predecessor is None else f", after {predecessor.issuer}"
    return f"start {claims.start_count}{after}"
