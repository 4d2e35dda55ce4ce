"""Witnesses in a policy: whose cosignatures count, each once, and how many are required."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation import policy_file, policy_witnesses
from rlu_attestation.log.cosignature import WitnessKey
from rlu_attestation.policy import Policy, PolicyError
from rlu_attestation.policy_words import describe


def witness(name: str, number: int = 1) -> WitnessKey:
    return WitnessKey(name, bytes([number]) * 32)


ONE, TWO = witness("one.example"), witness("two.example", 2)


def parse(*texts: str, required: object = None) -> Policy:
    listed = ", ".join(f"'{text}'" for text in texts)
    times = "" if required is None else f"[time]\nwitnesses_required = {required}\n"
    return policy_file.parse(f"version = 1\n[trust]\nwitnesses = [{listed}]\n{times}".encode(), _nothing)


def _nothing(name: str) -> bytes:
    raise FileNotFoundError(name)


def refusal(*texts: str, required: object = None) -> str:
    with pytest.raises(PolicyError) as caught:
        parse(*texts, required=required)
    assert caught.value.code == "policy.value"
    return caught.value.message


def test_what_is_read() -> None:
    policy = parse(ONE.text, TWO.text, required=2)
    assert (policy.witnesses, policy.witnesses_required) == ((ONE, TWO), 2)
    assert parse(ONE.text).witnesses_required == 0
    words = {rule.name: rule.accepts for rule in describe(policy)}
    assert words["trust.witnesses"] == f"{ONE.text}; {TWO.text}"
    assert words["time.witnesses_required"] == "sessions that at least 2 of these witnesses saw"
    words = {rule.name: rule.accepts for rule in describe(Policy())}
    assert words["trust.witnesses"] == "none: no cosignature counts"
    assert words["time.witnesses_required"] == "sessions that no witness saw"


def test_one_key_is_one_witness() -> None:
    assert "one key twice" in refusal(ONE.text, ONE.text)
    assert "one key twice" in refusal(ONE.text, witness("another.example").text)


def test_no_more_are_required_than_there_are_names() -> None:
    changed = witness("one.example", 3)
    assert "is 2, and trust.witnesses names 1" in refusal(ONE.text, changed.text, required=2)
    assert "is 1, and trust.witnesses names 0" in refusal(required=1)
    assert parse(ONE.text, changed.text, required=1).witnesses_required == 1


@pytest.mark.parametrize("required", [-1, "true", "1.0", "'1'", 65])
def test_not_a_number_of_witnesses(required: object) -> None:
    assert "time.witnesses_required" in refusal(ONE.text, required=required)


def test_no_more_than_a_limit() -> None:
    many = [witness(f"{number}.example", number).text for number in range(policy_witnesses.MAX_WITNESSES + 1)]
    assert len(parse(*many[:-1]).witnesses) == policy_witnesses.MAX_WITNESSES
    assert "64 keys" in refusal(*many)


@pytest.mark.parametrize(
    "text", ["x", "one.example+00000000+BAAA", ONE.text.replace("one", "two"), f"{ONE.text} "]
)
def test_what_is_no_verifier_key(text: str) -> None:
    assert "trust.witnesses holds" in refusal(text)


@given(st.text(max_size=80))
def test_arbitrary_texts_raise_nothing_else(text: str) -> None:
    from rlu_attestation.policy_table import Table

    with suppress(PolicyError):
        policy_witnesses.witnesses(Table({"witnesses": [text]}, "trust"))
