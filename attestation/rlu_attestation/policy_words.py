"""A policy in words: what each rule accepts, for people, with a warning where it accepts what nobody looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rlu_attestation.catalogue import COVERAGE
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_attestation.instance import POSTURE_ROLES
from rlu_attestation.names import common_name
from rlu_attestation.policy import ACCEPT, Accepted, Policy, TcbRule
from rlu_attestation.x509 import Certificate

NOTHING = "nothing: the rule is left out, so it refuses"
ANY = "anything, unseen"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        name: its key in the file.
        accepts: what it accepts, in words.
        warning: why that deserves a second look, or empty.
    """

    name: str
    accepts: str
    warning: str = ""

    def to_json(self) -> dict[str, str]:
        value = {"rule": self.name, "accepts": self.accepts}
        return {**value, "warning": self.warning} if self.warning else value


def describe(policy: Policy) -> tuple[Rule, ...]:
    """Every rule, in the order of `policy.example.toml`."""
    return (
        Rule("require", ", ".join(name for name in COVERAGE if name in policy.require)),
        *_pcrs(policy),
        *_measurements(policy),
        *(_tcb(kind, rule) for kind, rule in sorted(policy.tcb.items())),
        *_tee(policy),
        *_gpu(policy),
        *_profiles(policy),
        *_trust(policy),
        *_times(policy),
        *(_listed(f"accept.{rule}", policy.accept.get(rule, frozenset())) for rule in ACCEPT),
        _listed("channel.origins", policy.channel_origins),
        *_terminators(policy),
        *(_lock(policy, role) for role in POSTURE_ROLES),
        *_model_signers(policy),
        *_canary(policy),
        *_sources(policy),
        *(
            Rule(
                f"waive {step}",
                f"that it is not checked: {reason}",
                "the verdict says waived, never verified",
            )
            for step, reason in sorted(policy.waivers.items())
        ),
    )


def _listed(name: str, values: Accepted) -> Rule:
    if values is None:
        return Rule(name, ANY, '"any" accepts whatever is stated')
    return Rule(name, " or ".join(sorted(values)) or NOTHING)


def _pcrs(policy: Policy) -> Iterable[Rule]:
    if policy.pcrs is None:
        yield Rule("pcrs", ANY, '"any" accepts every platform state: whatever booted')
    elif not policy.pcrs:
        yield Rule("pcrs", NOTHING)
    for bank, values in sorted((policy.pcrs or {}).items()):
        yield Rule(f"pcrs.{bank}", _counted({str(number): found for number, found in sorted(values.items())}))


def _measurements(policy: Policy) -> Iterable[Rule]:
    for kind, values in sorted(policy.measurements.items()):
        if values is None:
            yield Rule(f"measurements.{kind}", ANY, '"any" accepts whatever was launched')
        else:
            yield Rule(f"measurements.{kind}", _counted(values))


def _counted(values: Mapping[str, frozenset[bytes]]) -> str:
    return "; ".join(f"{name}: {_count(len(found), 'value')}" for name, found in values.items())


def _tcb(kind: str, rule: TcbRule) -> Rule:
    name = f"tcb.{kind}"
    if rule == TcbRule(minimum=None, statuses=None, advisories=None):
        return Rule(name, ANY, '"any" accepts firmware with known holes')
    if rule.minimum:
        return Rule(
            name, "; ".join(f"{line}: {_least(levels)}" for line, levels in sorted(rule.minimum.items()))
        )
    if rule.statuses is not None and not rule.statuses:
        return Rule(name, NOTHING)
    parts = [
        f"status {_either(rule.statuses)}",
        f"advisories {_either(rule.advisories, 'none')}",
        f"evaluation >= {rule.evaluation}",
    ]
    unseen = [
        part
        for part, found in (("statuses", rule.statuses), ("advisories", rule.advisories))
        if found is None
    ]
    return Rule(name, ", ".join(parts), f'"any" in {" and ".join(unseen)}' if unseen else "")


def _least(levels: Mapping[str, int]) -> str:
    return ", ".join(f"{name} >= {level}" for name, level in levels.items())


def _tee(policy: Policy) -> Iterable[Rule]:
    if policy.hazards:
        yield Rule("tee.accept", ", ".join(sorted(policy.hazards)), "each of these weakens the TEE")


def _gpu(policy: Policy) -> Iterable[Rule]:
    rule = policy.gpus
    if rule is None:
        yield Rule("gpu", "no GPU")
        return
    names = {"names": rule.names, "drivers": rule.drivers, "vbios": rule.vbios, "modes": rule.modes}
    parts = [
        "any number" if rule.count is None else _count(rule.count, "GPU"),
        f"of {rule.memory_mib} MiB or more",
        *(f"{name} {_either(values, NOTHING)}" for name, values in names.items()),
    ]
    unseen = [name for name, values in names.items() if values is None]
    if rule.count is None:
        unseen.insert(0, "count")
    yield Rule("gpu", ", ".join(parts), f"accepted unseen: {', '.join(unseen)}" if unseen else "")


