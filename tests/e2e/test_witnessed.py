"""A session's time, witnessed: a real gateway and attestor, a real witness, and the command line of whoever judges the session later."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.processes import until
from fakes.log_stack import LogStack
from fakes.terminal import Ran, rlu
from rlu_attestation import cose, jose
from rlu_attestation.bundle import parse
from rlu_attestation.encoding import unb64u
from rlu_attestation.log import state as states
from rlu_attestation.log.cosignature import Cosignature, WitnessKey, verify_cosignature
from rlu_server.attestor import asking
from rlu_server.swtpm import SoftwareTpm

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


# --- rotation -----------------------------------------------------------------------------------------------------------


def rotate(stack: LogStack) -> None:
    """What `rlu keys rotate` does."""
    directory = stack.deployment.state / "attestation"
    asked = asking.Asked("rotate", "test")
    asking.ask(directory, asked)
    until(lambda: asking.answered(directory, asked) is not None, 60, stack.output)
    outcome = asking.answered(directory, asked)
    assert outcome is not None
    assert outcome.code is None, outcome


class Witness:
    """A second party's files, and its looks at one server."""

    def __init__(self, home: Path, capsys: Capture) -> None:
        self.home, self.capsys = home, capsys
        made = rlu(capsys, "witness", "key", "witness.example", "-o", home / "witness.pem", "--json")
        self.key = WitnessKey.parse(made.json["verifier_key"])

    def look(self, stack: LogStack) -> dict[str, Any]:
        ran = self.serve(stack)
        assert ran.code == 0, ran.err
        told: dict[str, Any] = ran.json
        return told

    def serve(self, stack: LogStack) -> Ran:
        files = ("--key", self.home / "witness.pem", "--state", self.home / "w.json")
        return rlu(
            self.capsys,
            *("witness", "serve", stack.url, "--name", "witness.example", *files),
            *(*stack.common, "--once", "--json"),
        )

    @property
    def state(self) -> states.State:
        return states.parse((self.home / "w.json").read_bytes())

    def kept(self, stack: LogStack, jwk: dict[str, str], issuer: str | None) -> int:
        """Size of the one cosigned head that the server hands out of an instance; it verifies."""
        of = "" if issuer is None else f"?issuer={issuer}"
        status, answer = stack.call("GET", f"/v1/rlu/log/cosignatures{of}")
        assert status == 200, answer
        (one,) = answer["cosignatures"]
        head = cose.parse_head(unb64u(one["head"]))
        head.verify(jose.public_key(jwk))
        verify_cosignature(head, Cosignature.parse(one["cosignature"]), self.key)
        return head.tree_size


@pytest.mark.tpm
def test_a_witness_goes_on_with_a_key_that_stepped_down(
    home: Path, capsys: Capture, software_tpm: SoftwareTpm
) -> None:
    witness = Witness(home, capsys)
    settings = f'witnesses = ["{witness.key.text}"]\n'
    with LogStack(home / "one", settings, tpm=software_tpm) as stack:
        saved, policy = home / "bundle.rlu", home / "policy.toml"
        policy.write_text(
            stack.policy.read_text().replace(
                "[time]", f'witnesses = ["{witness.key.text}"]\n[time]\nwitnesses_required = 1'
            )
        )
        run = rlu(capsys, "verify", stack.url, "--save", saved, "--json", *stack.common)
        assert run.code == WAIVED, run.out
        open_one = stack.open_sessions(1)[0]["session"]
        before = witness.look(stack)
        old = witness.state
        stack.open_sessions(1)
        rotate(stack)

        # The key stepped down beyond what was cosigned: the witness follows to the new log, and cosigns both.
        new = witness.look(stack)
        assert new["instance"] != before["instance"] == new["former"]["instance"]
        assert new["former"]["tree_size"] > before["tree_size"]
        assert witness.kept(stack, old.jwk, old.issuer) == new["former"]["tree_size"]
        assert witness.kept(stack, witness.state.jwk, None) == new["tree_size"]
        assert "former" not in witness.look(stack), "nothing more to say of the former log"

        # It goes on, since sessions of the old key are open: so does the witness.
        status, _ = stack.call("DELETE", f"/v1/rlu/sessions/{open_one}")
        assert status == 200
        grown = witness.look(stack)["former"]
        assert grown["tree_size"] > new["former"]["tree_size"]
        assert witness.kept(stack, old.jwk, old.issuer) == grown["tree_size"]

    # The gateway has closed the sessions of both keys; the former's goes with the last of them, if need be at the next start.
    with stack:
        assert witness.kept(stack, old.jwk, old.issuer) == grown["tree_size"], (
            "it was not lost by the restart"
        )
        previous = stack.deployment.state / "attestation" / "instance-key.previous.tss2.pem"
        until(lambda: not previous.exists(), 60, stack.output)
        # Its log is final: the statement names its last head, and that is what the witness cosigns at last.
        last = witness.look(stack)["former"]["tree_size"]
        (ended,) = stack.call("GET", "/v1/rlu/log/history")[1]["instances"]
        assert (ended["issuer"], ended["tree_size"]) == (old.issuer, last)
        assert witness.kept(stack, old.jwk, old.issuer) == last > grown["tree_size"]

        # Who saved a session of the old key gets its time witnessed, from the server that has another key now.
        fetch = ("log", "cosignatures", saved, stack.url, "-o", saved, "--json", *stack.common)
        run = rlu(capsys, *fetch)
        assert run.code == 0, run.err
        assert [one["tree_size"] for one in run.json["cosignatures"]] == [last]
    run = rlu(capsys, "verify", saved, "--policy", policy, "--json")
    assert (run.code, run.json["time"]) == (WAIVED, "witnessed"), json.dumps(run.json, indent=1)
