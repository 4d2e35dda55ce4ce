"""A genuine deployment verifies in every step; whatever is cut from it or missing is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.deployment import AT, NONCE, SPKI, Deployment, findings, verdict_of
from rlu_attestation.bundle import Bundle
from rlu_attestation.catalogue import STEPS, steps_of
from rlu_attestation.policy import Policy
from rlu_attestation.verdict import Outcome, Result
from rlu_attestation.verifier import Context, verify
from rlu_attestation.verifier.kinds import ROOMS


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    return Deployment()


@pytest.fixture(scope="module")
def bundle(deployment: Deployment) -> Bundle:
    return deployment.bundle()


def test_everything_genuine_is_verified(deployment: Deployment, bundle: Bundle) -> None:
    verdict = verdict_of(deployment, bundle)
    assert findings(verdict) == []
    assert (verdict.result, verdict.exit_code) == (Result.VERIFIED, 0)
    assert verdict.covers == ("instance", "session", "receipts", "close")
    assert verdict.freshness == "verifier"
    assert verdict.time == "asserted"
    # Every step of the catalogue was made; but for what is of another kind of hardware, of an implicit session, or not asked for.
    others = {step for kind in ROOMS for step in steps_of(kind)} - set(steps_of("tpm2"))
    assert {step.id for step in verdict.steps} == set(STEPS) - others - {
        "gpu.match",
        "continuity",
        "policy.canary",
        "policy.model_signer",
    } - gpu_steps()
    inapplicable = [step.id for step in verdict.steps if step.outcome is Outcome.NOT_APPLICABLE]
    assert inapplicable == [
        "ek.revocation",
        "quote.ima",
        "gpu.attestation",
        "session.opening",
        "log.cosignatures",
        "policy.tee",
        "policy.tcb",
        "policy.measurements",
        "policy.gpu",
        "policy.witnesses",
    ]


def gpu_steps() -> set[str]:
    return {step for step in STEPS if step.startswith("nvidia.")}


def test_the_bundle_survives_its_file_form(deployment: Deployment, bundle: Bundle) -> None:
    from rlu_attestation.bundle import parse

    again = parse(bundle.encode())
    assert again == bundle
    assert verdict_of(deployment, again).result is Result.VERIFIED


def test_an_instance_alone_is_verified_and_says_that_it_is_alone(deployment: Deployment) -> None:
    statement, evidence = deployment.attestation()
    verdict = verdict_of(deployment, Bundle(statement=statement, evidence=evidence))
    assert verdict.result is Result.VERIFIED
    assert verdict.covers == ("instance",)
    assert not any(step.id.startswith(("session", "receipt", "close", "log")) for step in verdict.steps)


@pytest.mark.parametrize("part", ["session", "receipts", "close"])
def test_what_the_policy_requires_and_was_cut_is_missed(
    deployment: Deployment, bundle: Bundle, part: str
) -> None:
    policy = deployment.policy(require=frozenset({"instance", part}))
    assert verdict_of(deployment, bundle, policy).result is Result.VERIFIED
    if part == "session":
        cut = replace(bundle, session=None, commitment_key=None, exchanges=(), close=None)
    elif part == "receipts":
        cut = replace(bundle, exchanges=())
    else:
        cut = replace(bundle, close=None)
    assert "policy.coverage.missing" in findings(verdict_of(deployment, cut, policy))


def test_the_empty_policy_accepts_nothing(deployment: Deployment, bundle: Bundle) -> None:
    verdict = verdict_of(deployment, bundle, Policy())
    assert verdict.exit_code == 10
    assert findings(verdict) == ["ak.certificate.unknown_issuer", "ek.chain.unknown_issuer"]
    # With trust anchors alone, every rule that is left out refuses.
    anchored = Policy(ek_roots=deployment.machine.ek_roots, registrars=deployment.machine.registrars)
    assert findings(verdict_of(deployment, bundle, anchored)) == [
        "policy.boundary.unset",
        "policy.channel.unset",
        "policy.debug.unset",
        "policy.engine.unset",
        "policy.gateway.unset",
        "policy.hardware_profile.unset",
        "policy.lock.unset",
        "policy.model.unset",
        "policy.pcrs.unset",
        "policy.region.unset",
        "policy.site.unset",
        "policy.sources.weak",
    ]


def test_a_broken_statement_leaves_every_later_step_named_and_not_checked(
    deployment: Deployment, bundle: Bundle
) -> None:
    verdict = verdict_of(deployment, replace(bundle, statement="not a statement"))
    assert findings(verdict) == ["statement.encoding"]
    assert verdict.exit_code == 30
    assert verdict.claims == ()
    # Which hardware's steps would have to be made, nobody knows then: `key.hardware` stands for them.
    hardware = {step for kind in ROOMS for step in steps_of(kind)} | {"gpu.match"} | gpu_steps()
    unasked = {"continuity", "policy.canary", "policy.model_signer"}
    assert {step.id for step in verdict.steps} == set(STEPS) - hardware - unasked
    failed = {step.id: step.code for step in verdict.failures}
    assert failed["statement.signature"] == "statement.signature.not_checked"
    assert failed["policy.region"] == "policy.region.not_checked"
    # What needs nothing of the statement is still made.
    assert verdict.step("policy.coverage").outcome is Outcome.PASSED


def test_who_knows_nothing_takes_the_bundles_word_and_the_verdict_says_so(
    deployment: Deployment, bundle: Bundle
) -> None:
    verdict = verify(Context(bundle=bundle, policy=deployment.policy(), at=AT))
    assert verdict.result is Result.VERIFIED
    assert verdict.freshness == "asserted"
    assert "fresh only for who made the bundle" in verdict.step("statement.nonce").detail
    assert verdict.step("channel").detail == "as the maker of the bundle saw it"


def test_the_callers_nonce_and_channel_outrank_the_bundles(deployment: Deployment, bundle: Bundle) -> None:
    lying = replace(bundle, nonce=bytes(32), channel=bytes(32))
    assert verdict_of(deployment, lying).result is Result.VERIFIED
    assert findings(verdict_of(deployment, bundle, nonce=bytes(32), channel=bytes(32))) == [
        "channel.mismatch",
        "session.nonce.mismatch",
        "statement.nonce.mismatch",
    ]
    assert NONCE != bytes(32) != SPKI


def test_without_any_nonce_freshness_is_none(deployment: Deployment, bundle: Bundle) -> None:
    verdict = verdict_of(deployment, replace(bundle, nonce=None), nonce=None)
    assert verdict.freshness == "none"
    assert findings(verdict) == ["session.nonce.unknown", "statement.nonce.unknown"]


def test_a_policys_digest_is_in_the_verdict(deployment: Deployment, bundle: Bundle) -> None:
    assert verdict_of(deployment, bundle, deployment.policy(digest=b"\x07" * 32)).policy == b"\x07" * 32
