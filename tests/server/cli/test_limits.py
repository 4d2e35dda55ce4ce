"""`rlu limits` as an operator uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlu_server.cli.limits import app

FILE = """
[default]
requests_per_minute = 600
[default.principal]
concurrent_requests = 16
[tenants.acme]
weight = 4
[tenants.acme.principals.ci]
priority = "batch"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "limits.toml"
    path.write_text(FILE)
    return path


def run(*words: str | Path, status: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], env={"RLU_CONFIG": "", "COLUMNS": "200"})
    assert result.exit_code == status, result.output
    return result.output


def test_what_is_good(file: Path):
    assert "good, with tables for 1 tenants" in run("check", "--file", file)


def test_what_is_wrong_is_named_with_its_code(file: Path):
    file.write_text("[default]\nrequest_per_minute = 1")
    assert "request_per_minute" in run("check", "--file", file, status=30)
    answer = json.loads(run("check", "--file", file, "--json", status=30))
    assert "limits.file" in json.dumps(answer)


def test_a_file_that_is_named_must_be_there(file: Path):
    assert "there is no file" in run("check", "--file", file.with_name("other"), status=2)


def test_the_configuration_s_file_may_be_absent(tmp_path: Path):
    config = tmp_path / "rlu.toml"
    config.write_text(f'state_dir = "{tmp_path}"')
    assert "nothing is limited" in run("check", "--config", config)
    (tmp_path / "limits.toml").write_text(FILE)
    assert "good" in run("check", "--config", config)


def test_what_holds_is_shown_with_defaults_filled_in(file: Path):
    rows = json.loads(run("show", "--file", file, "--json"))["limits"]
    assert [(row["tenant"], row["principal"], row["priority"], row["weight"]) for row in rows] == [
        ("acme", "ci", "batch", 4.0),
        ("acme", None, "interactive", 4.0),
        (None, None, "interactive", 1.0),
    ]
    assert all(row["of_tenant"]["requests_per_minute"] == 600 for row in rows)
    assert all(row["of_principal"]["concurrent_requests"] == 16 for row in rows)
    text = run("show", "--file", file)
    assert "- (16 each)" in text
    assert "batch" in text
    assert "globex" in run("show", "--file", file, "--tenant", "globex")
