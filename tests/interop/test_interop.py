"""The formats are formats: a second verifier, written from their description alone, comes to the same verdicts as the published one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from e2e.proofs import judge
from fakes.terminal import rlu
from interop import items
from interop.changes import CHANGES, apply
from interop.conftest import VERIFIED_EXCEPT_WAIVERS, Saved, Second
from rlu_attestation import Outcome, parse_bundle
from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import RluError

VECTORS = Path(__file__).resolve().parents[2] / "attestation" / "vectors"
FILES = (
    "base64url",
    "bundle",
    "canonical-json",
    "commitments",
    "engine-arguments",
    "evidence-tpm2",
    "heads",
    "identifiers",
    "instances",
    "manifests",
    "sessions",
    "tree",
)
UNJUDGED = ("ek.chain.", "ak.certificate.unknown_issuer", "ak.certificate.signature")
"""Codes of refusals that are beyond the second verifier: it builds no certificate chains."""
UNRECOGNISED = 20
"""The published verifier's word for a file that does not even begin like a bundle."""


@pytest.mark.parametrize("name", FILES)
def test_every_vector_of_the_formats(second: Second, name: str) -> None:
    found = second.vectors(VECTORS / f"{name}.json")
    given = json.loads((VECTORS / f"{name}.json").read_bytes())
    negative = [one["name"] for one in given.get("refused", [])] if isinstance(given, dict) else []
    judged = {one["name"] for one in found}
    assert judged.issuperset(negative)
    beyond = _beyond() if name == "evidence-tpm2" else set()
    wrong = [one for one in found if one["expected"] != one["found"] and one["name"] not in beyond]
    assert wrong == []
    assert len(found) >= 3


def _beyond() -> set[str]:
    """Vectors that are refused for nothing but what the second verifier does not look at."""
    given = json.loads((VECTORS / "evidence-tpm2.json").read_bytes())
    return {
        one["name"] for one in given["refused"] if all(code.startswith(UNJUDGED) for code in one["codes"])
    }


def test_most_evidence_is_refused_for_the_published_reasons(second: Second) -> None:
    given = json.loads((VECTORS / "evidence-tpm2.json").read_bytes())
    found = {one["name"]: one["detail"] for one in second.vectors(VECTORS / "evidence-tpm2.json")}
    compared = 0
    for one in given["refused"]:
        codes = [code for code in one["codes"] if not code.startswith(UNJUDGED)]
        if not codes:
            continue
        compared += 1
        steps = {step.split(":")[0] for step in found[one["name"]].split("; ")}
        assert {_step(step) for step in steps} == {_step(code) for code in codes}, one["name"]
    assert compared >= 80


def _step(code: str) -> str:
    return ".".join(code.split(".")[:2])


IGNORED = {"key.hardware.software"}
"""Every bundle made here has a key in software, and both verifiers say so."""
AUTHORITIES = {"ek.chain.unknown_issuer", "ak.certificate.unknown_issuer"}
"""What any real evidence is refused for by a policy that names no authorities."""
UNPROVABLE = {
    "implicit": {"session.nonce.absent"},
    "opened by a request with a later number": {"session.nonce.absent"},
    "a receipt of a lost gateway": {"receipt.request.silent", "receipt.response.silent"},
}
"""What a bundle leaves open by its nature: the published verifier asks the policy about it."""


def _codes(data: bytes, at: int) -> set[str]:
    """Why the published verifier refuses a bundle, whatever the policy says."""
    try:
        steps = judge(parse_bundle(data), at=at).steps
    except RluError as error:
        return {error.code}
    codes = {
        step.code for step in steps if step.outcome is Outcome.FAILED and not step.id.startswith("policy.")
    }
    return {code for code in codes if not code.endswith(".not_checked")} - IGNORED


def test_bundles_made_from_the_formats_alone(second: Second, tmp_path: Path) -> None:
    at = int(time.time())
    made = second.run("make.mjs", tmp_path, str(at))
    assert made.returncode == 0, made.stderr
    judged = second.run("many.mjs", tmp_path, str(at))
    assert judged.returncode == 0, judged.stderr
    found = json.loads(judged.stdout)
    cases = json.loads(made.stdout)
    assert len(cases["accepted"]) > 20
    assert len(cases["refused"]) > 90
    differing: list[object] = []
    for expected, ok in (("accepted", True), ("refused", False)):
        for case in cases[expected]:
            theirs = _codes((tmp_path / case["file"]).read_bytes(), at) - UNPROVABLE.get(case["name"], set())
            if (found[case["file"]]["ok"], not theirs) != (ok, ok):
                failed = [step for step in found[case["file"]]["steps"] if not step["ok"]]
                differing.append((expected, case["name"], failed, theirs))
    assert differing == []
    assert len(cases["stricter"]) > 5
    assert [case["name"] for case in cases["stricter"] if found[case["file"]]["ok"]] == []


