"""Step 13, the hardware: what its evidence proved, held against the policy. Every violation is found, with what was expected and found."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rlu_attestation.errors import Refused
from rlu_attestation.gpus import Gpus
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.policy import Accepted, Policy, TcbRule
from rlu_attestation.profiles import BUILT_IN, GpuDemand, Profile
from rlu_attestation.verdict import LEFT_OPEN
from rlu_attestation.verifier.context import VerifiedInstance
from rlu_attestation.verifier.proof import GpuProof, HardwareProof, Tcb
from rlu_attestation.verifier.sources import SOFTWARE as MEASURED_SOFTWARE
from rlu_attestation.verifier.sources import says_software
from rlu_attestation.verifier.trail import NotApplicable, Trail, Waived

SOFTWARE = "no hardware holds the key"


def appraise_hardware(trail: Trail, policy: Policy, proved: Callable[[], HardwareProof | None]) -> None:
    """Run the rules that need nothing but the hardware's proof. `proved` gives it, None for a software key, or raises as `need` does."""

    def proof() -> HardwareProof:
        found = proved()
        if found is None:
            raise NotApplicable(SOFTWARE)
        return found

    trail.check("policy.tpm", lambda: appraise_tpm(proof(), policy))
    trail.check("policy.tee", lambda: appraise_tee(proof(), policy), str)
    trail.check("policy.tcb", lambda: appraise_tcb(proof(), policy), str)
    trail.check("policy.measurements", lambda: appraise_measurements(proof(), policy), str)
    trail.check("policy.pcrs", lambda: appraise_pcrs(proof(), policy), str)


def appraise_tpm(proof: HardwareProof, policy: Policy) -> None:
    """Raises Refused: `policy.tpm.emulator`, unless the policy accepts it (`Waived`)."""
    if proof.kind != "tpm2":
        raise NotApplicable("no TPM of a vendor's: the sources of its claims say what this hardware is")
    if not proof.emulated:
        return
    if policy.unsafe_accept_emulated_tpm:
        raise Waived(
            "policy.tpm.emulator",
            "the TPM is an emulator, accepted by unsafe_accept_emulated_tpm: it proves the mechanism, not the machine",
        )
    raise Refused("policy.tpm.emulator", "the TPM is an emulator: whoever runs it can copy its keys")


def appraise_tee(proof: HardwareProof, policy: Policy) -> str:
    """Nobody looks into a TEE, and what weakens it is accepted by name.

    Raises:
        Refused: `policy.tee.hazard`.
    """
    if proof.hazards is None and proof.debug is None:
        raise NotApplicable("this hardware is no TEE")
    wrong = [f"{name}: {why}" for name, why in (proof.hazards or {}).items() if name not in policy.hazards]
    if wrong:
        raise Refused("policy.tee.hazard", "; ".join(wrong))
    accepted = sorted(set(proof.hazards or {}) & policy.hazards)
    return f"accepted by the policy: {', '.join(accepted)}" if accepted else ""


def appraise_tcb(proof: HardwareProof, policy: Policy) -> str:
    """The firmware under the TEE is new enough.

    Raises:
        Refused: `policy.tcb.unset`, `.mismatch`.
    """
    if proof.tcb is None:
        raise NotApplicable("this kind of evidence names no security versions")
    rule = policy.tcb.get(proof.tcb.kind)
    if rule is None:
        raise Refused("policy.tcb.unset", f"the policy leaves out tcb.{proof.tcb.kind}; found {proof.tcb}")
    wrong = [*_levels(proof.tcb, rule), *_status(proof.tcb, rule)]
    if wrong:
        raise Refused("policy.tcb.mismatch", "; ".join(wrong))
    return str(proof.tcb)


def _levels(tcb: Tcb, rule: TcbRule) -> Iterable[str]:
    if tcb.levels is None or rule.minimum is None:
        return
    minimum = rule.minimum.get(tcb.line)
    if minimum is None:
        yield f"the policy names no least versions for {tcb.line}; found {tcb}"
        return
    for name, least in minimum.items():
        found = tcb.levels.get(name)
        if found is None or found < least:
            yield f"{name} expected >= {least}; found {'nothing' if found is None else found}"


