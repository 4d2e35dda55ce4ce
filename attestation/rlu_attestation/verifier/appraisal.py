"""Step 13: what was verified, held against the policy. Every violation is found, each with what was expected and what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rlu_attestation.bundle import Bundle
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Refused, Untrusted
from rlu_attestation.instance import POSTURE_ROLES, InstanceClaims
from rlu_attestation.policy import CanaryRule, Policy, spell
from rlu_attestation.verdict import Claim
from rlu_attestation.verifier.context import Context, VerifiedInstance, VerifiedLeaf, VerifiedSession
from rlu_attestation.verifier.hardware import appraise_gpus, appraise_hardware, appraise_profile
from rlu_attestation.verifier.revoked import appraise_revocation
from rlu_attestation.verifier.sources import debug_state
from rlu_attestation.verifier.trail import Failed, Trail, Waived, need

_LISTED: tuple[tuple[str, Callable[[InstanceClaims], list[tuple[str, str]]]], ...] = (
    ("policy.hardware_profile", lambda c: [("hardware_profiles", c.hardware_profile)]),
    ("policy.region", lambda c: [("regions", c.region)]),
    ("policy.boundary", lambda c: [("boundaries", c.boundary)]),
    ("policy.site", lambda c: [("sites", c.site)]),
    ("policy.model", lambda c: [("models", b64u(one.manifest)) for one in c.models]),
    (
        "policy.engine",
        lambda c: [
            rule
            for one in c.models
            for rule in (
                ("engines", f"{one.engine.name}/{one.engine.version}"),
                ("engine_arguments", b64u(one.engine.digest or b"")),
            )
        ],
    ),
    (
        "policy.gateway",
        lambda c: [
            ("gateways", f"{c.gateway.name}/{c.gateway.version}"),
            ("gateway_images", b64u(c.gateway.digest or b"")),
        ],
    ),
)
"""Steps whose rules of `[accept]` list values: rule, and what the statement says, of every model where there are several."""


def appraise(
    trail: Trail,
    context: Context,
    instance: VerifiedInstance | Failed,
    session: VerifiedSession | Failed | None,
    claims: Sequence[Claim],
    leaves: Sequence[VerifiedLeaf | Failed],
) -> None:
    """Run one step for each rule."""
    policy, run = context.policy, trail.check
    known: Sequence[Claim] | Failed = instance if isinstance(instance, Failed) else claims
    run("policy.coverage", lambda: appraise_coverage(context.bundle, policy), str)
    appraise_hardware(trail, policy, lambda: need(instance).hardware)
    run("policy.profile", lambda: appraise_profile(need(instance), policy), str)
    run("policy.gpu", lambda: appraise_gpus(need(instance).claims, need(instance).gpus, policy), str)
    for step, rules in _LISTED:

        def listed(step: str = step, rules: Callable[[InstanceClaims], list[tuple[str, str]]] = rules) -> str:
            return appraise_values(step, rules(need(instance).claims), policy)

        run(step, listed, str)
    run("policy.debug", lambda: appraise_debug(need(instance), policy), str)
    run("policy.key", lambda: appraise_key(need(instance), context, leaves), str)
    run("policy.boot", lambda: appraise_boot(need(instance).claims, policy))
    run("policy.channel", lambda: appraise_channel(need(instance).claims, policy), str)
    run("policy.lock", lambda: appraise_lock(need(instance).claims, policy), str)
    if policy.model_signers is not None:
        signers = policy.model_signers
        run("policy.model_signer", lambda: appraise_signers(need(instance).claims, signers), str)
    if policy.canary is not None:
        rule = policy.canary
        run("policy.canary", lambda: appraise_canary(need(instance).claims, rule, context), str)
    if session is not None:
        run("policy.session", lambda: appraise_session(need(session), context), str)
    run("policy.sources", lambda: appraise_sources(need(known), policy))


def coverage(bundle: Bundle) -> tuple[str, ...]:
    """What a bundle holds, by the names of `catalogue.COVERAGE`."""
    parts = (
        ("instance", True),
        ("session", bundle.session is not None),
        ("receipts", bool(bundle.exchanges)),
        ("close", bundle.close is not None),
    )
    return tuple(name for name, here in parts if here)


def appraise_coverage(bundle: Bundle, policy: Policy) -> str:
    """Raises Refused: `policy.coverage.missing`."""
    here = coverage(bundle)
    missing = sorted(policy.require - set(here))
    if missing:
        raise Refused(
            "policy.coverage.missing", f"the policy requires {', '.join(missing)}; not in the bundle"
        )
    return ", ".join(here)


def appraise_values(step: str, stated: Iterable[tuple[str, str]], policy: Policy) -> str:
    """Every stated value is in its rule's list; returns them in words.

    Raises:
        Refused: `<step>.unset` when a rule is left out, `<step>.mismatch`.
    """
    wrong: list[str] = []
    unset = False
    shown: list[str] = []
    for rule, value in stated:
        accepted = policy.accept.get(rule, frozenset())
        found = value or "nothing"
        shown.append(found if accepted is not None else f"{found} (any)")
        if accepted is None or value in accepted:
            continue
        unset = unset or not accepted
        expected = (
            " or ".join(sorted(accepted)) if accepted else f"nothing, since the policy leaves out {rule}"
        )
        wrong.append(f"expected {expected}; found {found}")
    if wrong:
        raise Refused(f"{step}.{'unset' if unset else 'mismatch'}", "; ".join(wrong))
    return ", ".join(shown)


def appraise_boot(claims: InstanceClaims, policy: Policy) -> None:
    """Raises Refused: `policy.boot.off`, unless the policy accepts it (`Waived`)."""
    if claims.oemboot:
        return
    if policy.unsafe_accept_unverified_boot:
        raise Waived(
            "policy.boot.off", "verified boot is off or unknown, accepted by unsafe_accept_unverified_boot"
        )
    raise Refused("policy.boot.off", "expected verified boot; found that it is off or unknown")


def appraise_debug(instance: VerifiedInstance, policy: Policy) -> str:
    """The debug state is accepted: the hardware's word where it has one, and the statement may not claim a better.

    Raises:
        Refused: `policy.debug.unset`, `.mismatch`.
        Untrusted: `policy.debug.contradicted`.
    """
    stated = instance.claims.dbgstat
    if instance.hardware is not None and instance.hardware.debug and stated != "enabled":
        raise Untrusted(
            "policy.debug.contradicted",
            f"the statement says {stated}; the evidence says that debugging is on",
        )
    return appraise_values("policy.debug", [("debug_states", debug_state(instance))], policy)


def appraise_key(
    instance: VerifiedInstance, context: Context, leaves: Sequence[VerifiedLeaf | Failed]
) -> str:
    """The key is not revoked, or what it signed is shown to be from before; and it is young enough.

    Raises:
        Refused: `policy.key.revoked`, `.beyond`, `.unproven`, `.future`, `.age`.
    """
    policy, claims = context.policy, instance.claims
    if claims.ueid in policy.revoked_keys:
        raise Refused("policy.key.revoked", f"the policy accepts key {claims.ueid} no more")
    age = context.at - claims.key_created
    if -age > policy.clock_skew_s:
        raise Refused("policy.key.future", f"the key was made {-age} s after the time given, says the server")
    if age > policy.max_key_age_s + policy.clock_skew_s:
        raise Refused(
            "policy.key.age",
            f"expected a key of at most {policy.max_key_age_s // 86400} days; found {age // 86400}: rotate it",
        )
    revocation = policy.revocations.get(claims.ueid)
    if revocation is not None:
        shown = [need(leaf) for leaf in leaves]
        return appraise_revocation(revocation, instance.signed.key, shown, context.bundle.consistency)
    return f"made {max(age, 0) // 86400} days before, says the server"


def appraise_session(session: VerifiedSession, context: Context) -> str:
    """Raises Refused: `policy.session.age`."""
    age = context.at - session.statement.issued_at
    if age > context.policy.max_session_age_s + context.policy.clock_skew_s:
        raise Refused(
            "policy.session.age",
            f"expected a session of at most {context.policy.max_session_age_s} s; found {age} s",
        )
    return f"opened {max(age, 0)} s before"


def appraise_channel(claims: InstanceClaims, policy: Policy) -> str:
    """Raises Refused: `policy.channel.unset`, `.mismatch`."""
    origin = claims.tls.origin
    if not policy.channel_origins:
        raise Refused("policy.channel.unset", f"the policy leaves out channel.origins; found {origin}")
    if origin not in policy.channel_origins:
        raise Refused(
            "policy.channel.mismatch",
            f"expected {' or '.join(sorted(policy.channel_origins))}; found {origin}",
        )
    return origin


NODES = "nodes"
"""Of the engine's posture, where machines run it together: how many. Nobody is to overlook that."""


