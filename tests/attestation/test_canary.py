"""Reports of canary tests: what they may say, what the result is, and that nothing else gets through."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.canary import CLEAN, findings
from fakes.deployment import AT, Deployment, verdict_of
from fakes.deployment import findings as failed
from rlu_attestation import canary, canonical, jose, policy_file
from rlu_attestation.canary import EXCHANGES, FAULTS, PLACES, CanaryReport, Findings
from rlu_attestation.errors import Malformed, RluError, Untrusted
from rlu_attestation.explain import explain
from rlu_attestation.instance import InstanceClaims, profile_digest
from rlu_attestation.mentions import CanaryMention
from rlu_attestation.policy import CanaryRule

DEPLOYMENT = Deployment()


def report(found: Findings) -> str:
    made = CanaryReport(DEPLOYMENT.jwk, AT, found)
    return jose.jws_assemble(made.signing_input(), DEPLOYMENT.sign(made.signing_input()))


REPORT = report(findings())


def test_one_is_read_as_it_was_made() -> None:
    read = canary.verify(REPORT)
    assert read.findings.to_json() == findings(began=read.findings.began, ended=read.findings.ended).to_json()
    assert canary.peek(REPORT) == read
    assert canary.mention(REPORT) == CanaryMention(canary.digest(REPORT), AT, "clean")
    assert Findings.read(read.findings.to_json()) == read.findings


def without(names: tuple[str, ...], name: str) -> dict[str, int]:
    return {one: 1 for one in names if one != name}


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({}, "clean"),
        ({"places": {**dict.fromkeys(PLACES, CLEAN), "swap": replace(CLEAN, leaks=1)}}, "leak"),
        ({"places": {**dict.fromkeys(PLACES, CLEAN), "swap": replace(CLEAN, searched=False)}}, "incomplete"),
        ({"places": {**dict.fromkeys(PLACES, CLEAN), "disk": replace(CLEAN, found=27)}}, "incomplete"),
        ({"places": {"disk": replace(CLEAN, leaks=1, searched=False)}}, "leak"),
        ({"markers": 0}, "incomplete"),
        ({"returned": 0}, "incomplete"),
        ({"tokens": False}, "incomplete"),
        *[({"places": {p: CLEAN for p in PLACES if p != name}}, "incomplete") for name in PLACES],
        *[
            (
                {"places": {**dict.fromkeys(PLACES, CLEAN), name: replace(CLEAN, planted=0, found=0)}},
                "clean" if name in ("journal", "kernel_log", "swap") else "incomplete",
            )
            for name in PLACES
        ],
        *[({"exchanges": without(EXCHANGES, name)}, "incomplete") for name in EXCHANGES],
        *[({"faults": without(FAULTS, name)}, "incomplete") for name in FAULTS],
    ],
)
def test_the_result_follows_from_the_numbers(changes: dict[str, Any], result: str) -> None:
    assert findings(**changes).result == result
    assert canary.verify(report(findings(**changes))).findings.result == result


def changed(edit: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    value = json.loads(canonical.encode(findings().to_json()))
    edit(value)
    return dict(value)


@pytest.mark.parametrize(
    "edit",
    [
        lambda v: v["rlu_canary"].update(result="leak"),
        lambda v: v["rlu_canary"].update(note="the operator's own words"),
        lambda v: v.update(note="the operator's own words"),
        lambda v: v["rlu_canary"]["exchanges"].update({"the operator's own words": 1}),
        lambda v: v["rlu_canary"]["faults"].update({"the operator's own words": 1}),
        lambda v: v["rlu_canary"]["places"].update({"elsewhere": v["rlu_canary"]["places"]["disk"]}),
        lambda v: v["rlu_canary"]["places"]["disk"].update(items="many"),
        lambda v: v["rlu_canary"]["places"]["disk"].update(searched=1),
        lambda v: v["rlu_canary"].update(seed=-1),
        lambda v: v["rlu_canary"].update(markers=True),
        lambda v: v["rlu_model"].update(name="the operator's own words"),
        lambda v: v["rlu_model"].update(manifest_sha256="AAAA"),
        lambda v: v["rlu_engine"].pop("arguments_sha256"),
        lambda v: v.pop("rlu_gateway"),
    ],
)
def test_whatever_else_is_in_it_refuses(edit: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(Malformed) as caught:
        Findings.read(changed(edit))
    assert caught.value.code == "statement.claims"


def test_another_signature_refuses() -> None:
    made = CanaryReport(DEPLOYMENT.jwk, AT, findings())
    wrong = jose.jws_assemble(made.signing_input(), DEPLOYMENT.sign(b"something else"))
    with pytest.raises(Untrusted) as caught:
        canary.verify(wrong)
    assert caught.value.code == "canary.signature"


def test_another_type_of_statement_refuses() -> None:
    with pytest.raises(Malformed) as caught:
        canary.verify(jose.jws_assemble(jose.jws_signing_input(bytes(32), b"{}"), bytes(64)))
    assert caught.value.code == "canary.encoding"


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.text(max_size=200),
        st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True),
        st.integers(0, len(REPORT) - 1).map(lambda at: REPORT[:at] + REPORT[at + 1 :]),
    )
)
def test_arbitrary_text_raises_only_our_errors(text: str) -> None:
    with pytest.raises(RluError):
        canary.verify(text)


def test_people_can_read_one() -> None:
    shown = explain(REPORT.encode())
    assert shown.title == "Report of a canary test"
    assert [part.title for part in shown.parts] == sorted(PLACES, key=PLACES.index)


def test_an_instance_statement_names_it_and_stays_the_instance() -> None:
    plain = DEPLOYMENT.instance_claims()
    naming = replace(plain, canary=canary.mention(REPORT))
    assert "rlu_canary_report" not in plain.to_json()
    assert InstanceClaims.parse(naming.encode()) == naming
    assert profile_digest(naming.to_json()) == profile_digest(plain.to_json()), (
        "no session ends because a test was made"
    )
    with pytest.raises(Malformed):
        InstanceClaims.parse(naming.encode().replace(b'"result":"clean"', b'"result":"fine!"'))


DAY = 86400
SKEW = Deployment().policy().clock_skew_s


@pytest.mark.parametrize(
    ("mention", "rule", "code"),
    [
        (None, None, None),
        (CanaryMention(bytes(32), AT, "leak"), None, None),
        (None, CanaryRule(DAY), "policy.canary.absent"),
        (CanaryMention(bytes(32), AT - DAY, "clean"), CanaryRule(DAY), None),
        (CanaryMention(bytes(32), AT - DAY - SKEW, "clean"), CanaryRule(DAY), None),
        (CanaryMention(bytes(32), AT - DAY - SKEW - 1, "clean"), CanaryRule(DAY), "policy.canary.age"),
        (CanaryMention(bytes(32), AT + SKEW, "clean"), CanaryRule(DAY), None),
        (CanaryMention(bytes(32), AT + SKEW + 1, "clean"), CanaryRule(DAY), "policy.canary.future"),
        (CanaryMention(bytes(32), AT, "incomplete"), CanaryRule(DAY), "policy.canary.mismatch"),
        (
            CanaryMention(bytes(32), AT, "leak"),
            CanaryRule(DAY, frozenset({"clean", "incomplete"})),
            "policy.canary.mismatch",
        ),
        (
            CanaryMention(bytes(32), AT, "incomplete"),
            CanaryRule(DAY, frozenset({"clean", "incomplete"})),
            None,
        ),
    ],
)
def test_a_policy_demands_a_test(
    mention: CanaryMention | None, rule: CanaryRule | None, code: str | None
) -> None:
    deployment = Deployment()
    statement, evidence = deployment.attestation(canary=mention)
    bundle = replace(
        deployment.bundle(), statement=statement, evidence=evidence, session=None, exchanges=(), close=None
    )
    bundle = replace(bundle, commitment_key=None)
    verdict = verdict_of(deployment, bundle, deployment.policy(canary=rule, require=frozenset({"instance"})))
    assert failed(verdict) == ([] if code is None else [code])
    assert any(step.id == "policy.canary" for step in verdict.steps) == (rule is not None)


def test_the_rule_in_a_file() -> None:
    def rule(text: str) -> CanaryRule | None:
        return policy_file.parse(f"version = 1\n{text}".encode(), lambda name: b"").canary

    assert rule("") is None
    assert rule("[canary]") == CanaryRule(30 * DAY)
    assert rule('[canary]\nmax_age_days = 90\nresults = ["clean", "incomplete"]') == CanaryRule(
        90 * DAY, frozenset({"clean", "incomplete"})
    )
    for text, code in (
        ("[canary]\nmax_age_days = 0", "policy.value"),
        ('[canary]\nresults = ["fine"]', "policy.value"),
        ("[canary]\nmax_age_s = 5", "policy.unknown_key"),
    ):
        with pytest.raises(RluError) as caught:
            rule(text)
        assert caught.value.code == code