def _status(tcb: Tcb, rule: TcbRule) -> Iterable[str]:
    if tcb.status is None:
        return
    for status in (tcb.status, *(() if tcb.current is None else (tcb.current,))):
        if rule.statuses is not None and status not in rule.statuses:
            yield f"status expected {_either(rule.statuses)}; found {status}"
    unexpected = [] if rule.advisories is None else [a for a in tcb.advisories if a not in rule.advisories]
    if unexpected:
        yield f"advisories apply that the policy does not accept: {', '.join(unexpected)}"
    if tcb.evaluation is not None and tcb.evaluation < rule.evaluation:
        yield f"TCB evaluation expected >= {rule.evaluation}; found {tcb.evaluation}"


def appraise_measurements(proof: HardwareProof, policy: Policy) -> str:
    """What was launched is what the policy names.

    Raises:
        Refused: `policy.measurements.unset`, `.mismatch`.
    """
    if proof.measurements is None:
        raise NotApplicable("this evidence measures in PCRs only")
    step, expected = "policy.measurements", policy.measurements.get(proof.kind, {})
    if expected is None:
        return "any"
    if not expected:
        raise Refused(f"{step}.unset", f"the policy leaves out measurements.{proof.kind}")
    wrong = []
    for name, accepted in sorted(expected.items()):
        value = proof.measurements.get(name)
        if value not in accepted:
            found = "nothing" if value is None else value.hex()
            wrong.append(f"{name} expected {_either(item.hex() for item in accepted)}; found {found}")
    if wrong:
        raise Refused(f"{step}.mismatch", "; ".join(wrong))
    named = ", ".join(sorted(expected))
    return (
        named
        if proof.kind not in MEASURED_SOFTWARE or says_software(proof.kind, expected)
        else named + LEFT_OPEN
    )


def appraise_pcrs(proof: HardwareProof, policy: Policy) -> str:
    """Raises Refused: `policy.pcrs.unset`, `.mismatch`."""
    if proof.pcrs is None:
        raise NotApplicable("this evidence quotes no PCRs")
    if policy.pcrs is None:
        return "any"
    if not policy.pcrs:
        raise Refused("policy.pcrs.unset", "the policy names no PCR values")
    wrong: list[str] = []
    for bank, expected in sorted(policy.pcrs.items()):
        quoted = proof.pcrs.get(bank, {})
        for number, accepted in sorted(expected.items()):
            value = quoted.get(number)
            if value not in accepted:
                found = "it was not quoted" if value is None else value.hex()
                wrong.append(f"{bank}:{number} expected {_either(v.hex() for v in accepted)}; found {found}")
    if wrong:
        raise Refused("policy.pcrs.mismatch", "; ".join(wrong))
    return ", ".join(
        f"{bank} {', '.join(map(str, sorted(values)))}" for bank, values in sorted(policy.pcrs.items())
    )


def appraise_profile(instance: VerifiedInstance, policy: Policy) -> str:
    """The evidence and the GPUs are those that the stated profile promises; says what stays unattested on it.

    Raises:
        Refused: `policy.profile.unknown`, `.key`, `.gpus`.
    """
    step, name = "policy.profile", instance.claims.hardware_profile
    profile = policy.profiles.get(name) or BUILT_IN.get(name)
    if profile is None:
        raise Refused(
            f"{step}.unknown", f"no profile is called {name}: describe it under [profiles] in the policy"
        )
    key = instance.claims.key_hardware
    if key not in profile.keys:
        raise Refused(f"{step}.key", f"expected a key held by {_either(profile.keys)}; found {key}")
    wrong = list(_gpus_of(profile, instance.claims.gpus))
    if wrong:
        raise Refused(f"{step}.gpus", "; ".join(wrong))
    return f"unattested: {'; '.join(profile.unattested)}" if profile.unattested else ""


