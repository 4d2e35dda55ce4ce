"""Steps 8, 9 and 12: the session and the log, one thing wrong at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes.deployment import AT, KEY, NONCE, SESSION, SPKI, Deployment, content, findings, request, verdict_of
from rlu_attestation import cose
from rlu_attestation.bundle import Bundle, Logged
from rlu_attestation.channel import Channel
from rlu_attestation.commitment import Tag
from rlu_attestation.encoding import b64u
from rlu_attestation.merkle import Tree, leaf_hash
from rlu_attestation.verdict import Outcome, Result


@pytest.fixture
def deployment() -> Deployment:
    return Deployment()


def session_only(deployment: Deployment, **changes: Any) -> Bundle:
    """A session without exchanges."""
    bundle = deployment.bundle(0, session=changes)
    return replace(bundle, close=None)


def signed(deployment: Deployment, statement: bytes, **changes: Any) -> Logged:
    """A statement in the log under a head with other fields than it should have."""
    index = deployment.append(statement)
    return deployment.logged(index, **changes)


def test_the_session_alone(deployment: Deployment) -> None:
    verdict = verdict_of(deployment, session_only(deployment))
    assert verdict.result is Result.VERIFIED
    assert verdict.covers == ("instance", "session")


@pytest.mark.parametrize(
    ("name", "changes", "code"),
    [
        ("another-instance", {"issuer": "urn:rlu:instance:another"}, "session.instance.issuer"),
        ("another-state", {"instance": bytes(32)}, "session.instance.profile"),
        ("another-nonce", {"nonce": bytes(16)}, "session.nonce.mismatch"),
        ("another-channel", {"channel": Channel("gateway-memory", bytes(32))}, "session.channel.mismatch"),
        ("another-origin", {"channel": Channel("provisioned", SPKI)}, "session.channel.mismatch"),
        ("another-key", {"commitment_key": bytes(32)}, "session.commitment_key.mismatch"),
        ("from-the-future", {"issued_at": AT + 61}, "session.time.future"),
        ("expired", {"expires_at": AT - 61, "issued_at": AT - 100}, "session.time.expired"),
        ("never-in-force", {"expires_at": AT - 8}, "session.time.window"),
    ],
)
def test_a_session_that_is_wrong_in_one_thing(
    deployment: Deployment, name: str, changes: dict[str, Any], code: str
) -> None:
    verdict = verdict_of(deployment, session_only(deployment, **changes))
    assert findings(verdict) == [code], name
    assert verdict.exit_code == 10


@pytest.mark.parametrize("changes", [{"issued_at": AT + 60}, {"expires_at": AT - 60, "issued_at": AT - 100}])
def test_clocks_may_differ_a_little(deployment: Deployment, changes: dict[str, Any]) -> None:
    assert findings(verdict_of(deployment, session_only(deployment, **changes))) == []


def test_a_session_opened_before_a_renewal_still_matches(deployment: Deployment) -> None:
    # Another nonce, other times, another start of the attestor: the instance itself has not changed.
    opened = deployment.bundle(1)
    statement, evidence = deployment.attestation(nonce=bytes(16), issued_at=AT - 5, start_count=9)
    later = replace(opened, statement=statement, evidence=evidence)
    verdict = verdict_of(deployment, later, nonce=bytes(16))
    assert findings(verdict) == ["session.nonce.mismatch"]


def test_a_statement_that_the_log_does_not_hold(deployment: Deployment) -> None:
    bundle = session_only(deployment)
    assert bundle.session is not None
    other = deployment.session_statement(tenant="mallory").encode()
    verdict = verdict_of(deployment, replace(bundle, session=replace(bundle.session, statement=other)))
    assert findings(verdict) == ["session.inclusion.invalid"]
    assert verdict.step("session.statement").code == "session.statement.not_checked"


def test_nothing_is_read_from_a_statement_that_is_not_signed(deployment: Deployment) -> None:
    bundle = session_only(deployment)
    assert bundle.session is not None
    verdict = verdict_of(deployment, replace(bundle, session=replace(bundle.session, statement=b"garbage")))
    assert findings(verdict) == ["session.inclusion.invalid"]


def test_a_signed_statement_of_another_kind(deployment: Deployment) -> None:
    bundle = session_only(deployment)
    logged = signed(deployment, deployment.close_statement(b"", []).encode())
    verdict = verdict_of(deployment, replace(bundle, session=logged, head=None))
    assert findings(verdict) == ["session.statement.claims"]
    assert verdict.exit_code == 30


@pytest.mark.parametrize(
    ("name", "changes", "code"),
    [
        ("another-kid", {"kid": bytes(32)}, "session.inclusion.kid"),
        ("another-issuer", {"issuer": "urn:rlu:instance:another"}, "session.inclusion.issuer"),
        ("from-the-future", {"iat": AT + 61}, "session.inclusion.future"),
    ],
)
def test_a_head_that_is_wrong_in_one_thing(
    deployment: Deployment, name: str, changes: dict[str, Any], code: str
) -> None:
    bundle = session_only(deployment)
    logged = signed(deployment, deployment.session_statement().encode(), **changes)
    verdict = verdict_of(deployment, replace(bundle, session=logged, head=None))
    assert findings(verdict) == [code], name


def test_a_heads_clock_may_differ_a_little(deployment: Deployment) -> None:
    bundle = session_only(deployment)
    logged = signed(deployment, deployment.session_statement().encode(), iat=AT + 60)
    assert findings(verdict_of(deployment, replace(bundle, session=logged, head=None))) == []


def test_a_head_that_another_key_signed(deployment: Deployment) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    from cryptography.hazmat.primitives.hashes import SHA256

    bundle = session_only(deployment)
    other = ec.generate_private_key(ec.SECP256R1())

    def forge(message: bytes) -> bytes:
        r, s = utils.decode_dss_signature(other.sign(message, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    deployment.sign = forge
    logged = signed(deployment, deployment.session_statement().encode())
    verdict = verdict_of(deployment, replace(bundle, session=logged, head=None))
    assert findings(verdict) == ["session.inclusion.invalid"]


def test_a_path_of_the_wrong_length(deployment: Deployment) -> None:
    bundle = session_only(deployment)
    assert bundle.session is not None
    receipt = cose.parse_inclusion(bundle.session.receipt)
    longer = cose.assemble_inclusion(
        receipt.protected,
        receipt.signature,
        receipt.tree_size,
        receipt.leaf_index,
        (*receipt.path, bytes(32)),
    )
    verdict = verdict_of(deployment, replace(bundle, session=replace(bundle.session, receipt=longer)))
    assert findings(verdict) == ["session.inclusion.proof"]
    assert verdict.exit_code == 30


def test_garbage_for_a_receipt(deployment: Deployment) -> None:
    bundle = session_only(deployment)
    assert bundle.session is not None
    verdict = verdict_of(deployment, replace(bundle, session=replace(bundle.session, receipt=b"garbage")))
    assert findings(verdict) == ["session.inclusion.encoding"]
    assert verdict.exit_code == 30


# --- 9 commitment key and opening request -------------------------------------------------------------------------------


def test_without_the_commitment_key_receipts_cannot_be_compared(deployment: Deployment) -> None:
    bundle = replace(deployment.bundle(1), commitment_key=None)
    verdict = verdict_of(deployment, bundle)
    assert findings(verdict) == ["session.commitment_key.absent"]
    assert verdict.step("receipt.request", "exchange 1").code == "receipt.request.not_checked"
    # A waiver of the key alone does not reach what builds on it.
    policy = deployment.policy(waivers={"session.commitment_key": "an auditor has none"})
    verdict = verdict_of(deployment, bundle, policy)
    assert verdict.exit_code == 10
    assert {step.id for step in verdict.failures} == {
        "receipt.request",
        "receipt.forwarded",
        "receipt.response",
    }
    steps = ("session.commitment_key", "receipt.request", "receipt.forwarded", "receipt.response")
    policy = deployment.policy(waivers=dict.fromkeys(steps, "an auditor has none"))
    assert verdict_of(deployment, bundle, policy).exit_code == 11


def implicit(deployment: Deployment, **changes: Any) -> Bundle:
    opening = content(Tag.OPENING, request(1), 0)
    return deployment.bundle(2, session={"nonce": None, "opening": opening, **changes})


IMPLICIT = {"session.nonce": "agents open sessions implicitly"}


def test_an_implicit_session_is_waived_at_best(deployment: Deployment) -> None:
    bundle = implicit(deployment)
    assert findings(verdict_of(deployment, bundle)) == ["session.nonce.absent"]
    verdict = verdict_of(deployment, bundle, deployment.policy(waivers=IMPLICIT))
    assert verdict.exit_code == 11
    assert verdict.step("session.opening").outcome is Outcome.PASSED


def test_an_implicit_session_opened_by_another_request(deployment: Deployment) -> None:
    other = content(Tag.OPENING, b"another request", 0)
    verdict = verdict_of(deployment, implicit(deployment, opening=other), deployment.policy(waivers=IMPLICIT))
    assert findings(verdict) == ["session.opening.mismatch"]


def test_an_implicit_session_that_names_no_opening_request(deployment: Deployment) -> None:
    verdict = verdict_of(deployment, implicit(deployment, opening=None), deployment.policy(waivers=IMPLICIT))
    assert findings(verdict) == ["session.opening.missing"]


def test_an_opening_request_that_is_not_here(deployment: Deployment) -> None:
    bundle = implicit(deployment)
    bare = replace(bundle, exchanges=tuple(replace(e, request=None) for e in bundle.exchanges))
    assert "session.opening.absent" in findings(verdict_of(deployment, bare))
    waivers = dict.fromkeys(
        ("session.nonce", "session.opening", "receipt.request", "receipt.forwarded"), "contents are not kept"
    )
    assert verdict_of(deployment, bare, deployment.policy(waivers=waivers)).exit_code == 11


# --- 12 log -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "code"),
    [
        ("another-kid", {"kid": bytes(32)}, "log.head.kid"),
        ("another-issuer", {"issuer": "urn:rlu:instance:another"}, "log.head.issuer"),
        ("from-the-future", {"iat": AT + 61}, "log.head.future"),
    ],
)
def test_a_latest_head_that_is_wrong_in_one_thing(
    deployment: Deployment, name: str, changes: dict[str, Any], code: str
) -> None:
    bundle = deployment.bundle(1)
    verdict = verdict_of(deployment, replace(bundle, head=deployment.head(**changes)))
    assert findings(verdict) == [code], name


def test_a_latest_head_that_is_older_than_a_receipt(deployment: Deployment) -> None:
    bundle = deployment.bundle(1)
    older = deployment.head(deployment.tree.size - 1)
    assert findings(verdict_of(deployment, replace(bundle, head=older))) == ["log.head.stale"]


def test_a_latest_head_with_another_signature(deployment: Deployment) -> None:
    bundle = deployment.bundle(1)
    assert bundle.head is not None
    head = cose.parse_head(bundle.head)
    forged = cose.assemble_head(head.protected, bytes(32), head.signature)
    assert findings(verdict_of(deployment, replace(bundle, head=forged))) == ["log.head.invalid"]
    verdict = verdict_of(deployment, replace(bundle, head=b"garbage"))
    assert findings(verdict) == ["log.head.encoding"]


def test_without_a_head_there_is_nothing_to_check(deployment: Deployment) -> None:
    verdict = verdict_of(deployment, replace(deployment.bundle(1), head=None))
    assert verdict.result is Result.VERIFIED
    assert verdict.step("log.head").outcome is Outcome.NOT_APPLICABLE


def test_a_head_without_a_session_is_checked(deployment: Deployment) -> None:
    bundle = deployment.bundle(1)
    alone = replace(bundle, session=None, commitment_key=None, exchanges=(), close=None)
    assert verdict_of(deployment, alone).step("log.head").outcome is Outcome.PASSED
    assert findings(verdict_of(deployment, replace(alone, head=deployment.head(kid=bytes(32))))) == [
        "log.head.kid"
    ]


def test_two_roots_for_one_size_are_a_fork(deployment: Deployment) -> None:
    bundle = deployment.bundle(1)
    fork = Tree()
    for statement in deployment.leaves[:-1]:
        fork.append(leaf_hash(statement))
    fork.append(leaf_hash(b"another last entry"))
    protected = deployment.protected(fork.size)
    other = cose.assemble_head(
        protected, fork.root(), deployment.sign(cose.signature_input(protected, fork.root()))
    )
    assert findings(verdict_of(deployment, replace(bundle, head=other))) == ["log.heads.fork"]


def test_two_statements_in_one_place_are_a_fork(deployment: Deployment) -> None:
    """The operator shows one client one log, and swaps an entry later: both heads are genuine, of different sizes."""
    bundle = deployment.bundle(1)
    assert bundle.close is not None
    opened = deployment.leaves[1]
    fork = Deployment(machine=deployment.machine)
    fork.append(b"somebody else's session")
    fork.append(opened)
    # In this history the close stands where the receipt was.
    index = fork.append(deployment.leaves[4])
    fork.append(b"one more")
    fork.append(b"and one more")
    fork.append(b"and another")
    moved = fork.logged(index)
    verdict = verdict_of(deployment, replace(bundle, close=moved, head=None))
    assert findings(verdict) == ["close.running.order", "log.heads.fork"]


def test_a_receipt_in_the_place_of_its_session_is_a_fork(deployment: Deployment) -> None:
    bundle = deployment.bundle(1)
    fork = Deployment(machine=deployment.machine)
    fork.append(b"somebody else's session")
    index = fork.append(bundle.exchanges[0].logged.statement)
    fork.append(b"one more")
    moved = replace(bundle.exchanges[0], logged=fork.logged(index))
    verdict = verdict_of(deployment, replace(bundle, exchanges=(moved,), close=None, head=None))
    assert findings(verdict) == ["log.heads.fork", "receipt.session.order"]


def test_the_constants_of_this_file_are_those_of_the_deployment() -> None:
    assert len(KEY) == len(NONCE) == 32
    assert b64u(bytes(range(16))) == SESSION
