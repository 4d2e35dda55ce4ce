"""DESIGN.md names every step of the catalogue with its codes, and the codes that the verifier's own modules raise."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from rlu_attestation.catalogue import STEPS, WAIVABLE

ROOT = Path(__file__).resolve().parents[2] / "attestation"
TEXT = (ROOT / "DESIGN.md").read_text("utf-8")
BLAMES = {
    "Malformed",
    "Untrusted",
    "Refused",
    "Unsupported",
    "NotMade",
    "Waived",
    "Unreachable",
    "PolicyError",
    "Unproven",
    "Misuse",
    "InUse",
    "KeyFile",
    "Unusable",
}
SOURCES = (
    "verifier/*.py",
    "verifier/kinds/*.py",
    "policy_*.py",
    "policy_file.py",
    "files.py",
    "client.py",
    "log/[cfs]*.py",
    "log_client.py",
    "bundle.py",
    "cli/*.py",
    "clients/*.py",
    "connect/*.py",
    "explain/*.py",
)


def rows() -> dict[str, set[str]]:
    """Step to the codes of its row, complete."""
    found: dict[str, set[str]] = {}
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) != 2:
            continue
        steps = re.findall(r"`([a-z_.-]+)`", cells[0])
        if not steps or not set(steps) <= set(STEPS):
            continue
        for step in steps:
            codes = re.findall(r"`([a-z0-9_.-]+)`", cells[1])
            found[step] = {step + code if code.startswith(".") else code for code in codes}
    return found


def test_every_step_has_its_row() -> None:
    assert set(rows()) == set(STEPS)


def test_what_can_be_waived_is_marked() -> None:
    for line in TEXT.splitlines():
        steps = re.findall(r"`([a-z_.-]+)`", line.split("|")[1]) if line.startswith("| `") else []
        for step in set(steps) & set(STEPS):
            assert ("*`" in line) == (step in WAIVABLE), step


def test_every_code_that_is_written_out_in_the_code_is_documented() -> None:
    documented = {code for codes in rows().values() for code in codes} | set(
        re.findall(r"`([a-z_.-]+)`", TEXT)
    )
    internal = {"log.kid", "log.issuer", "log.future"}  # shown below the step that found them
    missing = set()
    for pattern in SOURCES:
        for path in (ROOT / "rlu_attestation").glob(pattern):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id in BLAMES
                    and node.args
                    and isinstance(node.args[0], ast.Constant)
                ):
                    missing.add(node.args[0].value)
    assert missing - documented - internal == set()
