"""The rules of a draft: one function a table of the policy, each value with what it is and how it is known.

Nothing that weakens a policy is written in force: settings called `unsafe_…`, hazards of a TEE, debugging of a TEE and waivers appear as
comments, for a person to decide. `"any"` is written only where the evidence names nothing that a list could hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rlu_attestation.encoding import b64u
from rlu_attestation.gpus import Gpus
from rlu_attestation.instance import POSTURE_ROLES, InstanceClaims, PostureValue
from rlu_attestation.models import Software
from rlu_attestation.policy_draft.observation import Observation
from rlu_attestation.policy_draft.toml import Writer, array, key, text, value_of
from rlu_attestation.policy_hardware import TDX_STATUSES
from rlu_attestation.profiles import BUILT_IN
from rlu_attestation.verdict import Claim, Source, Step
from rlu_attestation.verifier.proof import HardwareProof, Place

SAID = "the server says so"
ANY = text("any")
_LEAST = frozenset({"landlock_abi"})
"""Posture keys of which more is better."""


def trust(out: Writer, observation: Observation | None, files: Mapping[str, tuple[str, ...]]) -> None:
    """`files`: rule of `[trust]`, or `roots.<kind>`, to names of certificate files."""
    out.table("trust")
    for rule, names in files.items():
        if not rule.startswith("roots."):
            out.rule(rule, array(names), "Named by who wrote this draft.")
    roots = {rule.partition(".")[2]: names for rule, names in files.items() if rule.startswith("roots.")}
    if roots:
        inner = ", ".join(f"{key(kind)} = {array(names)}" for kind, names in sorted(roots.items()))
        out.rule("roots", f"{{ {inner} }}", "Further roots, named by who wrote this draft.")
    if observation is not None:
        _weaknesses(out, observation, named="ek_roots" in files)


def _weaknesses(out: Writer, observation: Observation, *, named: bool) -> None:
    hardware, statement = observation.hardware, observation.statement
    if hardware is not None and hardware.kind == "tpm2" and not named:
        out.suggested(
            ['ek_roots = ["tpm-vendor.pem"]', 'registrars = ["registrar.pem"]'],
            "REVIEW: name the CA of the TPM's vendor, and your registrar.",
        )
    if hardware is not None and hardware.emulated:
        out.suggested(
            ["unsafe_accept_emulated_tpm = true"],
            "REVIEW: this TPM is an emulator, which this policy refuses. Accepted, the verdict says waived and never verified.",
        )
    if statement is not None and not statement.oemboot:
        out.suggested(
            ["unsafe_accept_unverified_boot = true"],
            "REVIEW: the attestor could not tell that verified boot is on, which this policy refuses.",
        )


def times(out: Writer) -> None:
    out.table("time")
    out.comment("Not from the evidence: the defaults.")
    for name, seconds in (
        ("max_statement_age_s", 3600),
        ("max_evidence_age_s", 3600),
        ("max_session_age_s", 86400),
        ("max_key_age_s", 100 * 86400),
        ("clock_skew_s", 60),
    ):
        out.rule(name, str(seconds))


def signers(out: Writer, statement: InstanceClaims) -> None:
    """Who signed the models; nothing where one was not verified, because a rule would refuse it."""
    found = [None if one.signature is None else one.signature.signer for one in statement.models]
    if None in found:
        return
    ids = dict.fromkeys(b64u(one) for one in found if one is not None)
    out.table("model")
    out.rule("signers", array(list(ids)), f"Who signed the models; {SAID}. Compare with your vendor's key.")


def accept(out: Writer, statement: InstanceClaims, proof: HardwareProof | None) -> None:
    place = Place() if proof is None else proof.place
    models = statement.models
    named = " and ".join(one.name for one in models)
    said: tuple[tuple[str, list[str], str, str], ...] = (
        ("hardware_profiles", [statement.hardware_profile], "The hardware profile", SAID),
        ("regions", [statement.region], "The region", _by(place.region, place)),
        ("boundaries", [statement.boundary], "The boundary", _by(place.boundary, place)),
        ("sites", [statement.site], "The site", _by(place.site, place)),
        (
            "models",
            [b64u(one.manifest) for one in models],
            f"Digest of the manifest of the model {named}: compare it with your own",
            SAID,
        ),
        ("engines", [_version(one.engine) for one in models], "The engine's name and version", SAID),
        (
            "engine_arguments",
            [_digest(one.engine) for one in models],
            "Digest of the engine's arguments",
            SAID,
        ),
        ("gateways", [_version(statement.gateway)], "The gateway's name and version", SAID),
        ("gateway_images", [_digest(statement.gateway)], "Digest of the gateway's image", SAID),
    )
    out.table("accept")
    for rule, values, words, known in said:
        if all(values):
            out.rule(rule, array(list(dict.fromkeys(values))), f"{words}; {known}.")
        else:
            out.rule(rule, ANY, f"{words}. REVIEW: the statement names none.")
    _debug(out, statement.dbgstat, proof)


def debug_alone(out: Writer, proof: HardwareProof) -> None:
    """The debug state of evidence that stands alone."""
    if proof.debug is not None:
        out.table("accept")
        _debug(out, "enabled" if proof.debug else "disabled", proof)


def channel(out: Writer, statement: InstanceClaims) -> None:
    words = f"Where the TLS key was born; {SAID}."
    if statement.tls.origin != "gateway-memory":
        words += " REVIEW: whoever provided it can read the connection."
    out.table("channel")
    out.rule("origins", array([statement.tls.origin]), words)


def lock(out: Writer, statement: InstanceClaims) -> None:
    for role in POSTURE_ROLES:
        posture = statement.lock.get(role)
        if not posture:
            out.table("lock")
            out.suggested(
                [f"{role} = {ANY}"],
                f"REVIEW: the statement has no posture of the {role}, which this policy refuses.",
            )
            return
    for role in POSTURE_ROLES:
        out.table("lock", role)
        out.comment(f"What the {role} measured of its own lock; {SAID}.")
        for name, value in sorted(statement.lock[role].items()):
            out.rule(name, _bound(name, value))


def tcb(out: Writer, proof: HardwareProof) -> None:
    found = proof.tcb
    if found is None:
        return
    if found.levels is not None:
        out.table("tcb", found.kind, found.line)
        out.comment(
            "The least security versions: those that the evidence names. Older firmware is refused, newer accepted."
        )
        for name, level in found.levels.items():
            out.rule(name, str(level))
        return
    out.table("tcb", found.kind)
    if found.status not in TDX_STATUSES:
        words = "REVIEW: the TCB could not be evaluated, so this policy accepts none. Fetch the collateral, and write the draft again."
        out.suggested(['statuses = ["UpToDate"]'], words)
        return
    statuses = sorted({found.status, *([found.current] if found.current is not None else [])})
    words = (
        "Intel's word on the TCB"
        if statuses == ["UpToDate"]
        else "REVIEW: Intel's word on the TCB is not UpToDate"
    )
    out.rule("statuses", array(statuses), f"{words}.")
    out.rule("advisories", array(found.advisories), "Advisories that apply.")
    if found.evaluation is not None:
        out.rule("evaluation", str(found.evaluation), "The least TCB evaluation data number.")


def tee(out: Writer, proof: HardwareProof) -> None:
    if proof.hazards:
        out.table("tee")
        for name, why in proof.hazards.items():
            out.suggested([f"accept = {array([name])}"], f"REVIEW: {why}. This policy refuses it.")


def gpu(out: Writer, gpus: Gpus, attested: bool) -> None:
    known = "As their reports say" if attested else f"Nothing attests it: {SAID}"
    out.table("gpu")
    out.rule("count", str(gpus.count), f"{known}.")
    out.rule("memory_mib", str(gpus.memory_mib), f"The least memory of one, in MiB; {SAID}.")
    out.rule("names", array([gpus.name]), f"The vendor's name; {SAID}.")
    out.rule("drivers", array([gpus.driver]), f"{known}.")
    out.rule("vbios", array([gpus.vbios]), f"{known}.")
    out.rule("modes", array([gpus.mode or "none"]), f"Mode of confidential computing; {SAID}.")


def profile(out: Writer, statement: InstanceClaims) -> None:
    if statement.hardware_profile in BUILT_IN:
        return
    gpus = statement.gpus
    out.table("profiles", statement.hardware_profile)
    out.rule(
        "keys",
        array([statement.key_hardware]),
        "REVIEW: this profile is not built in. What may speak for the key:",
    )
    if gpus is not None:
        out.rule(
            "gpus",
            f"{{ count = {gpus.count}, names = {array([gpus.name])}, memory_mib = {gpus.total_mib} }}",
            "The GPUs, with all their memory together.",
        )


def sources(out: Writer, claims: tuple[Claim, ...]) -> None:
    """How each claim is known now is the least that will do."""
    out.table("minimum_source")
    out.rule(
        "default",
        text(Source.ASSERTED.value),
        "Claims that only the server makes are accepted: REVIEW which ones these are.",
    )
    for claim in claims:
        if claim.source is not Source.ASSERTED:
            out.rule(claim.name, text(claim.source.value))


def waivers(out: Writer, steps: Iterable[Step]) -> None:
    """Checks that could not be made, and that no rule of the draft makes possible."""
    for step in steps:
        out.blank()
        out.suggested(
            ["[[waive]]", f"step = {text(step.id)}", 'reason = "…"'],
            f"REVIEW: {step.code}: {step.detail.partition('; waived by the policy')[0]}. A waiver here makes the verdict "
            "'verified except for waivers'; better is evidence that holds it.",
        )


def _by(endorsed: str | None, place: Place) -> str:
    return SAID if endorsed is None else f"endorsed by {place.by}"


def _version(software: Software) -> str:
    return f"{software.name}/{software.version}"


def _digest(software: Software) -> str:
    return "" if software.digest is None else b64u(software.digest)


def _debug(out: Writer, state: str, proof: HardwareProof | None) -> None:
    rule = f"debug_states = {array([state])}"
    if proof is not None and proof.debug:
        out.suggested(
            [rule], "REVIEW: debugging of this TEE is on: its host reads its memory. This policy refuses it."
        )
        return
    known = "in the evidence" if proof is not None and proof.debug is not None else SAID
    out.rule("debug_states", array([state]), f"Whether others can look into the running system; {known}.")


def _bound(name: str, value: PostureValue) -> str:
    least = name in _LEAST and isinstance(value, int) and not isinstance(value, bool)
    return f"{{ at_least = {value} }}" if least else value_of(value)