def _gpus_of(profile: Profile, gpus: Gpus | None) -> Iterable[str]:
    demand = profile.gpus
    if demand is None or gpus is None:
        if demand is not None:
            yield f"expected {demand.count} GPUs; the statement names none"
        if gpus is not None:
            yield f"expected no GPU; found {gpus.count}"
        return
    yield from _differences(demand, gpus)


def _differences(demand: GpuDemand, gpus: Gpus) -> Iterable[str]:
    if gpus.count != demand.count:
        yield f"expected {demand.count} GPUs; found {gpus.count}"
    if not any(gpus.name == name or gpus.name.startswith((f"{name} ", f"{name}-")) for name in demand.names):
        yield f"expected {_either(demand.names)}; found {gpus.name}"
    if gpus.total_mib < demand.memory_mib:
        yield f"expected {demand.memory_mib} MiB of memory together; found {gpus.total_mib}"


def appraise_gpus(claims: InstanceClaims, proof: GpuProof | None, policy: Policy) -> str:
    """The GPUs are those that the policy accepts.

    Raises:
        Refused: `policy.gpu.unset`, `.mismatch`.
    """
    gpus, rule = claims.gpus, policy.gpus
    if gpus is None:
        if rule is not None and rule.count:
            raise Refused("policy.gpu.mismatch", f"expected {rule.count} GPUs; the statement names none")
        raise NotApplicable("no GPU serves the model, says the statement")
    if rule is None:
        raise Refused("policy.gpu.unset", f"the policy leaves out gpu; found {gpus.count} × {gpus.name}")
    wrong = []
    if rule.count is not None and gpus.count != rule.count:
        wrong.append(f"count expected {rule.count}; found {gpus.count}")
    if gpus.memory_mib < rule.memory_mib:
        wrong.append(f"memory expected >= {rule.memory_mib} MiB; found {gpus.memory_mib}")
    listed: tuple[tuple[str, Accepted, str], ...] = (
        ("name", rule.names, gpus.name),
        ("driver", rule.drivers, gpus.driver),
        ("vbios", rule.vbios, gpus.vbios),
        ("mode", rule.modes, gpus.mode or "none"),
    )
    wrong += [
        f"{name} expected {_either(accepted)}; found {found}"
        for name, accepted, found in listed
        if accepted is not None and found not in accepted
    ]
    if wrong:
        raise Refused("policy.gpu.mismatch", "; ".join(wrong))
    known = "as their reports say" if proof is not None else "as the server says"
    return f"{gpus.count} × {gpus.name}, driver {gpus.driver}, VBIOS {gpus.vbios}, {known}"


def appraise_gpu_reports(proof: GpuProof, policy: Policy) -> str:
    """Reports that stand alone: the policy accepts as many GPUs, and their versions.

    A report tells the chip, but neither product, memory nor mode, which the driver tells an instance: rules about them refuse.

    Raises:
        Refused: `policy.gpu.unset`, `.mismatch`.
    """
    rule = policy.gpus
    if not proof.gpus:
        raise NotApplicable("these are reports of switches")
    if rule is None:
        raise Refused("policy.gpu.unset", f"the policy leaves out gpu; found {', '.join(proof.describe())}")
    wrong = []
    if rule.count is not None and len(proof.gpus) != rule.count:
        wrong.append(f"count expected {rule.count}; found {len(proof.gpus)}")
    for number, gpu in enumerate(proof.gpus):
        wrong += [
            f"gpu {number}: {name} expected {_either(accepted)}; found {found}"
            for name, accepted, found in (
                ("driver", rule.drivers, gpu.driver),
                ("vbios", rule.vbios, gpu.vbios),
            )
            if accepted is not None and found not in accepted
        ]
    untold = {
        "names": rule.names is not None,
        "memory_mib": rule.memory_mib > 0,
        "modes": rule.modes is not None,
    }
    wrong += [f"{name}: a report alone does not tell it" for name, wanted in untold.items() if wanted]
    if wrong:
        raise Refused("policy.gpu.mismatch", "; ".join(wrong))
    return ", ".join(proof.describe())


def _either(values: Iterable[str]) -> str:
    return " or ".join(sorted(values)) or "nothing"
