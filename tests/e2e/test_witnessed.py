"""A session's time, witnessed: a real gateway and attestor, a real witness, and the command line of whoever judges the session later."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.log_stack import LogStack
from fakes.terminal import rlu
from rlu_attestation.bundle import parse

Capture = pytest.CaptureFixture[str]
UNREACHABLE, REJECTED, WAIVED = 3, 10, 11


@pytest.fixture
def home() -> Iterator[Path]:
    # Not below pytest's directory: socket paths have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="rlu-log-") as directory:
        yield Path(directory)


def test_a_saved_session_is_witnessed_once_a_witness_has_come_by(home: Path, capsys: Capture) -> None:
    text = rlu(capsys, "witness", "key", "witness.example", "-o", home / "witness.pem", "--json").json[
        "verifier_key"
    ]
    with LogStack(home / "one", f'witnesses = ["{text}"]\n') as stack:
        saved, policy = home / "bundle.rlu", home / "policy.toml"
        plain = stack.policy.read_text()
        policy.write_text(plain.replace("[time]", f'witnesses = ["{text}"]\n[time]\nwitnesses_required = 1'))
        fetch = ("log", "cosignatures", saved, stack.url, "-o", saved, *stack.common)
        witness = ("--name", "witness.example", "--key", home / "witness.pem", "--state", home / "w.json")
        serve = ("witness", "serve", stack.url, *witness, *stack.common, "--once")
        accept = "--insecure-accept-software-key"

        # A witness looked before the session: what it saw says nothing of it.
        assert rlu(capsys, *serve).code == 0
        run = rlu(capsys, "verify", stack.url, "--save", saved, "--json", *stack.common)
        assert (run.code, run.json["time"]) == (WAIVED, "asserted"), run.out
        assert len(parse(saved.read_bytes()).cosignatures) == 1
        early = rlu(capsys, *fetch, "--json")
        assert (early.code, early.json["code"]) == (UNREACHABLE, "cosignature.none")
        run = rlu(capsys, "verify", saved, "--policy", policy, accept, "--json")
        assert run.code == REJECTED
        assert "policy.witnesses.missing" in [step.get("code") for step in run.json["steps"]]

        # Others use the log, and the witness comes by again.
        stack.open_sessions(3)
        assert rlu(capsys, *serve).code == 0
        run = rlu(capsys, *fetch, "--json")
        assert run.code == 0, run.err
        assert [one["witness"] for one in run.json["cosignatures"]] == ["witness.example"]
        assert parse(saved.read_bytes()).consistency
    run = rlu(capsys, "verify", saved, "--policy", policy, accept, "--json")
    assert (run.code, run.json["time"]) == (WAIVED, "witnessed"), json.dumps(run.json, indent=1)
    assert run.json["witnessed"]["sightings"][0]["witness"] == "witness.example"
    shown = rlu(capsys, "verify", saved, "--policy", policy, accept)
    assert "time: witnessed (session, receipts and close here were in the log by" in shown.out
    assert "cosignature/v1 of a witness" in rlu(capsys, "inspect", saved).out


def test_what_the_command_refuses(home: Path, capsys: Capture) -> None:
    with LogStack(home / "one") as stack:
        saved = home / "bundle.rlu"
        fetch = ("log", "cosignatures", saved, stack.url, "-o", saved)
        alone = rlu(
            capsys,
            *("verify", stack.url, "--save", saved, "--policy", stack.policy),
            "--insecure-accept-software-key",
        )
        assert alone.code == WAIVED
        assert "holds no session" in rlu(capsys, *fetch, *stack.common).err
        assert rlu(capsys, "verify", stack.url, "--save", saved, *stack.common).code == WAIVED
        assert rlu(capsys, *fetch, *stack.common).code == UNREACHABLE
        refused = rlu(capsys, *fetch, "--api-key-file", stack.key)
        assert (refused.code, "audit.instance" in refused.err) == (REJECTED, True)
        assert "API key" in rlu(capsys, *fetch, "--policy", stack.policy).err
    with LogStack(home / "two") as other:
        elsewhere = rlu(capsys, "log", "cosignatures", saved, other.url, "-o", saved, *other.common)
        told = " ".join(elsewhere.err.replace("│", " ").split())  # it stands in a frame
        assert (elsewhere.code, "and the server is" in told) == (2, True), told
