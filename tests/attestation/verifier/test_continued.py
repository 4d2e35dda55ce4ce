"""The chain of keys in a bundle: every perturbation with its code, and that it never stands in for evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fakes.deployment import AT, Deployment, findings, verdict_of
from fakes.machine import Machine
from fakes.tpm import FakeTpm
from rlu_attestation import bundle as bundles
from rlu_attestation import jose
from rlu_attestation.bundle import Bundle
from rlu_attestation.continuity import Continuity
from rlu_attestation.instance import Predecessor

Sign = Callable[[bytes], bytes]


def deployed(label: str, **claims: object) -> Deployment:
    """With a key of its own."""
    return Deployment(machine=Machine(tpm=FakeTpm(label=label)), claims=claims)


@pytest.fixture(scope="module")
def old() -> Deployment:
    return deployed("old")


@pytest.fixture(scope="module")
def new(old: Deployment) -> Deployment:
    old.append(b"a leaf")
    return deployed("new", predecessor=Predecessor(old.issuer, old.head()))


def word(old: Deployment, successor: bytes, sign: Sign | None = None, **changes: object) -> str:
    """The old key's word; `sign` is another signer."""
    statement = Continuity(jwk=old.jwk, issued_at=AT - 100, successor=successor, head=old.head())
    signing_input = replace(statement, **changes).signing_input()  # type: ignore[arg-type]
    return jose.jws_assemble(signing_input, (sign or old.sign)(signing_input))


def shown(new: Deployment, *continuity: str) -> Bundle:
    return replace(new.bundle(0), continuity=continuity)


def test_a_key_that_was_named(old: Deployment, new: Deployment) -> None:
    bundle = shown(new, word(old, new.kid))
    verdict = verdict_of(new, bundle)
    assert findings(verdict) == []
    assert verdict.step("continuity").detail.startswith("1 key(s) before this one")
    assert bundles.parse(bundle.encode()) == bundle


def test_a_chain_of_two(old: Deployment, new: Deployment) -> None:
    oldest = deployed("oldest")
    assert findings(verdict_of(new, shown(new, word(oldest, old.kid), word(old, new.kid)))) == []
    torn = shown(new, word(oldest, oldest.kid), word(old, new.kid))
    assert findings(verdict_of(new, torn)) == ["continuity.successor"]


def test_signed_by_the_wrong_key(old: Deployment, new: Deployment) -> None:
    assert findings(verdict_of(new, shown(new, word(old, new.kid, new.sign)))) == ["continuity.invalid"]


def test_another_key_says_it_of_itself(old: Deployment, new: Deployment) -> None:
    mallory = deployed("mallory")
    mallory.append(b"a leaf")
    assert findings(verdict_of(new, shown(new, word(mallory, new.kid)))) == ["continuity.predecessor"]


def test_another_successor(old: Deployment, new: Deployment) -> None:
    assert findings(verdict_of(new, shown(new, word(old, bytes(32))))) == ["continuity.successor"]


def test_a_head_of_another_log(old: Deployment, new: Deployment) -> None:
    text = word(old, new.kid, head=new.head(0))
    assert findings(verdict_of(new, shown(new, text))) == ["continuity.head"]


def test_from_the_future(old: Deployment, new: Deployment) -> None:
    text = word(old, new.kid, issued_at=AT + 61)
    assert findings(verdict_of(new, shown(new, text))) == ["continuity.future"]
    assert findings(verdict_of(new, shown(new, word(old, new.kid, issued_at=AT + 60)))) == []


def test_an_instance_that_names_no_predecessor(old: Deployment) -> None:
    alone = deployed("alone")
    assert findings(verdict_of(alone, shown(alone, word(old, alone.kid)))) == ["continuity.predecessor"]


def test_the_header_names_another_key(old: Deployment, new: Deployment) -> None:
    foreign = word(new, new.kid).split(".")[0]
    _, payload, _ = word(old, new.kid).split(".")
    signing_input = f"{foreign}.{payload}".encode()
    text = jose.jws_assemble(signing_input, new.sign(signing_input))
    assert findings(verdict_of(new, shown(new, text))) == ["continuity.kid"]


def test_garbage(new: Deployment) -> None:
    verdict = verdict_of(new, shown(new, "no.jws"))
    assert findings(verdict) == ["continuity.encoding"]
    assert verdict.exit_code == 30


def test_a_rotated_key_without_evidence_of_its_own(old: Deployment, new: Deployment) -> None:
    """The old key's word does not make up for missing or borrowed evidence."""
    bundle = shown(new, word(old, new.kid))
    assert findings(verdict_of(new, replace(bundle, evidence=()))) == ["evidence.digest.missing"]
    borrowed = replace(bundle, evidence=old.bundle(0).evidence)
    assert findings(verdict_of(new, borrowed)) == ["evidence.digest.mismatch"]
    # Even evidence that the new statement names, but that speaks for the old key.
    _, evidence = old.attestation()
    statement, items = new.attestation(evidence[0].data)
    both = replace(bundle, statement=statement, evidence=items)
    assert "key.match.differs" in findings(verdict_of(new, both)) or "key.match.mismatch" in findings(
        verdict_of(new, both)
    )
