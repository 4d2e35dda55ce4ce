"""`rlu explain` knows every step, every code that DESIGN.md documents, and every code that is written out in the verifier's code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from fakes.terminal import rlu
from rlu_attestation.catalogue import STEPS, WAIVABLE
from rlu_attestation.codes import TEXTS, UnknownCode, explain_code, known_codes
from rlu_attestation.codes.causes import CAUSES
from rlu_attestation.codes.outside import OUTSIDE

ROOT = Path(__file__).resolve().parents[2] / "attestation"
DESIGN = (ROOT / "DESIGN.md").read_text("utf-8")
VERIFIER = (
    "verifier/*.py",
    "verifier/kinds/*.py",
    "policy_*.py",
    "evidence/*/*.py",
    "tpm/*.py",
    "assemble/*.py",
    "x509.py",
    "crl.py",
)
INTERNAL = {
    "ek.key",
    "log.future",
    "log.issuer",
    "log.kid",
    "sev-snp.report_data.mismatch",
    "tdx.report_data.mismatch",
}
"""Shown below the step that found them, under its name."""
BLAMES = {"Malformed", "Untrusted", "Refused", "Unsupported", "NotMade", "Waived", "Incomplete"}


def documented() -> set[str]:
    """Codes of the table, complete, and those of the paragraph about codes outside a verdict."""
    found: set[str] = set()
    for line in DESIGN.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        steps = re.findall(r"`([a-z0-9_.-]+)`", cells[0]) if len(cells) == 2 else []
        if not steps or not set(steps) <= set(STEPS):
            continue
        causes = [
            cause for cause in re.findall(r"`([a-z0-9_.-]+)(?:\.…)?`", cells[1]) if cause.startswith(".")
        ]
        found |= {step + cause for step in steps for cause in ("", *causes)}
    paragraph = DESIGN.partition("Outside a verdict:")[2].partition("\n\n")[0]
    return found | set(re.findall(r"`([a-z0-9_.]+)`", paragraph))


def written() -> set[str]:
    """Codes that a refusal of the verifier names as a text."""
    found: set[str] = set()
    for pattern in VERIFIER:
        for path in (ROOT / "rlu_attestation").glob(pattern):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id in BLAMES
                    and node.args
                ):
                    code = node.args[0]
                    if isinstance(code, ast.Constant):
                        found.add(code.value)
                    elif isinstance(code, ast.JoinedStr) and isinstance(code.values[-1], ast.Constant):
                        # f"{step}.cause": the cause is told of some step
                        found.add(f"channel.{code.values[-1].value.rpartition(chr(46))[2]}")
    return found


def test_every_step_has_its_text() -> None:
    assert set(STEPS) - set(TEXTS) == set()


@pytest.mark.parametrize("code", sorted(documented()))
def test_every_documented_code_is_explained(code: str) -> None:
    found = explain_code(code)
    assert found.title
    assert found.fails.endswith(".")
    assert found.remedy.endswith(".")


def test_every_written_code_is_explained() -> None:
    unknown = set()
    for code in written() - INTERNAL:
        try:
            explain_code(code)
        except UnknownCode:
            unknown.add(code)
    assert unknown == set()


def test_a_step_says_what_it_proves_and_whether_it_is_waived() -> None:
    for step in STEPS:
        found = explain_code(f"{step}.mismatch")
        assert (found.step, found.title, found.proves) == (step, STEPS[step].title, STEPS[step].proves)
        assert found.waivable == (step in WAIVABLE)
        assert CAUSES["mismatch"] in found.fails
        assert explain_code(f"{step}.not_checked").remedy == "See the step that it waited for."


def test_texts_are_sentences() -> None:
    texts = [text for pair in (*TEXTS.values(), *OUTSIDE.values()) for text in pair]
    for sentence in (*texts, *CAUSES.values()):
        assert re.fullmatch(r"[`A-Z/-].*\.", sentence), sentence


@pytest.mark.parametrize(
    ("code", "near"),
    [
        ("quote.binding.mismach", "quote.binding.mismatch"),
        ("polcy.region.mismatch", "policy.region.mismatch"),
        ("bundle.encodin", "bundle.encoding"),
        ("region", "policy.region"),
    ],
)
def test_near_codes_are_suggested(code: str, near: str) -> None:
    with pytest.raises(UnknownCode, match=re.escape(near)):
        explain_code(code)


@pytest.mark.parametrize(
    "code",
    ["", ".", "policy.region.", "policy.region.mismatch.", "tdx.quote.nothing", "policy..region", "zzzz"],
)
def test_what_is_no_code(code: str) -> None:
    with pytest.raises(UnknownCode) as refused:
        explain_code(code)
    assert (refused.value.code, refused.value.exit_code) == ("explain.unknown", 2)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    ran = rlu(capsys, "explain", "quote.binding.unknown")
    assert ran.code == 0
    assert "Passing proves  the TPM quoted for exactly these claims and this nonce" in ran.out
    assert "a policy may waive it" in ran.out
    assert "never waived" in rlu(capsys, "explain", "policy.region.mismatch").out
    as_json = rlu(capsys, "explain", "bundle.encoding", "--json").json
    assert (as_json["code"], as_json["step"], as_json["waivable"]) == ("bundle.encoding", "", False)
    assert as_json["remedy"]


def test_the_verifier_alone_explains_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlu_attestation.cli.explain.SERVERS", "no_such_package.explaining")
    assert rlu(capsys, "explain", "quote.binding.unknown").code == 0
    assert rlu(capsys, "explain", "tdx.quote", "--json").json["also"] == []
    assert rlu(capsys, "explain", "signer_unavailable").code == 2
    assert rlu(capsys, "explain", "--list", "--json").json["server"] == {}


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    listed = rlu(capsys, "explain", "--list")
    assert listed.code == 0
    assert all(f"  {name} " in listed.out for name in (*STEPS, *OUTSIDE, "mismatch"))
    assert rlu(capsys, "explain", "--list", "--json").json["codes"] == known_codes()


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert rlu(capsys, "explain").code == 2
    assert rlu(capsys, "explain", "channel", "--list").code == 2
    unknown = rlu(capsys, "explain", "nothing.at.all", "--json")
    assert (unknown.code, unknown.json["code"]) == (2, "explain.unknown")