def appraise_lock(claims: InstanceClaims, policy: Policy) -> str:
    """Raises Refused: `policy.lock.unset`, `.mismatch`."""
    wrong: list[str] = []
    unset = [role for role in POSTURE_ROLES if role not in policy.lock]
    for role in POSTURE_ROLES:
        bounds, posture = policy.lock.get(role), claims.lock.get(role)
        if role in unset:
            wrong.append(f"the policy leaves out lock.{role}")
        elif bounds is not None and posture is None:
            wrong.append(f"{role}: no posture is stated")
        elif bounds is not None and posture is not None:
            wrong += [
                f"{role}: {key} expected {bound}; found {spell(posture.get(key))}"
                for key, bound in sorted(bounds.items())
                if not bound.accepts(posture.get(key))
            ]
            nodes = posture.get(NODES, 1)
            if role == "engine" and (nodes != 1 or nodes is True) and NODES not in bounds:
                wrong.append(
                    f"engine: {spell(nodes)} machines run it together, and the evidence is of one; "
                    f"a policy that accepts this bounds {NODES} in lock.engine"
                )
    if wrong:
        raise Refused(f"policy.lock.{'unset' if unset else 'mismatch'}", "; ".join(wrong))
    return ", ".join(f"{role} (any)" if policy.lock[role] is None else role for role in POSTURE_ROLES)


