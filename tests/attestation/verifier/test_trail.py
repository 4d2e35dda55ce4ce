"""The trail: every outcome, codes that begin with their step, and dependencies that are named."""

from __future__ import annotations

from typing import NoReturn

import pytest

from rlu_attestation.errors import Malformed, Refused, RluError, Unsupported, Untrusted
from rlu_attestation.verdict import Blame, Outcome
from rlu_attestation.verifier.trail import Failed, NotApplicable, NotMade, Trail, Waived, need

STEP = "channel"


def raising(error: Exception) -> NoReturn:
    raise error


def test_a_check_that_passes_gives_its_value_and_says_what_it_proves() -> None:
    trail = Trail({})
    assert trail.check(STEP, lambda: 7, lambda value: f"found {value}") == 7
    step = trail.steps[0]
    assert (step.outcome, step.detail, step.code) == (Outcome.PASSED, "found 7", "")
    assert step.proves
    assert step.to_json()["proves"] == step.proves


@pytest.mark.parametrize(
    ("error", "blame"),
    [
        (Malformed("channel.x", "m"), Blame.MALFORMED),
        (Untrusted("channel.x", "m"), Blame.UNTRUSTED),
        (Unsupported("channel.x", "m"), Blame.UNSUPPORTED),
        (Refused("channel.x", "m"), Blame.REFUSED),
        (RluError("channel.x", "m"), Blame.UNTRUSTED),
        (NotMade("channel.x", "m"), Blame.REFUSED),
    ],
)
def test_a_check_that_fails_is_blamed(error: RluError, blame: Blame) -> None:
    trail = Trail({})
    assert trail.check(STEP, lambda: raising(error)) == Failed(STEP)
    step = trail.steps[0]
    assert (step.outcome, step.code, step.detail, step.blame) == (Outcome.FAILED, "channel.x", "m", blame)
    assert "proves" not in step.to_json()


def test_an_error_that_is_not_ours_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        Trail({}).check(STEP, lambda: 1 // 0)


@pytest.mark.parametrize(
    ("step", "code", "shown"),
    [
        ("channel", "channel.mismatch", "channel.mismatch"),
        ("channel", "channel", "channel"),
        ("channel", "channels.x", "channel.x"),
        ("receipt.inclusion", "signature.invalid", "receipt.inclusion.invalid"),
        ("receipt.inclusion", "proof.inclusion", "receipt.inclusion.proof"),
        ("evidence.encoding", "x509.encoding", "evidence.encoding.x509"),
        ("session.statement", "statement.claims", "session.statement.claims"),
    ],
)
def test_a_code_begins_with_its_step(step: str, code: str, shown: str) -> None:
    trail = Trail({})
    trail.check(step, lambda: raising(Untrusted(code, "m")))
    assert trail.steps[0].code == shown


def test_what_depends_on_a_failure_is_not_made_and_says_on_which() -> None:
    trail = Trail({})
    first = trail.check("statement.encoding", lambda: raising(Malformed("statement.encoding", "m")))
    second = trail.check("statement.signature", lambda: need(first))
    third = trail.check("statement.time", lambda: need(second))
    assert third == Failed("statement.time")
    codes = [(step.code, step.blame) for step in trail.steps[1:]]
    assert codes == [
        ("statement.signature.not_checked", Blame.DEPENDENCY),
        ("statement.time.not_checked", Blame.DEPENDENCY),
    ]
    assert "statement.encoding did not pass" in trail.steps[1].detail
    assert "statement.signature did not pass" in trail.steps[2].detail


def test_only_what_could_not_be_made_is_waived() -> None:
    trail = Trail({STEP: "we pin the key elsewhere"})
    assert trail.check(STEP, lambda: raising(NotMade("channel.unknown", "nobody saw it"))) == Failed(
        STEP, waived=True
    )
    step = trail.steps[0]
    assert (step.outcome, step.code) == (Outcome.WAIVED, "channel.unknown")
    assert step.detail == "nobody saw it; waived by the policy: we pin the key elsewhere"
    for error in (Untrusted(STEP, "m"), Refused(STEP, "m"), Malformed(STEP, "m"), Unsupported(STEP, "m")):
        trail.check(STEP, lambda error=error: raising(error))  # type: ignore[misc]
        assert trail.steps[-1].outcome is Outcome.FAILED


def test_a_waiver_reaches_what_builds_on_it_only_by_name() -> None:
    trail = Trail({"channel": "why", "receipt.request": "because"})
    waived = trail.check("channel", lambda: raising(NotMade("channel.unknown", "m")))
    trail.check("receipt.request", lambda: need(waived))
    trail.check("receipt.response", lambda: need(waived))
    outcomes = [(step.outcome, step.code) for step in trail.steps[1:]]
    assert outcomes == [
        (Outcome.WAIVED, "receipt.request.not_checked"),
        (Outcome.FAILED, "receipt.response.not_checked"),
    ]
    assert "channel is waived" in trail.steps[1].detail


def test_a_dependency_on_a_failure_is_never_waived() -> None:
    trail = Trail({"receipt.request": "because"})
    failed = trail.check("channel", lambda: raising(Untrusted("channel.mismatch", "m")))
    trail.check("receipt.request", lambda: need(failed))
    assert trail.steps[1].outcome is Outcome.FAILED


def test_a_waiver_by_name_of_a_setting_keeps_its_value() -> None:
    trail = Trail({})
    assert trail.check(STEP, lambda: raising(Waived("channel.terminated", "pinned", 5))) == 5
    assert (trail.steps[0].outcome, trail.steps[0].code) == (Outcome.WAIVED, "channel.terminated")


def test_what_does_not_apply_is_listed() -> None:
    trail = Trail({})
    assert trail.check(STEP, lambda: raising(NotApplicable("no TLS")), subject="exchange 1") is None
    step = trail.steps[0]
    assert (step.outcome, step.detail, step.subject) == (Outcome.NOT_APPLICABLE, "no TLS", "exchange 1")
    assert step.to_json()["subject"] == "exchange 1"
