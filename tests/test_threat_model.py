"""The threat model names tests; these are they."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("SECURITY.md", "server/DESIGN.md")
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


@cache
def functions_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    return {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_tests_exist(document: str) -> None:
    found = NAMED.findall((ROOT / document).read_text())
    assert found
    for file, name in found:
        assert (ROOT / file).is_file(), file
        assert not name or (name.startswith("test_") and name in functions_of(ROOT / file)), f"{file}::{name}"


def test_every_cannot_names_a_test() -> None:
    """In the table of what each process can and cannot do."""
    text = (ROOT / "SECURITY.md").read_text()
    table = text.split("### Each process, if an attacker runs code in it")[1].split("\n\n")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    claims = [row for row in rows[2:] if row[2] != "–"]
    assert len(claims) >= 15
    for row in claims:
        assert NAMED.search(row[3]), row[2]
