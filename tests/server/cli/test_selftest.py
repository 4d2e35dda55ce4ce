"""`rlu selftest` as it is typed: exit codes, what is refused before anything is started, reports verified."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.canary import CLEAN, findings
from fakes.deployment import AT, Deployment
from fakes.terminal import rlu
from rlu_attestation import canary, canonical, jose
from rlu_attestation.canary import PLACES, CanaryReport, Findings

Capture = pytest.CaptureFixture[str]
DEPLOYMENT = Deployment()
LEAK = {**dict.fromkeys(PLACES, CLEAN), "disk": replace(CLEAN, leaks=2)}


def report(found: Findings) -> str:
    made = CanaryReport(DEPLOYMENT.jwk, AT, found)
    return jose.jws_assemble(made.signing_input(), DEPLOYMENT.sign(made.signing_input()))


@pytest.mark.parametrize(
    ("found", "result", "code"),
    [(findings(), "clean", 0), (findings(returned=0), "incomplete", 11), (findings(places=LEAK), "leak", 10)],
)
def test_a_report_is_verified(
    tmp_path: Path, capsys: Capture, found: Findings, result: str, code: int
) -> None:
    file = tmp_path / "report.jws"
    file.write_text(report(found) + "\n")
    ran = rlu(capsys, "selftest", "verify", file)
    assert ran.code == code
    assert ran.out.startswith(f"{result}: taken over by {DEPLOYMENT.issuer}")
    shown = rlu(capsys, "selftest", "verify", file, "--json")
    assert (shown.code, shown.json["result"], shown.json["exit_code"]) == (code, result, code)
    assert ("2 LEAKS" in ran.out) == (result == "leak")


def test_the_instance_must_name_the_report(tmp_path: Path, capsys: Capture) -> None:
    text = report(findings())
    file, bundle = tmp_path / "report.jws", tmp_path / "bundle.rlu"
    file.write_text(text)
    for mention, code in (
        (canary.mention(text), 0),
        (replace(canary.mention(text), digest=bytes(32)), 10),
        (None, 10),
    ):
        statement, evidence = DEPLOYMENT.attestation(canary=mention)
        bundle.write_bytes(replace(DEPLOYMENT.bundle(), statement=statement, evidence=evidence).encode())
        ran = rlu(capsys, "selftest", "verify", file, "--bundle", bundle, "--json")
        assert ran.code == code, ran.out
        if code:
            assert ran.json["code"] == "canary.not_named"


@pytest.mark.parametrize(("content", "code"), [("nonsense", "canary.encoding"), ("a.b.c", "canary.encoding")])
def test_what_is_no_report_refuses(tmp_path: Path, capsys: Capture, content: str, code: str) -> None:
    file = tmp_path / "report.jws"
    file.write_text(content)
    ran = rlu(capsys, "selftest", "verify", file, "--json")
    assert (ran.code, ran.json["code"]) == (30, code)


def configured(directory: Path, text: str = "") -> Path:
    config = directory / "rlu.toml"
    config.write_text(f'state_dir = "{directory / "state"}"\n{text}')
    return config


def test_nothing_is_started_for_what_cannot_be(tmp_path: Path, capsys: Capture) -> None:
    config = configured(tmp_path)
    out = ("--out", tmp_path / "out.json")
    refused = {
        (2, "selftest.settings"): ("--config", tmp_path / "absent.toml", *out),
        (2, "serve.misconfigured"): ("--config", config, "--dir", tmp_path, *out),
        (2, "selftest.out"): ("--config", config, "--out", tmp_path / "no such" / "out.json"),
        (3, "selftest.machine"): ("--config", config, "--dir", tmp_path / "no such", *out),
    }
    for (code, name), words in refused.items():
        ran = rlu(capsys, "selftest", "canary", "--json", *words)
        assert (ran.code, ran.json["code"]) == (code, name), ran.err
    assert not (tmp_path / "out.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["rlu.toml"]


def test_signing_needs_the_server(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "found.json"
    file.write_bytes(canonical.encode(findings().to_json()) + b"\n")
    ran = rlu(capsys, "selftest", "sign", file, "--config", configured(tmp_path), "--json")
    assert (ran.code, ran.json["code"]) == (2, "keys.not_running")
    file.write_text(json.dumps({"note": "words to be signed"}))
    ran = rlu(capsys, "selftest", "sign", file, "--config", configured(tmp_path), "--json")
    assert ran.code == 30
