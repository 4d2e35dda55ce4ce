"""`rlu registrar` and the attestor's enrolment commands, as an operator types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fakes.attestor_process import Deployment
from rlu_server import swtpm
from rlu_server.attestor import enrolment
from rlu_server.attestor.enrolment import StateFiles
from rlu_server.cli.registrar import app

runner = CliRunner()


def attestor(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RLU_")}
    command = [sys.executable, "-m", "rlu_server.attestor", "--config", str(config), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


@pytest.mark.tpm
def test_an_operator_enrols_a_machine(software_tpm: swtpm.SoftwareTpm, tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "machine", software_tpm)
    directory = tmp_path / "registrar"
    files = {name: tmp_path / f"{name}.json" for name in ("request", "challenge", "response", "enrolment")}

    made = runner.invoke(app, ["init", str(directory), "--json"])
    assert made.exit_code == 0, made.output
    assert Path(json.loads(made.stdout)["certificate"]).exists()

    before = attestor(deployment.config)
    assert before.returncode == 2
    assert "enrol this TPM" in before.stderr
    assert json.loads(before.stdout) == {
        "event": "attestor.refused_to_start",
        "level": "error",
        "code": "enrolment.missing",
    }

    issuer = str(swtpm.issuer_certificate(software_tpm.directory))
    done = attestor(deployment.config, "request", "--ek-chain", issuer, "-o", str(files["request"]))
    assert done.returncode == 0, done.stderr
    root = str(swtpm.root_certificate(software_tpm.directory))
    asked = runner.invoke(
        app,
        [
            *("challenge", str(files["request"]), "-o", str(files["challenge"])),
            *("--ek-root", root, "--registrar", str(directory)),
        ],
    )
    assert asked.exit_code == 0, asked.output
    done = attestor(deployment.config, "activate", str(files["challenge"]), "-o", str(files["response"]))
    assert done.returncode == 0, done.stderr
    issue = ["issue", str(files["response"]), "-o", str(files["enrolment"]), "--registrar", str(directory)]
    issue += ["--region", "eu", "--boundary", "air-gapped", "--site", "bunker"]
    issued = runner.invoke(app, issue)
    assert issued.exit_code == 0, issued.output
    done = attestor(deployment.config, "import", str(files["enrolment"]))
    assert done.returncode == 0, done.stderr
    enrolment.load(StateFiles(deployment.state).enrolment)

    again = runner.invoke(app, [*issue[:3], str(tmp_path / "second.json"), *issue[4:], "--json"])
    assert again.exit_code == 10
    assert json.loads(again.stdout)["error"]["code"] == "enrolment.challenge_unknown"
    assert not (tmp_path / "second.json").exists()


def test_wrong_files_are_named(tmp_path: Path) -> None:
    directory = tmp_path / "registrar"
    assert runner.invoke(app, ["init", str(directory)]).exit_code == 0
    assert runner.invoke(app, ["init", str(directory)]).exit_code == 10
    junk = tmp_path / "junk.json"
    junk.write_text("{}")
    arguments = ["-o", str(tmp_path / "out.json"), "--registrar", str(directory)]
    place = ["--region", "r", "--boundary", "b", "--site", "s"]
    wrong = runner.invoke(app, ["issue", str(junk), *arguments, *place])
    assert wrong.exit_code == 30
    assert "not an EnrolmentResponse" in wrong.output
    missing = runner.invoke(app, ["issue", str(tmp_path / "none.json"), *arguments, *place])
    assert missing.exit_code == 2
    assert "none.json" in missing.output
    elsewhere = runner.invoke(
        app, ["issue", str(junk), "-o", str(tmp_path / "o"), "--registrar", str(tmp_path), *place]
    )
    assert elsewhere.exit_code == 10
    assert "rlu registrar init" in elsewhere.output


def test_a_file_that_was_carried_away_is_not_overwritten(tmp_path: Path) -> None:
    from rlu_server.cli import registrar

    out = tmp_path / "out.json"
    registrar._write(out, b"first")
    with pytest.raises(FileExistsError):
        registrar._write(out, b"second")
    assert out.read_bytes() == b"first"