def _profiles(policy: Policy) -> Iterable[Rule]:
    for name, profile in sorted(policy.profiles.items()):
        gpus = "no GPU"
        if profile.gpus is not None:
            demand = profile.gpus
            gpus = f"{_count(demand.count, 'GPU')} ({_either(frozenset(demand.names))}), {demand.memory_mib} MiB together"
        yield Rule(f"profiles.{name}", f"key held by {_either(frozenset(profile.keys))}, {gpus}")


def _trust(policy: Policy) -> Iterable[Rule]:
    yield Rule("trust.ek_roots", _certificates(policy.ek_roots))
    yield Rule("trust.registrars", _certificates(policy.registrars))
    for kind, roots in sorted(policy.roots.items()):
        yield Rule(
            f"trust.roots.{kind}",
            f"the vendor's own, and {_certificates(roots)}",
            "who holds such a root can make this evidence",
        )
    yield Rule(
        "trust.revoked_keys",
        f"no key of these: {', '.join(sorted(policy.revoked_keys)) or 'none is revoked'}",
    )
    for ueid, entry in sorted(policy.revocations.items()):
        until = "nothing" if entry.last_good is None else f"up to {entry.last_good.tree_size} log entries"
        yield Rule(f"trust.revocations {ueid}", f"{until} of this key ({entry.reason})")
    yield Rule(
        "trust.witnesses",
        "; ".join(witness.text for witness in policy.witnesses) or "none: no cosignature counts",
    )
    for name, on in (
        ("unsafe_accept_emulated_tpm", policy.unsafe_accept_emulated_tpm),
        ("unsafe_accept_unverified_boot", policy.unsafe_accept_unverified_boot),
    ):
        if on:
            yield Rule(
                f"trust.{name}", "what this check finds wanting", "the verdict says waived, never verified"
            )


def _certificates(found: tuple[Certificate, ...]) -> str:
    return (
        "; ".join(
            f"{_name(one)} (sha256 {one.fingerprint.hex()}, until {one.not_after.date()})" for one in found
        )
        or NOTHING
    )


def _name(certificate: Certificate) -> str:
    try:
        return common_name(certificate.subject, "policy.certificate")
    except RluError:  # it may have none, or one that is not text
        return "a certificate"


def _times(policy: Policy) -> Iterable[Rule]:
    for name in (
        "max_statement_age_s",
        "max_evidence_age_s",
        "max_revocation_age_s",
        "max_session_age_s",
        "max_key_age_s",
        "clock_skew_s",
    ):
        yield Rule(f"time.{name}", _duration(getattr(policy, name)))
    yield Rule(
        "time.witnesses_required",
        f"sessions that at least {policy.witnesses_required} of these witnesses saw"
        if policy.witnesses_required
        else "sessions that no witness saw",
    )


def _duration(seconds: int) -> str:
    for name, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds and seconds % size == 0:
            return f"at most {_count(seconds // size, name)}"
    return f"at most {_count(seconds, 'second')}"


def _terminators(policy: Policy) -> Iterable[Rule]:
    if policy.terminators:
        keys = ", ".join(sorted(b64u(key) for key in policy.terminators))
        yield Rule("channel.terminator_spki_sha256", keys, "a terminator reads and can change everything")


def _lock(policy: Policy, role: str) -> Rule:
    if role not in policy.lock:
        return Rule(f"lock.{role}", NOTHING)
    bounds = policy.lock[role]
    if bounds is None:
        return Rule(f"lock.{role}", ANY, '"any" accepts a process that is not locked at all')
    stated = ", ".join(f"{key} {bound}" for key, bound in sorted(bounds.items()))
    return Rule(f"lock.{role}", stated or ANY, "" if stated else "an empty table demands nothing")


def _model_signers(policy: Policy) -> Iterable[Rule]:
    if policy.model_signers is not None:
        yield _listed("model.signers", policy.model_signers)


def _canary(policy: Policy) -> Iterable[Rule]:
    if policy.canary is not None:
        results = " or ".join(sorted(policy.canary.results))
        warning = "a test that found a leak is accepted" if "leak" in policy.canary.results else ""
        yield Rule("canary", f"a canary test {_duration(policy.canary.max_age_s)} old, {results}", warning)


def _sources(policy: Policy) -> Iterable[Rule]:
    weak = policy.default_source.value == "asserted"
    warning = "what only the server says is accepted" if weak else ""
    yield Rule("minimum_source.default", f"claims known by {policy.default_source.value} or better", warning)
    for name, source in policy.minimum_source.items():
        yield Rule(f"minimum_source.{name}", f"{source.value} or better")


def _either(values: Accepted, nothing: str = "nothing") -> str:
    return "any" if values is None else " or ".join(sorted(values)) or nothing


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
