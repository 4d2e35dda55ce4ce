"""Steps 10 and 11: receipts against bytes, and the close, one thing wrong at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes.deployment import AT, KEY, SESSION, Deployment, content, findings, request, response, verdict_of
from rlu_attestation.bundle import Bundle
from rlu_attestation.commitment import Tag
from rlu_attestation.encoding import b64u
from rlu_attestation.merkle import leaf_hash
from rlu_attestation.verdict import Outcome, Result

OTHER_SESSION = b64u(bytes(16))


@pytest.fixture
def deployment() -> Deployment:
    return Deployment()


def with_receipt(deployment: Deployment, **changes: Any) -> Bundle:
    """Two exchanges, the first with a receipt that was changed before it was signed."""
    return deployment.bundle(2, receipts={1: changes})


def with_content(bundle: Bundle, **changes: bytes | None) -> Bundle:
    """The first exchange with other bytes beside it."""
    first, *rest = bundle.exchanges
    return replace(bundle, exchanges=(replace(first, **changes), *rest))


@pytest.mark.parametrize(
    ("name", "changes", "codes"),
    [
        ("another-instance", {"issuer": "urn:rlu:instance:another"}, ["receipt.session.issuer"]),
        (
            "another-session",
            {"session": OTHER_SESSION},
            # The commitments are over the session's id too.
            [
                "receipt.forwarded.mismatch",
                "receipt.request.mismatch",
                "receipt.response.mismatch",
                "receipt.session.id",
            ],
        ),
        ("another-session-of-this-id", {"session_leaf": bytes(32)}, ["receipt.session.leaf"]),
        ("before-its-session", {"issued_at": AT - 8 - 61}, ["receipt.session.time"]),
        ("from-the-future", {"issued_at": AT + 61}, ["receipt.session.time"]),
        ("number-zero", {"seq": 0}, None),
    ],
)
def test_a_receipt_that_is_wrong_in_one_thing(
    deployment: Deployment, name: str, changes: dict[str, Any], codes: list[str] | None
) -> None:
    if codes is None:
        seq = changes["seq"]
        changes = changes | {
            "request": content(Tag.REQUEST, request(1), seq),
            "forwarded": content(Tag.FORWARDED, request(1), seq),
            "response": content(Tag.RESPONSE, response(1), seq),
        }
        codes = ["receipt.sequence.number"]
    verdict = verdict_of(deployment, with_receipt(deployment, **changes))
    assert findings(verdict) == codes, name
    assert verdict.exit_code == 10


@pytest.mark.parametrize("issued_at", [AT - 8 - 60, AT + 60])
def test_clocks_may_differ_a_little(deployment: Deployment, issued_at: int) -> None:
    assert findings(verdict_of(deployment, with_receipt(deployment, issued_at=issued_at))) == []


def test_a_receipt_logged_before_its_session(deployment: Deployment) -> None:
    opened = deployment.session_statement().encode()
    early = deployment.append(deployment.receipt_statement(leaf_hash(opened), 1).encode())
    bundle = deployment.bundle(0)
    exchange = replace(Deployment().bundle(1).exchanges[0], logged=deployment.logged(early))
    verdict = verdict_of(deployment, replace(bundle, exchanges=(exchange,), close=None, head=None))
    assert findings(verdict) == ["receipt.session.order"]


def test_a_statement_that_is_not_a_receipt(deployment: Deployment) -> None:
    bundle = deployment.bundle(1)
    assert bundle.close is not None
    exchange = replace(bundle.exchanges[0], logged=bundle.close)
    verdict = verdict_of(deployment, replace(bundle, exchanges=(exchange,)))
    assert findings(verdict) == ["receipt.statement.claims"]
    assert verdict.exit_code == 30


def test_a_receipt_that_the_log_does_not_hold(deployment: Deployment) -> None:
    bundle = deployment.bundle(1)
    first = bundle.exchanges[0]
    receipt = deployment.receipt_statement(leaf_hash(deployment.leaves[1]), 1, status="failed").encode()
    forged = replace(first, logged=replace(first.logged, statement=receipt))
    assert findings(verdict_of(deployment, replace(bundle, exchanges=(forged,)))) == [
        "receipt.inclusion.invalid"
    ]


# --- bytes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["request", "response"])
def test_other_bytes(deployment: Deployment, part: str) -> None:
    bundle = deployment.bundle(2)
    genuine = getattr(bundle.exchanges[0], part)
    swapped = bytes([genuine[0] ^ 1]) + genuine[1:]
    other = ["receipt.forwarded.mismatch"] if part == "request" else []
    verdict = verdict_of(deployment, with_content(bundle, **{part: swapped}))
    assert findings(verdict) == [*other, f"receipt.{part}.mismatch"]
    other = ["receipt.forwarded.size"] if part == "request" else []
    for cut in (genuine[:-1], genuine + b"x", b""):
        verdict = verdict_of(deployment, with_content(bundle, **{part: cut}))
        assert findings(verdict) == [*other, f"receipt.{part}.size"]


def test_request_and_response_are_not_interchangeable(deployment: Deployment) -> None:
    data = b"the same bytes"
    swapped = {"request": content(Tag.RESPONSE, data, 1), "response": content(Tag.REQUEST, data, 1)}
    bundle = with_receipt(deployment, **swapped, forwarded=None)
    verdict = verdict_of(deployment, with_content(bundle, request=data, response=data))
    assert findings(verdict) == ["receipt.request.mismatch", "receipt.response.mismatch"]


def test_a_commitment_of_another_exchange(deployment: Deployment) -> None:
    bundle = with_receipt(deployment, response=content(Tag.RESPONSE, response(1), 2))
    assert findings(verdict_of(deployment, bundle)) == ["receipt.response.mismatch"]


def test_a_commitment_under_another_key(deployment: Deployment) -> None:
    bundle = with_receipt(deployment, response=content(Tag.RESPONSE, response(1), 1, key=bytes(32)))
    assert findings(verdict_of(deployment, bundle)) == ["receipt.response.mismatch"]
    assert bytes(32) != KEY


@pytest.mark.parametrize("part", ["request", "response"])
def test_bytes_that_are_not_here(deployment: Deployment, part: str) -> None:
    bundle = with_content(deployment.bundle(2), **{part: None})
    missing = [f"receipt.{part}.absent"] + (["receipt.forwarded.absent"] if part == "request" else [])
    assert findings(verdict_of(deployment, bundle)) == sorted(missing)
    waivers = dict.fromkeys((f"receipt.{part}", "receipt.forwarded"), "contents are not kept")
    verdict = verdict_of(deployment, bundle, deployment.policy(waivers=waivers))
    assert verdict.exit_code == 11
    assert verdict.step(f"receipt.{part}", "exchange 1").outcome is Outcome.WAIVED
    assert verdict.step(f"receipt.{part}", "exchange 2").outcome is Outcome.PASSED


def test_a_rewritten_request_says_so_and_is_not_compared(deployment: Deployment) -> None:
    forwarded = content(Tag.FORWARDED, b"what the engine got", 1)
    bundle = with_receipt(deployment, forwarded=forwarded, rewritten=("cache_salt",))
    verdict = verdict_of(deployment, bundle)
    assert verdict.result is Result.VERIFIED
    step = verdict.step("receipt.forwarded", "exchange 1")
    assert step.outcome is Outcome.NOT_APPLICABLE
    assert "cache_salt" in step.detail


def test_a_rewritten_request_that_is_not_named(deployment: Deployment) -> None:
    forwarded = content(Tag.FORWARDED, request(1)[:-1] + b"!", 1)
    assert findings(verdict_of(deployment, with_receipt(deployment, forwarded=forwarded))) == [
        "receipt.forwarded.mismatch"
    ]


def test_a_request_that_was_not_forwarded(deployment: Deployment) -> None:
    bundle = with_receipt(deployment, forwarded=None, status="failed", http_status=400, usage=None)
    verdict = verdict_of(deployment, bundle)
    assert verdict.result is Result.VERIFIED
    assert verdict.step("receipt.forwarded", "exchange 1").outcome is Outcome.NOT_APPLICABLE
    assert verdict.step("receipt.statement", "exchange 1").detail.startswith("failed")


def test_a_receipt_of_a_lost_gateway_proves_no_bytes(deployment: Deployment) -> None:
    silent = {
        "request": None,
        "forwarded": None,
        "response": None,
        "status": "failed",
        "reason": "gateway_lost",
        "http_status": 0,
        "usage": None,
    }
    verdict = verdict_of(deployment, with_receipt(deployment, **silent))
    assert findings(verdict) == ["receipt.request.silent", "receipt.response.silent"]
    assert "gateway_lost" in verdict.step("receipt.request", "exchange 1").detail
    waivers = dict.fromkeys(("receipt.request", "receipt.response"), "the gateway was lost")
    again = Deployment()
    verdict = verdict_of(again, with_receipt(again, **silent), again.policy(waivers=waivers))
    assert verdict.exit_code == 11


@pytest.mark.parametrize("status", ["partial", "aborted", "failed"])
def test_a_receipt_for_a_cut_response_is_genuine_and_says_that_it_was_cut(
    deployment: Deployment, status: str
) -> None:
    verdict = verdict_of(deployment, with_receipt(deployment, status=status, reason="engine_lost"))
    assert verdict.result is Result.VERIFIED
    assert verdict.step("receipt.statement", "exchange 1").detail.startswith(f"{status} (engine_lost)")


# --- sequence -----------------------------------------------------------------------------------------------------------


def test_exchanges_may_end_in_another_order(deployment: Deployment) -> None:
    assert verdict_of(deployment, deployment.bundle(3, order=(3, 1, 2))).result is Result.VERIFIED


def test_a_number_used_twice(deployment: Deployment) -> None:
    second = {
        "seq": 1,
        "request": content(Tag.REQUEST, request(2), 1),
        "forwarded": content(Tag.FORWARDED, request(2), 1),
        "response": content(Tag.RESPONSE, response(2), 1),
    }
    bundle = deployment.bundle(2, receipts={2: second}, close={"last_seq": 1})
    assert findings(verdict_of(deployment, bundle)) == ["receipt.sequence.twice"]


def test_a_receipt_given_twice(deployment: Deployment) -> None:
    bundle = deployment.bundle(1)
    twice = replace(bundle, exchanges=bundle.exchanges * 2, close=None)
    assert findings(verdict_of(deployment, twice)) == ["receipt.sequence.twice"]


def test_one_place_in_the_log_under_two_numbers(deployment: Deployment) -> None:
    """Two statements cannot have one leaf; a forged index would need a forged head, and both are looked at."""
    from rlu_attestation.errors import Untrusted
    from rlu_attestation.verifier.context import VerifiedLeaf
    from rlu_attestation.verifier.exchanges import VerifiedExchange, verify_sequence

    bundle = deployment.bundle(2)
    from rlu_attestation import cose
    from rlu_attestation.statements import Receipt

    found = []
    for exchange in bundle.exchanges:
        receipt = cose.parse_inclusion(bundle.exchanges[0].logged.receipt)
        leaf = VerifiedLeaf(exchange.logged.statement, bytes(32), receipt, bytes(32))
        found.append(VerifiedExchange(Receipt.parse(exchange.logged.statement), leaf))
    with pytest.raises(Untrusted) as refusal:
        verify_sequence(found)
    assert refusal.value.code == "receipt.sequence.twice"


def test_a_missing_number_is_told(deployment: Deployment) -> None:
    bundle = deployment.bundle(3)
    some = replace(bundle, exchanges=bundle.exchanges[1:], close=None)
    assert verdict_of(deployment, some).step("receipt.sequence").detail == "2 of at least 3"


# --- 11 close -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "codes"),
    [
        ("another-instance", {"issuer": "urn:rlu:instance:another"}, ["close.session.issuer"]),
        ("another-session", {"session": OTHER_SESSION}, ["close.session.id"]),
        ("another-session-of-this-id", {"session_leaf": bytes(32)}, ["close.session.leaf"]),
        ("before-its-session", {"issued_at": AT - 8 - 61}, ["close.session.time"]),
        ("from-the-future", {"issued_at": AT + 61}, ["close.session.time"]),
        ("another-running-commitment", {"running": bytes(32)}, ["close.running.mismatch"]),
        ("fewer-receipts", {"count": 1}, ["close.running.count"]),
        ("more-receipts", {"count": 3}, ["close.running.partial"]),
        ("another-last-number", {"last_seq": 1}, ["close.running.last"]),
    ],
)
def test_a_close_that_is_wrong_in_one_thing(
    deployment: Deployment, name: str, changes: dict[str, Any], codes: list[str]
) -> None:
    verdict = verdict_of(deployment, deployment.bundle(2, close=changes))
    assert findings(verdict) == codes, name
    assert verdict.exit_code == 10


@pytest.mark.parametrize("issued_at", [AT - 8 - 60, AT + 60])
def test_the_closes_clock_may_differ_a_little(deployment: Deployment, issued_at: int) -> None:
    assert findings(verdict_of(deployment, deployment.bundle(1, close={"issued_at": issued_at}))) == []


def test_a_receipt_that_was_left_out_is_missed(deployment: Deployment) -> None:
    bundle = deployment.bundle(3)
    verdict = verdict_of(deployment, replace(bundle, exchanges=bundle.exchanges[:2]))
    assert findings(verdict) == ["close.running.partial"]
    assert "2 of 3" in verdict.step("close.running").detail
    policy = deployment.policy(waivers={"close.running": "a sample"})
    assert verdict_of(deployment, replace(bundle, exchanges=bundle.exchanges[:2]), policy).exit_code == 11


def test_a_receipt_that_was_replaced_is_missed(deployment: Deployment) -> None:
    """The operator logs a second, harmless receipt with the same number, and hands out that one."""
    bundle = deployment.bundle(2)
    harmless = deployment.receipt_statement(leaf_hash(deployment.leaves[1]), 2, blind=bytes(16)).encode()
    logged = deployment.logged(deployment.append(harmless))
    replaced = replace(bundle.exchanges[1], logged=logged)
    verdict = verdict_of(deployment, replace(bundle, exchanges=(bundle.exchanges[0], replaced), head=None))
    assert findings(verdict) == ["close.running.order"]


def test_a_number_without_a_receipt_is_a_gap(deployment: Deployment) -> None:
    skipping = {
        "seq": 3,
        "request": content(Tag.REQUEST, request(2), 3),
        "forwarded": content(Tag.FORWARDED, request(2), 3),
        "response": content(Tag.RESPONSE, response(2), 3),
    }
    bundle = deployment.bundle(2, receipts={2: skipping}, close={"last_seq": 3})
    verdict = verdict_of(deployment, bundle)
    assert findings(verdict) == ["close.running.gap"]
    assert "1 numbers" in verdict.step("close.running").detail


def test_a_session_that_was_closed_unused(deployment: Deployment) -> None:
    verdict = verdict_of(deployment, deployment.bundle(0))
    assert verdict.result is Result.VERIFIED
    assert verdict.covers == ("instance", "session", "close")


def test_a_close_logged_before_its_session(deployment: Deployment) -> None:
    opened = deployment.session_statement().encode()
    early = deployment.append(deployment.close_statement(opened, []).encode())
    bundle = deployment.bundle(0)
    verdict = verdict_of(deployment, replace(bundle, close=deployment.logged(early), head=None))
    assert findings(verdict) == ["close.session.order"]


def test_a_close_that_the_log_does_not_hold(deployment: Deployment) -> None:
    bundle = deployment.bundle(1)
    assert bundle.close is not None
    forged = replace(bundle.close, statement=b"garbage")
    assert findings(verdict_of(deployment, replace(bundle, close=forged))) == ["close.inclusion.invalid"]


def test_a_statement_that_is_not_a_close(deployment: Deployment) -> None:
    bundle = deployment.bundle(1)
    verdict = verdict_of(deployment, replace(bundle, close=bundle.exchanges[0].logged))
    assert findings(verdict) == ["close.statement.claims"]


def test_no_session_of_another_deployment_fits(deployment: Deployment) -> None:
    mine, other = deployment.bundle(1), Deployment(claims={"site": "rack-99"}).bundle(1)
    assert SESSION
    mixed = replace(mine, session=other.session, exchanges=other.exchanges, close=other.close, head=None)
    verdict = verdict_of(deployment, mixed)
    assert "session.instance.profile" in findings(verdict)
