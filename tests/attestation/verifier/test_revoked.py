"""Revoked keys: what they signed before the last good head is believed where it is shown, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.deployment import Deployment, findings, verdict_of
from rlu_attestation import cose
from rlu_attestation.bundle import Bundle
from rlu_attestation.policy import Policy
from rlu_attestation.revocation import Revocation
from rlu_attestation.verdict import Result


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    return Deployment()


@pytest.fixture(scope="module")
def bundle(deployment: Deployment) -> Bundle:
    made = deployment.bundle()
    deployment.append(b"what came later")
    return made


def revoking(deployment: Deployment, last_good: int | None) -> Policy:
    """A policy that believes the key up to a size of its log."""
    ueid = deployment.instance_claims().ueid
    head = None if last_good is None else cose.parse_head(deployment.head(last_good))
    return deployment.policy(revocations={ueid: Revocation(ueid, "compromise", deployment.at, head)})


def proof(deployment: Deployment, old: int, new: int) -> bytes:
    protected = deployment.protected(new)
    signature = deployment.sign(cose.signature_input(protected, deployment.tree.root(new)))
    return cose.assemble_consistency(
        protected, signature, old, new, deployment.tree.consistency_path(old, new)
    )


def sizes(bundle: Bundle) -> list[int]:
    assert bundle.session is not None
    assert bundle.close is not None
    logged = [bundle.session, *(exchange.logged for exchange in bundle.exchanges), bundle.close]
    return sorted({cose.parse_inclusion(one.receipt).tree_size for one in logged})


def test_a_key_that_is_not_believed_at_all(deployment: Deployment, bundle: Bundle) -> None:
    verdict = verdict_of(deployment, bundle, revoking(deployment, None))
    assert findings(verdict) == ["policy.key.revoked"]
    assert verdict.exit_code == 10


def test_another_key_is_not_concerned(deployment: Deployment, bundle: Bundle) -> None:
    other = Revocation("another", "compromise", deployment.at)
    verdict = verdict_of(deployment, bundle, deployment.policy(revocations={"another": other}))
    assert findings(verdict) == []


def test_a_session_before_the_last_good_head_that_shows_it(deployment: Deployment, bundle: Bundle) -> None:
    good = deployment.tree.size
    shown = replace(bundle, consistency=tuple(proof(deployment, size, good) for size in sizes(bundle)))
    verdict = verdict_of(deployment, shown, revoking(deployment, good))
    assert verdict.result is Result.VERIFIED
    assert "signed before" in verdict.step("policy.key").detail


def test_nothing_shows_that_it_was_before(deployment: Deployment, bundle: Bundle) -> None:
    policy = revoking(deployment, deployment.tree.size)
    assert findings(verdict_of(deployment, bundle, policy)) == ["policy.key.unproven"]
    # Proofs of something else prove nothing here, nor do bytes that are none.
    wrong = (b"garbage", proof(deployment, 1, deployment.tree.size), proof(deployment, 2, 3))
    assert findings(verdict_of(deployment, replace(bundle, consistency=wrong), policy)) == [
        "policy.key.unproven"
    ]


def test_a_session_that_went_on_after_the_last_good_head(deployment: Deployment, bundle: Bundle) -> None:
    good = sizes(bundle)[-1] - 1  # the close is the last leaf
    shown = replace(bundle, consistency=tuple(proof(deployment, s, good) for s in sizes(bundle) if s <= good))
    assert findings(verdict_of(deployment, shown, revoking(deployment, good))) == ["policy.key.beyond"]
    # The part from before is believed by itself.
    part = replace(shown, exchanges=(), close=None)
    assert findings(verdict_of(deployment, part, revoking(deployment, good))) == []


def test_a_backdated_history_is_not_the_log_before(deployment: Deployment, bundle: Bundle) -> None:
    """Who stole the key signs a second log, small and early in every number it names."""
    thief = Deployment(machine=deployment.machine)
    forged = thief.bundle(session={"tenant": "mallory"})
    thief.append(b"what came later")
    assert thief.tree.size == deployment.tree.size
    policy = revoking(deployment, deployment.tree.size)
    assert findings(verdict_of(thief, forged, deployment.policy())) == []
    own = tuple(proof(thief, size, thief.tree.size) for size in sizes(forged))
    genuine = tuple(proof(deployment, size, deployment.tree.size) for size in sizes(forged))
    verdict = verdict_of(thief, replace(forged, consistency=own + genuine), policy)
    assert findings(verdict) == ["policy.key.unproven"]


def test_without_a_session_nothing_can_be_from_before(deployment: Deployment, bundle: Bundle) -> None:
    alone = Bundle(
        statement=bundle.statement, evidence=bundle.evidence, channel=bundle.channel, nonce=bundle.nonce
    )
    verdict = verdict_of(deployment, alone, revoking(deployment, deployment.tree.size))
    assert findings(verdict) == ["policy.key.revoked"]


def test_a_leaf_that_does_not_verify_is_no_proof(deployment: Deployment, bundle: Bundle) -> None:
    assert bundle.close is not None
    broken = replace(bundle, close=replace(bundle.close, statement=b"{}"))
    verdict = verdict_of(deployment, broken, revoking(deployment, deployment.tree.size))
    assert verdict.step("policy.key").code == "policy.key.not_checked"


def test_a_head_of_the_same_size_is_not_the_same_head(deployment: Deployment, bundle: Bundle) -> None:
    good = deployment.tree.size
    forger = Deployment(machine=deployment.machine)
    forger.bundle(session={"tenant": "mallory"})
    forger.append(b"what came later")
    alone = replace(bundle, session=forger.logged(1), exchanges=(), close=None, head=None)
    assert forger.tree.size == good
    assert findings(verdict_of(forger, alone, deployment.policy())) == []
    assert findings(verdict_of(forger, alone, revoking(deployment, good))) == ["policy.key.unproven"]
    # The genuine one, under that very head, needs no further proof.
    genuine = replace(bundle, session=deployment.logged(1), exchanges=(), close=None, head=None)
    assert findings(verdict_of(deployment, genuine, revoking(deployment, good))) == []