def appraise_signers(claims: InstanceClaims, signers: frozenset[str]) -> str:
    """Every model was signed by one of them. Raises Refused: `policy.model_signer.absent`, `.mismatch`."""
    wrong, absent = [], False
    for one in claims.models:
        stated = one.signature
        if stated is None or stated.signer is None:
            absent = True
            found = "does not say" if stated is None else f"says {stated.result}"
            wrong.append(f"{one.name}: expected a verified signature; the statement {found}")
        elif b64u(stated.signer) not in signers:
            wrong.append(f"{one.name}: signed by {b64u(stated.signer)}, which the policy does not name")
    if wrong:
        raise Refused(f"policy.model_signer.{'absent' if absent else 'mismatch'}", "; ".join(wrong))
    return ", ".join(
        sorted(
            {b64u(one.signature.signer) for one in claims.models if one.signature and one.signature.signer}
        )
    )


def appraise_canary(claims: InstanceClaims, rule: CanaryRule, context: Context) -> str:
    """Raises Refused: `policy.canary.absent`, `.future`, `.age`, `.mismatch`."""
    named = claims.canary
    if named is None:
        raise Refused("policy.canary.absent", "expected a canary test; the statement names none")
    age = context.at - named.issued_at
    if -age > context.policy.clock_skew_s:
        raise Refused("policy.canary.future", f"the report was signed {-age} s after the time given")
    if age > rule.max_age_s + context.policy.clock_skew_s:
        raise Refused(
            "policy.canary.age",
            f"expected a canary test of at most {rule.max_age_s // 86400} days; found {age // 86400}",
        )
    if named.result not in rule.results:
        raise Refused(
            "policy.canary.mismatch", f"expected {' or '.join(sorted(rule.results))}; found {named.result}"
        )
    return f"{named.result}, reported {max(age, 0) // 86400} days before"


def appraise_sources(claims: Sequence[Claim], policy: Policy) -> None:
    """Every claim is known at least as well as the policy demands.

    Raises:
        Refused: `policy.sources.weak`.
    """
    wrong: list[str] = []
    for claim in claims:
        minimum = policy.minimum_source.get(claim.name, policy.default_source)
        if not claim.source.at_least(minimum):
            wrong.append(f"{claim.name} expected {minimum.value}; found {claim.source.value}")
    missing = sorted(set(policy.minimum_source) - {claim.name for claim in claims})
    wrong += [f"{name} expected {policy.minimum_source[name].value}; found nothing" for name in missing]
    if wrong:
        raise Refused("policy.sources.weak", "; ".join(wrong))
