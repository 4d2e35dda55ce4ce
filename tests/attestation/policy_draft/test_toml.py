"""What a hostile server names cannot end a line of a draft: every text comes back from a TOML parser as it went in."""

from __future__ import annotations

import pytest
import tomllib
from hypothesis import given, settings
from hypothesis import strategies as st

from rlu_attestation.policy_draft import toml

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@settings(max_examples=150)
@given(TEXTS, TEXTS, TEXTS, st.lists(TEXTS, max_size=12))
def test_texts_come_back(name: str, value: str, words: str, values: list[str]) -> None:
    out = toml.Writer()
    out.comment(words)
    out.suggested([f"x = {toml.text(value)}"], words)
    out.table("table", name)
    out.rule(name, toml.text(value), words)
    out.rule(f"{name}2", toml.array(values))
    assert tomllib.loads(str(out)) == {"table": {name: {name: value, f"{name}2": values}}}


@pytest.mark.parametrize("value", [True, False, 0, -7, 2**40, "text"])
def test_values(value: toml.Value) -> None:
    found = tomllib.loads(f"a = {toml.value_of(value)}")["a"]
    assert (found, type(found)) == (value, type(value))


def test_long_arrays_have_a_line_for_each_value() -> None:
    text = toml.array(["x" * 60, "y" * 60])
    assert text.count("\n") == 3
    assert tomllib.loads(f"a = {text}") == {"a": ["x" * 60, "y" * 60]}


@pytest.mark.parametrize("text", ["\n[trust]\nunsafe = true", "\r", "\u2028x", "\x00", "\x7f", "\x85"])
def test_comments_stay_comments(text: str) -> None:
    out = toml.Writer()
    out.comment(f"From: {text}")
    assert all(line.startswith("#") for line in str(out).splitlines())
