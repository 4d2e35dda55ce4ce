"""Which model a name means."""

from __future__ import annotations

import pytest

from rlu_server.core.names import AliasRefused, Names

ALIASES = {
    "gpt-5-codex": "big",
    "claude-*": "big",
    "claude-haiku-*": "small",
    "claude-haiku-4-5": "big",
}


@pytest.mark.parametrize(
    ("asked", "model"),
    [
        ("big", "big"),
        ("small", "small"),
        ("gpt-5-codex", "big"),
        ("claude-sonnet-4-5", "big"),
        ("claude-haiku-3", "small"),
        ("claude-haiku-4-5", "big"),
        ("claude-", "big"),
        ("claude", None),
        ("gpt-5-codex-mini", None),
        ("", None),
        ("Big", None),
        ("claude-*", "big"),
        ("claude-" + "x" * 500, None),
    ],
)
def test_names(asked: str, model: str | None) -> None:
    assert Names.of(["big", "small"], ALIASES).get(asked) == model


def test_what_is_listed() -> None:
    assert Names.of(["big", "small"], ALIASES).listed == ("big", "small", "gpt-5-codex", "claude-haiku-4-5")
    assert Names.of(["big", "small"], ALIASES, list_aliases=False).listed == ("big", "small")


@pytest.mark.parametrize(
    ("served", "aliases", "message"),
    [
        (["a"], {"x": "b"}, "the alias x stands for b, which is not served; served are a"),
        (["a"], {"x": "y", "y": "a"}, "the alias x stands for y, which is not served; served are a"),
        (["a", "b"], {"b": "a"}, "the alias b is the name of a model that is served"),
        (["a", "a"], {}, "two models are named a"),
        (
            ["a"],
            {"*": "a"},
            "'*' cannot be an alias: a name, or the beginning of names with one * at its end",
        ),
        (["a"], {"": "a"}, "'' cannot be an alias: a name, or the beginning of names with one * at its end"),
        (
            ["a"],
            {"x*y": "a"},
            "'x*y' cannot be an alias: a name, or the beginning of names with one * at its end",
        ),
        (
            ["a"],
            {"x**": "a"},
            "'x**' cannot be an alias: a name, or the beginning of names with one * at its end",
        ),
        (
            ["a"],
            {"x\n": "a"},
            r"'x\n' cannot be an alias: a name, or the beginning of names with one * at its end",
        ),
    ],
)
def test_contradictions_refuse(served: list[str], aliases: dict[str, str], message: str) -> None:
    with pytest.raises(AliasRefused) as refused:
        Names.of(served, aliases)
    assert str(refused.value) == message


def test_all_that_is_wrong_is_told() -> None:
    with pytest.raises(AliasRefused) as refused:
        Names.of(["a", "a"], {"a": "a", "*": "a"})
    assert str(refused.value).split("; ") == [
        "two models are named a",
        "the alias a is the name of a model that is served",
        "'*' cannot be an alias: a name, or the beginning of names with one * at its end",
    ]