COMPARED = ("ak.attributes", "key.attributes", "key.certify", "key.policy", "quote.")
NOT_ASKED = {"quote.binding"}
"""An item alone is about no statement, as far as the published verifier knows."""
FORM = {"evidence.encoding", "evidence.structures"}


def _compared(steps: Iterable[str]) -> set[str]:
    return {step for step in steps if step.startswith(COMPARED)} - NOT_ASKED


def test_items_with_other_contents(
    second: Second, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = {**items.logs(), **items.selections(), **items.lists()}
    for number, item in enumerate(made.values()):
        _write(tmp_path / f"{number}.json", items.encode(item))
    judged = second.run("items.mjs", tmp_path, items.BINDING, items.AT)
    assert judged.returncode == 0, judged.stderr
    found = json.loads(judged.stdout)
    outcomes: set[str] = set()
    differing: list[object] = []
    for number, name in enumerate(made):
        file = f"{number}.json"
        ran = rlu(capsys, "verify", tmp_path / file, "--kind", "tpm2", "--as-of", items.AT, "--json")
        mine = set(found[file])
        if ran.code in (20, 30):
            # Nothing of it is looked at; here the form of a log is a step like any other.
            same = bool(mine & FORM or _compared(mine))
            outcomes.add("malformed")
        else:
            failed = {
                step["id"]
                for step in ran.json["steps"]
                if step["outcome"] == "failed" and not step["code"].endswith(".not_checked")
            }
            same = not mine & FORM and _compared(mine) == _compared(failed)
            outcomes.update(_compared(failed) or {"passed"})
        if not same:
            differing.append((name, ran.code, ran.out[-300:], mine))
    assert differing == []
    assert outcomes >= {"malformed", "passed", "quote.eventlog", "quote.ima"}


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.tpm
def test_a_running_server_is_accepted_by_both(second: Second, saved: Saved, tmp_path: Path) -> None:
    for document in saved.documents:
        file = _write(tmp_path / "bundle.rlu", json.dumps(document).encode())
        verdict = second.verify(file, saved.at)
        assert (verdict.code, verdict.failed()) == (0, [])
        assert saved.first.verify(file, saved.at) == VERIFIED_EXCEPT_WAIVERS
        # Nothing was left out: every part of a bundle has its steps.
        parts = {step["id"].split(".")[0] for step in verdict.said["steps"]}
        assert parts >= {"statement", "evidence", "ak", "key", "quote", "session", "exchange", "close", "log"}


@pytest.mark.tpm
def test_an_implicit_session_of_a_running_server(second: Second, saved: Saved, tmp_path: Path) -> None:
    verdict = second.verify(_write(tmp_path / "bundle.rlu", saved.implicit), saved.at)
    assert (verdict.code, verdict.failed()) == (0, [])
    assert _codes(saved.implicit, saved.at) - AUTHORITIES == {"session.nonce.absent"}
    assert "session.opening" in {step["id"] for step in verdict.said["steps"]}
    # Only the opening says which request opened it.
    document = json.loads(saved.implicit)
    statuses = [json.loads(unb64u(one["statement"]))["rlu_status"] for one in document["exchanges"]]
    assert statuses == ["complete", "partial"]
    del document["exchanges"][0], document["close"]
    without = json.dumps(document).encode()
    verdict = second.verify(_write(tmp_path / "bundle.rlu", without), saved.at)
    assert [step.split(":")[0] for step in verdict.failed()] == ["session.opening"]
    assert "session.opening.mismatch" in _codes(without, saved.at)


@pytest.mark.tpm
@pytest.mark.parametrize("name", CHANGES)
def test_both_refuse(
    second: Second, saved: Saved, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    file = _write(tmp_path / "bundle.rlu", apply(name, *saved.documents))
    verdict = second.verify(file, saved.at)
    assert verdict.code in (10, 30)
    assert verdict.failed()
    first = saved.first.verify_here(capsys, file, saved.at)
    assert first == verdict.code or (first, verdict.code) == (UNRECOGNISED, 30)


@pytest.mark.tpm
def test_both_refuse_what_is_too_old(second: Second, saved: Saved, tmp_path: Path) -> None:
    file = _write(tmp_path / "bundle.rlu", json.dumps(saved.documents[0]).encode())
    late = saved.at + 86400
    assert second.verify(file, late).code == saved.first.verify(file, late) == 10
