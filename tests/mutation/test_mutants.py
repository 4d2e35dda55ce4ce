"""The mutation run finds what it says it finds, and every mutant is really another program."""

from __future__ import annotations

import ast

import pytest

from mutation.mutants import find
from mutation.scopes import EQUIVALENT, SCOPES

SOURCE = """
def check(trail, value, most):
    trail.check("step", lambda: value)
    if value is None or value > most:
        raise Untrusted("code", "message")
    if not 0 <= value < most:
        raise Refused("code", "message")
    return value

def accepts(value) -> bool:
    if value is None:
        return False
    return value >= 3
"""


def test_every_kind_of_change_is_found() -> None:
    found = [(mutant.kind, mutant.shown) for mutant in find("module", SOURCE)]
    assert sorted(found) == sorted(
        [
            ("drop-step", "trail.check('step', lambda: value)"),
            ("drop-raise", "raise Untrusted('code', 'message')"),
            ("drop-raise", "raise Refused('code', 'message')"),
            ("negate", "value is None or value > most"),
            ("negate", "not 0 <= value < most"),
            ("drop-operand", "value is None"),
            ("drop-operand", "value > most"),
            ("boundary", "value > most"),
            ("boundary", "0 <= value < most"),
            ("boundary", "0 <= value < most"),
            ("boundary", "value >= 3"),
            ("return-true", "value >= 3"),
        ]
    )


def test_every_mutant_is_another_program_and_differs_in_one_place() -> None:
    original = ast.unparse(ast.parse(SOURCE)).splitlines()
    texts = [ast.unparse(mutant.build()) for mutant in find("module", SOURCE)]
    assert len(set(texts)) == len(texts)
    for text in texts:
        compile(text, "mutant", "exec")
        changed = [pair for pair in zip(original, text.splitlines(), strict=True) if pair[0] != pair[1]]
        assert len(changed) == 1


def test_the_line_of_a_raise_is_the_most_telling_one() -> None:
    negated = next(mutant for mutant in find("module", SOURCE) if mutant.kind == "negate")
    assert [SOURCE.splitlines()[line - 1].split()[0] for line in negated.lines] == ["raise", "if"]


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_names_sources_and_tests_that_exist(scope: str) -> None:
    from mutation.run import ROOT, SOURCES

    sources, tests = SCOPES[scope]
    assert all(list(SOURCES.glob(pattern)) for pattern in sources.split())
    assert all((ROOT / "tests" / "attestation" / test).exists() for test in tests.split())


def test_what_is_called_equivalent_is_still_there() -> None:
    from mutation.run import SOURCES, _module

    files = {
        path
        for sources, _ in SCOPES.values()
        for pattern in sources.split()
        for path in SOURCES.glob(pattern)
    }
    found = [m for path in sorted(files) for m in find(_module(path), path.read_text("utf-8"))]
    for module, kind, text in EQUIVALENT:
        assert [m for m in found if m.module.endswith(module) and m.kind == kind and text in m.shown], text
