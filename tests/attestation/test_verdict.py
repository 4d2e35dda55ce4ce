"""One exit code from many outcomes; nothing that failed or was waived ever ends as 0."""

from __future__ import annotations

import pytest

from rlu_attestation.verdict import Blame, Claim, Outcome, Result, Source, Step, Verdict

PASSED = Step(id="a", title="A", outcome=Outcome.PASSED, proves="p")
WAIVED = Step(id="b", title="B", outcome=Outcome.WAIVED, code="b.x", detail="d")
SKIPPED = Step(id="c", title="C", outcome=Outcome.NOT_APPLICABLE)


def failed(blame: Blame | None) -> Step:
    return Step(id="d", title="D", outcome=Outcome.FAILED, code="d.x", blame=blame)


def verdict(*steps: Step) -> Verdict:
    return Verdict(steps=steps, claims=(), covers=("instance",), at=0, freshness="none", policy=b"")


@pytest.mark.parametrize(
    ("steps", "result", "exit_code"),
    [
        ((PASSED,), Result.VERIFIED, 0),
        ((PASSED, SKIPPED), Result.VERIFIED, 0),
        ((PASSED, WAIVED), Result.WAIVED, 11),
        ((PASSED, failed(Blame.UNTRUSTED)), Result.REJECTED, 10),
        ((PASSED, failed(Blame.REFUSED)), Result.REJECTED, 10),
        ((PASSED, failed(Blame.MALFORMED)), Result.MALFORMED, 30),
        ((PASSED, failed(Blame.UNSUPPORTED)), Result.UNSUPPORTED, 20),
        ((PASSED, failed(Blame.DEPENDENCY)), Result.REJECTED, 10),
        ((PASSED, failed(None)), Result.REJECTED, 10),
        ((PASSED, WAIVED, failed(Blame.REFUSED)), Result.REJECTED, 10),
        ((failed(Blame.MALFORMED), failed(Blame.UNTRUSTED)), Result.REJECTED, 10),
        (
            (failed(Blame.UNSUPPORTED), failed(Blame.MALFORMED), failed(Blame.DEPENDENCY)),
            Result.MALFORMED,
            30,
        ),
        ((failed(Blame.UNSUPPORTED), failed(Blame.REFUSED)), Result.REJECTED, 10),
        ((), Result.REJECTED, 10),
        ((SKIPPED, WAIVED), Result.REJECTED, 10),
    ],
)
def test_the_result(steps: tuple[Step, ...], result: Result, exit_code: int) -> None:
    assert (verdict(*steps).result, verdict(*steps).exit_code) == (result, exit_code)


def test_sources_are_ordered() -> None:
    assert [s.value for s in Source] == ["hardware", "measured", "endorsed", "asserted"]
    assert Source.HARDWARE.at_least(Source.ASSERTED)
    assert Source.ENDORSED.at_least(Source.ENDORSED)
    assert not Source.ASSERTED.at_least(Source.ENDORSED)
    assert not Source.ENDORSED.at_least(Source.MEASURED)


def test_json_has_everything() -> None:
    found = Verdict(
        steps=(PASSED, WAIVED, failed(Blame.REFUSED)),
        claims=(Claim("region", "eu", Source.ENDORSED),),
        covers=("instance", "session"),
        at=17,
        freshness="verifier",
        policy=b"\x01\x02",
        emulated=True,
    ).to_json()
    assert found["result"] == "rejected"
    assert found["exit_code"] == 10
    assert (found["at"], found["time"], found["freshness"]) == (17, "asserted", "verifier")
    assert (found["policy_sha256"], found["emulated"]) == ("0102", True)
    assert found["claims"] == [{"name": "region", "value": "eu", "source": "endorsed"}]
    assert [step["outcome"] for step in found["steps"]] == ["passed", "waived", "failed"]
    assert found["steps"][1] == {"id": "b", "title": "B", "outcome": "waived", "code": "b.x", "detail": "d"}


def test_steps_are_found_by_id_and_subject() -> None:
    one = Step(id="a", title="A", subject="exchange 1", outcome=Outcome.PASSED)
    found = verdict(PASSED, one)
    assert found.step("a") is PASSED
    assert found.step("a", "exchange 1") is one
    with pytest.raises(KeyError):
        found.step("z")
    assert verdict(WAIVED).waivers == (WAIVED,)
