"""Cosignatures in a bundle: what makes its time `witnessed`, and every perturbation with its code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fakes.deployment import AT, Deployment, findings, verdict_of
from fakes.machine import Machine
from fakes.tpm import FakeTpm
from rlu_attestation import bundle as bundles
from rlu_attestation import cose, ear
from rlu_attestation.bundle import Bundle, Cosigned
from rlu_attestation.log.cosignature import WitnessKey, cosign
from rlu_attestation.log.covering import proof_to, unproven
from rlu_attestation.merkle import Tree
from rlu_attestation.render import notes
from rlu_attestation.verdict import Outcome, Sighting, Verdict, Witnessed

SEEN = AT - 1


class Witness:
    """One that cosigns whatever it is given."""

    def __init__(self, name: str, secret: int = 1) -> None:
        self._key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes([secret] * 32))
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key = WitnessKey(name, public)

    def on(self, head: bytes, time: int = SEEN) -> Cosigned:
        return Cosigned(head, cosign(cose.parse_head(head), time, self.key, self._key.sign).line)


ONE, TWO = Witness("one.example", 1), Witness("two.example", 2)


class Shown:
    """A deployment with its bundle, and a log that went on after it."""

    def __init__(self, **changes: Any) -> None:
        self.deployment = Deployment()
        self.bundle = self.deployment.bundle(**changes)
        self.end = self.deployment.tree.size

    def grow(self, leaves: int = 3) -> None:
        for number in range(leaves):
            self.deployment.append(f"a later leaf {number}".encode())

    def with_cosigned(self, *given: Cosigned, proofs: bool = True) -> Bundle:
        """The bundle as a client completes it."""
        tree = self.deployment.tree
        made = [
            proof_to(head, old, tree.consistency_path(old, head.tree_size))
            for old, head in unproven(self.bundle, given)
        ]
        return replace(self.bundle, cosignatures=given, consistency=tuple(made) if proofs else ())

    def verdict(self, bundle: Bundle, *known: Witness, required: int = 0, **changes: Any) -> Verdict:
        policy = self.deployment.policy(
            witnesses=tuple(one.key for one in known), witnesses_required=required
        )
        return verdict_of(self.deployment, bundle, policy, **changes)


@pytest.fixture
def shown() -> Shown:
    return Shown()


def outcome(verdict: Verdict) -> Outcome:
    return verdict.step("log.cosignatures").outcome


def test_a_later_head_that_is_shown_to_extend_the_receipts_heads(shown: Shown) -> None:
    shown.grow()
    bundle = shown.with_cosigned(ONE.on(shown.deployment.head()))
    verdict = shown.verdict(bundle, ONE, required=1)
    assert (findings(verdict), verdict.time, verdict.exit_code) == ([], "witnessed", 0)
    size = shown.deployment.tree.size
    assert verdict.witnessed == Witnessed(SEEN, (Sighting("one.example", SEEN, size),))
    assert "4 of 4 statements here among them" in verdict.step("log.cosignatures").detail
    assert verdict.step("policy.witnesses").detail == "one.example"
    assert bundles.parse(bundle.encode()) == bundle
    assert "witnessed (session, receipts and close here" in next(notes(verdict))
    told = {"by": SEEN, "sightings": [{"witness": "one.example", "time": SEEN, "tree_size": size}]}
    assert verdict.to_json()["witnessed"] == told
    claims = ear.ear(verdict, subject=bytes(32), issued=AT, build="test")
    extension = claims["submods"]["instance"][ear.EXTENSION]
    assert (extension["time"], extension["witnessed"]) == ("witnessed", told)


def test_the_head_that_a_receipt_is_under_needs_no_proof() -> None:
    shown = Shown(exchanges=0)
    shown.bundle = replace(shown.bundle, close=None)
    size = cose.parse_inclusion(shown.bundle.session.receipt).tree_size  # type: ignore[union-attr]
    verdict = shown.verdict(shown.with_cosigned(ONE.on(shown.deployment.head(size))), ONE)
    assert (findings(verdict), verdict.time) == ([], "witnessed")


def test_size_alone_proves_nothing(shown: Shown) -> None:
    """Whoever owns the key can sign a larger log that never held the session, and show that one to the witness."""
    shown.grow()
    honest = shown.with_cosigned(ONE.on(shown.deployment.head()), proofs=False)
    verdict = shown.verdict(honest, ONE)
    assert (findings(verdict), verdict.time, verdict.witnessed) == ([], "asserted", None)
    other = Tree()
    for number in range(shown.end + 5):
        other.append(bytes([number]) * 32)
    protected = shown.deployment.protected(other.size)
    signature = shown.deployment.sign(cose.signature_input(protected, other.root()))
    head = cose.assemble_head(protected, other.root(), signature)
    old = cose.parse_inclusion(shown.bundle.session.receipt).tree_size  # type: ignore[union-attr]
    forked = replace(
        shown.bundle,
        cosignatures=(ONE.on(head),),
        consistency=(proof_to(cose.parse_head(head), old, other.consistency_path(old, other.size)),),
    )
    verdict = shown.verdict(forked, ONE)
    assert verdict.time == "asserted"
    assert "0 of 4 statements" in verdict.step("log.cosignatures").detail
    assert findings(shown.verdict(forked, ONE, required=1)) == ["policy.witnesses.missing"]


def test_a_head_from_before_the_close_holds_not_all(shown: Shown) -> None:
    head = shown.deployment.head(shown.end - 1)
    verdict = shown.verdict(shown.with_cosigned(ONE.on(head)), ONE)
    assert verdict.time == "asserted"
    assert "1 of 4 statements" in verdict.step("log.cosignatures").detail


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("line-cut", lambda s: replace(ONE.on(s.deployment.head()), line="— one.example AAAA"), "encoding"),
        ("line-empty", lambda s: replace(ONE.on(s.deployment.head()), line="?"), "encoding"),
        ("head-cut", lambda s: replace(ONE.on(s.deployment.head()), head=b"\xd2\x84"), "encoding"),
        (
            "another-head",
            lambda s: replace(ONE.on(s.deployment.head(2)), head=s.deployment.head()),
            "invalid",
        ),
        (
            "another-instance",
            lambda s: ONE.on(s.deployment.head(issuer="urn:rlu:instance:another")),
            "issuer",
        ),
        ("another-key", lambda s: ONE.on(s.deployment.head(kid=bytes(32))), "kid"),
        ("head-of-the-future", lambda s: ONE.on(s.deployment.head(iat=AT + 61), AT + 60), "future"),
        ("cosigned-in-the-future", lambda s: ONE.on(s.deployment.head(), AT + 61), "future"),
        ("seen-before-it-was-signed", lambda s: ONE.on(s.deployment.head(iat=AT), AT - 61), "clock"),
        ("head-not-signed", lambda s: ONE.on(unsigned(s.deployment.head())), "head"),
        ("unknown-and-not-signed", lambda s: TWO.on(unsigned(s.deployment.head())), "head"),
        ("unknown-of-the-future", lambda s: TWO.on(s.deployment.head(iat=AT + 61)), "future"),
    ],
)
def test_perturbations(shown: Shown, name: str, change: Callable[[Shown], Cosigned], code: str) -> None:
    bundle = replace(shown.bundle, cosignatures=(change(shown),))
    verdict = shown.verdict(bundle, ONE, required=1)
    assert findings(verdict) == [f"log.cosignatures.{code}"]
    assert (verdict.time, verdict.step("policy.witnesses").code) == (
        "asserted",
        "policy.witnesses.not_checked",
    )


@pytest.mark.parametrize("time", [AT + 60, AT - 61])
def test_clocks_may_differ_by_as_much_as_the_policy_says(shown: Shown, time: int) -> None:
    bundle = shown.with_cosigned(ONE.on(shown.deployment.head(), time))
    assert findings(shown.verdict(bundle, ONE)) == []


def test_a_signature_by_another_key_under_the_witness_s_name_and_key_id(shown: Shown) -> None:
    forger = Witness("one.example", 9)
    forger.key = ONE.key
    bundle = shown.with_cosigned(forger.on(shown.deployment.head()))
    assert findings(shown.verdict(bundle, ONE)) == ["log.cosignatures.invalid"]


@pytest.mark.parametrize(
    "known", [(), (TWO,), (Witness("one.example", 3),)], ids=["none", "other", "other-key"]
)
def test_who_is_not_named_is_not_counted_and_said(shown: Shown, known: tuple[Witness, ...]) -> None:
    bundle = shown.with_cosigned(ONE.on(shown.deployment.head()))
    verdict = shown.verdict(bundle, *known)
    assert (findings(verdict), outcome(verdict), verdict.time) == ([], Outcome.NOT_APPLICABLE, "asserted")
    assert "one.example" in verdict.step("log.cosignatures").detail
    both = shown.with_cosigned(ONE.on(shown.deployment.head()), TWO.on(shown.deployment.head()))
    assert "do not name" not in shown.verdict(both, ONE, TWO).step("log.cosignatures").detail
    assert "not name them: two.example" in shown.verdict(both, ONE).step("log.cosignatures").detail


def test_one_witness_counts_once_however_often_and_with_however_many_keys(shown: Shown) -> None:
    head, changed = shown.deployment.head(), Witness("one.example", 3)
    bundle = shown.with_cosigned(ONE.on(head, AT - 3), ONE.on(head, AT - 2), changed.on(head, AT - 1))
    verdict = shown.verdict(bundle, ONE, changed, TWO, required=2)
    assert findings(verdict) == ["policy.witnesses.missing"]
    assert verdict.step("policy.witnesses").detail.endswith("found 1: one.example")
    assert verdict.time == "asserted"
    verdict = shown.verdict(bundle, ONE, changed, TWO, required=1)
    assert verdict.witnessed == Witnessed(AT - 3, (Sighting("one.example", AT - 3, shown.end),))


def test_the_bound_is_when_as_many_as_are_required_had_seen_it(shown: Shown) -> None:
    head = shown.deployment.head()
    bundle = shown.with_cosigned(TWO.on(head, AT + 5), ONE.on(head, AT - 3))
    bounds = {n: shown.verdict(bundle, ONE, TWO, required=n).witnessed for n in (0, 1, 2)}
    assert {n: found and found.by for n, found in bounds.items()} == {0: AT - 3, 1: AT - 3, 2: AT + 5}


def test_nothing_required_and_nothing_here(shown: Shown) -> None:
    verdict = shown.verdict(shown.bundle, ONE)
    assert (findings(verdict), outcome(verdict), verdict.time) == ([], Outcome.NOT_APPLICABLE, "asserted")
    assert "witnessed" not in verdict.to_json()
    assert findings(shown.verdict(shown.bundle, ONE, required=1)) == ["policy.witnesses.missing"]


def test_a_cosigned_head_that_contradicts_a_receipt_is_a_fork(shown: Shown) -> None:
    root = bytes(32)
    protected = shown.deployment.protected(shown.end)
    signature = shown.deployment.sign(cose.signature_input(protected, root))
    head = cose.assemble_head(protected, root, signature)
    verdict = shown.verdict(replace(shown.bundle, cosignatures=(TWO.on(head),)), ONE)
    assert findings(verdict) == ["log.heads.fork"]
    assert verdict.step("log.cosignatures").code == "log.cosignatures.not_checked"
    other = replace(shown.bundle, head=None, session=None, exchanges=(), close=None, commitment_key=None)
    pair = (TWO.on(head), TWO.on(shown.deployment.head()))
    assert findings(shown.verdict(replace(other, cosignatures=pair))) == ["log.heads.fork"]


def test_an_instance_alone_is_no_entry_that_a_witness_could_have_seen(shown: Shown) -> None:
    alone = replace(
        shown.bundle,
        head=None,
        session=None,
        exchanges=(),
        close=None,
        commitment_key=None,
        cosignatures=(ONE.on(shown.deployment.head()),),
    )
    verdict = shown.verdict(alone, ONE, required=1)
    assert (findings(verdict), verdict.time) == ([], "asserted")
    assert "0 of 0" in verdict.step("log.cosignatures").detail


def test_a_statement_that_did_not_verify_was_seen_by_nobody(shown: Shown) -> None:
    head = shown.deployment.head()
    bundle = shown.with_cosigned(ONE.on(head))
    broken = replace(bundle.close, statement=b"{}")  # type: ignore[type-var]
    verdict = shown.verdict(replace(bundle, close=broken), ONE)
    assert verdict.time == "asserted"
    assert "3 of 4 statements" in verdict.step("log.cosignatures").detail


def test_a_proof_that_leads_elsewhere_proves_nothing(shown: Shown) -> None:
    shown.grow()
    bundle = shown.with_cosigned(ONE.on(shown.deployment.head()))
    bad = [
        cose.assemble_consistency(p.protected, p.signature, p.old_size, p.tree_size, [bytes(32), *p.path[1:]])
        for p in map(cose.parse_consistency, bundle.consistency)
    ]
    verdict = shown.verdict(replace(bundle, consistency=(b"\xd2", *bad)), ONE)
    assert verdict.time == "asserted"
    # Behind what proves nothing, another one may.
    verdict = shown.verdict(replace(bundle, consistency=(b"\xd2", *bad, *bundle.consistency)), ONE)
    assert verdict.time == "witnessed"


def test_another_instance_s_heads(shown: Shown) -> None:
    other = Deployment(machine=Machine(tpm=FakeTpm(label="other")))
    other.append(b"a leaf")
    verdict = shown.verdict(shown.with_cosigned(ONE.on(other.head())), ONE)
    assert findings(verdict) == ["log.cosignatures.kid"]


def unsigned(head: bytes) -> bytes:
    parsed = cose.parse_head(head)
    return cose.assemble_head(parsed.protected, parsed.root, bytes(63) + b"\x01")
