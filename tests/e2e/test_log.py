"""The log as an auditor, a witness and an exporter meet it: real processes, the real command line, an operator who owns the key."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fakes.log_stack import LogStack
from fakes.terminal import Ran, rlu
from rlu_attestation import cose, jose
from rlu_attestation.bundle import Bundle, Logged
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.log import state as states
from rlu_attestation.log.cosignature import Cosignature, WitnessKey, verify_cosignature

Capture = pytest.CaptureFixture[str]
WAIVED, FOUND = 11, 10


@pytest.fixture
def home() -> Iterator[Path]:
    # Not below pytest's directory: socket paths have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="rlu-log-") as directory:
        yield Path(directory)


def audit(capsys: Capture, stack: LogStack, state: Path, *more: object) -> Ran:
    return rlu(capsys, "log", "audit", stack.url, "--state", state, "--json", *stack.common, *more)


def codes(ran: Ran) -> list[str]:
    return [finding["code"] for finding in ran.json["findings"]]


def test_a_log_is_followed_over_a_restart(home: Path, capsys: Capture) -> None:
    state = home / "auditor.json"
    with LogStack(home / "server") as stack:
        opened = stack.open_sessions(3)
        first = audit(capsys, stack, state, "--entries")
        assert (first.code, first.json["findings"]) == (WAIVED, [])
        assert first.json["tree_size"] >= 3
        # Receipts that a client kept must be in it.
        status, attestation = stack.call("GET", "/v1/rlu/attestation")
        assert status == 200
        kept = Bundle(
            statement=attestation["attestation"]["statement"],
            evidence=(),
            session=Logged(unb64u(opened[1]["statement"]), unb64u(opened[1]["receipt"])),
        )
        (home / "bundle.json").write_bytes(kept.encode())
        assert audit(capsys, stack, state, "--seen", home / "bundle.json").code == WAIVED
    with stack:
        stack.open_sessions(2)
        second = audit(capsys, stack, state, "--entries", "--max-age", 3600)
        assert (second.code, second.json["findings"]) == (WAIVED, [])
        assert second.json["tree_size"] > first.json["tree_size"]
        assert second.json["start_count"] == first.json["start_count"] + 1
        shown = rlu(capsys, "log", "show", state, "--json").json
        assert (shown["tree_size"], shown["reads_entries"]) == (second.json["tree_size"], True)
    at_rest = rlu(capsys, "log", "audit", stack.log, "--state", state, "--json")
    assert (at_rest.code, at_rest.json["findings"]) == (0, [])
    assert at_rest.json["instance"] == second.json["instance"]
    whole = (stack.log / "log.jsonl").read_bytes()
    (stack.log / "log.jsonl").write_bytes(whole[:-100])
    cut = rlu(capsys, "log", "audit", stack.log, "--state", state, "--json")
    assert (cut.code, codes(cut)) == (FOUND, ["log.truncated"])


def test_a_new_key_is_followed_from_the_old_ones_last_head(home: Path, capsys: Capture) -> None:
    state, early = home / "auditor.json", home / "early.json"
    with LogStack(home / "server") as stack:
        stack.open_sessions(2)
        old = audit(capsys, stack, state).json
        shutil.copy(state, early)
        stack.open_sessions(2)
        exporting = (
            "--policy",
            stack.policy,
            "--api-key-file",
            stack.exporter,
            "--insecure-accept-software-key",
        )
        siem = ("--to", home / "siem.jsonl", "--cursor", home / "cursor.json", "--once", *exporting)
        assert rlu(capsys, "log", "export", stack.url, *siem).code == 0
        stack.open_sessions(1)  # not exported while this instance lived
    stack.secret.write_bytes(new_secret())
    with stack:
        stack.open_sessions(1)
        ran = rlu(capsys, "log", "export", stack.url, *siem)
        assert (ran.code, ran.err) == (0, "")
        lines = [json.loads(line) for line in (home / "siem.jsonl").read_text().splitlines()]
        of_old = [x["index"] for x in lines if x["iss"] == old["instance"] and x["kind"] != "head"]
        assert of_old == list(range(len(of_old)))
        whole = rlu(capsys, "log", "audit", stack.log, "--json").json
        assert (whole["findings"], whole["earlier"]) == ([], [old["instance"]])
        history = stack.call("GET", "/v1/rlu/log/history")[1]["instances"]
        assert [i["tree_size"] for i in history] == [len(of_old)]
        assert {x["iss"] for x in lines} == {old["instance"], whole["instance"]}
        ran = audit(capsys, stack, state, "--entries")
        assert (ran.code, ran.json["findings"]) == (WAIVED, [])
        assert ran.json["instance"] != old["instance"]
        assert rlu(capsys, "log", "show", state, "--json").json["past_instances"] == [old["instance"]]
        # Who was there earlier saw the same log.
        assert audit(capsys, stack, state, "--compare", early).code == WAIVED
    # So are files of the old log that end elsewhere than the new one says.
    former = next(p for p in stack.log.glob("*.jsonl") if p.name != "log.jsonl")
    whole_former = former.read_bytes().splitlines(keepends=True)
    heads = [n for n, line in enumerate(whole_former) if b'"kind":"head"' in line]
    former.write_bytes(b"".join(whole_former[: heads[-2] + 1]))
    at_rest = rlu(capsys, "log", "audit", stack.log, "--json")
    assert (at_rest.code, codes(at_rest)) == (FOUND, ["log.predecessor"])
    # An operator who leaves the old log behind is found.
    shutil.rmtree(stack.log)
    stack.secret.write_bytes(new_secret())
    with stack:
        lost = audit(capsys, stack, state)
        assert (lost.code, codes(lost)) == (FOUND, ["log.predecessor"])


def new_secret() -> bytes:
    made = ec.generate_private_key(ec.SECP256R1())
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_an_auditor_that_stays_ends_with_the_first_finding(home: Path, capsys: Capture) -> None:
    with LogStack(home / "server") as stack:
        stack.open_sessions(1)
        arguments = ("--state", home / "s", "--every", 1, "--max-age", 5, "--json", *stack.common)
        ran = rlu(capsys, "log", "audit", stack.url, *arguments)
        looks = [json.loads(line) for line in ran.out.splitlines()]
        assert ran.code == FOUND
        assert len(looks) >= 2
        assert [f["code"] for f in looks[-1]["findings"]] == ["log.stalled"]
        assert all(look["findings"] == [] for look in looks[:-1])


def test_a_stalled_log(home: Path, capsys: Capture) -> None:
    with LogStack(home / "server") as stack:
        time.sleep(2.1)
        ran = audit(capsys, stack, home / "auditor.json", "--max-age", 1)
        assert (ran.code, codes(ran)) == (FOUND, ["log.stalled"])
        text = rlu(
            capsys, "log", "audit", stack.url, "--state", home / "auditor.json", "--max-age", 1, *stack.common
        )
        assert text.code == FOUND
        assert "log.stalled" in text.out


def test_an_operator_who_owns_the_key_cannot_show_two_observers_two_logs(home: Path, capsys: Capture) -> None:
    one_state, two_state = home / "one.json", home / "two.json"
    with LogStack(home / "one") as one, LogStack(home / "two", secret=one.secret.read_bytes()) as two:
        one.open_sessions(2)
        two.open_sessions(2)
        # Each observer sees a log without a flaw.
        assert audit(capsys, one, one_state).code == WAIVED
        assert audit(capsys, two, two_state).code == WAIVED
        together = audit(capsys, one, one_state, "--compare", two_state)
        assert together.code == FOUND
        assert codes(together) in (["log.split_view"], ["log.unproven"])
        heads = [cose.parse_head(unb64u(e)) for e in together.json["findings"][0]["evidence"]]
        assert {head.issuer for head in heads} == {together.json["instance"]}
        # An observer who is led from one to the other finds it alone.
        moved = audit(capsys, two, one_state)
        assert moved.code == FOUND
        assert codes(moved)[0] in ("log.fork", "log.shrunk", "log.clock")
        # Neither can be put together again by going on.
        two.open_sessions(4)
        assert codes(audit(capsys, two, one_state))[0] in ("log.fork", "log.clock")


def test_a_witness_cosigns_what_extends_and_nothing_else(home: Path, capsys: Capture) -> None:
    made = rlu(capsys, "witness", "key", "witness.example", "-o", home / "witness.pem", "--json")
    assert made.code == 0
    text = made.json["verifier_key"]
    assert rlu(capsys, "witness", "key", "other", "-o", home / "witness.pem").code == 2
    with LogStack(home / "one", f'witnesses = ["{text}"]\n') as stack:
        stack.open_sessions(2)
        witness = ("--name", "witness.example", "--key", home / "witness.pem", "--state", home / "w.json")
        run = rlu(capsys, "witness", "serve", stack.url, *witness, *stack.common, "--once", "--json")
        assert run.code == 0, run.err
        status, answer = stack.call("GET", "/v1/rlu/log/cosignatures")
        (kept,) = answer["cosignatures"]
        head = cose.parse_head(unb64u(kept["head"]))
        at = verify_cosignature(head, Cosignature.parse(kept["cosignature"]), WitnessKey.parse(text))
        assert abs(at - time.time()) < 60
        assert (status, head.tree_size) == (200, run.json["tree_size"])
        head.verify(jose.public_key(states.parse((home / "w.json").read_bytes()).jwk))
        # Another witness is not this server's.
        rlu(capsys, "witness", "key", "other.example", "-o", home / "other.pem")
        other = ("--name", "other.example", "--key", home / "other.pem", "--state", home / "o.json")
        refused = rlu(capsys, "witness", "serve", stack.url, *other, *stack.common, "--once")
        assert refused.code == 3
        assert "cosignature_refused" in refused.err
        secret = stack.secret.read_bytes()
    with LogStack(home / "two", f'witnesses = ["{text}"]\n', secret) as forked:
        forked.open_sessions(5)
        run = rlu(capsys, "witness", "serve", forked.url, *witness, *forked.common, "--once")
        assert run.code == FOUND
        assert "log." in run.err
        assert forked.call("GET", "/v1/rlu/log/cosignatures")[1] == {"cosignatures": []}


def test_the_export_and_its_limit(home: Path, capsys: Capture) -> None:
    with LogStack(home / "server", "export_limit = 4\n") as stack:
        stack.open_sessions(5)
        status, answer = stack.call("POST", "/v1/rlu/sessions", {"nonce": b64u(bytes(16))})
        assert (status, answer["code"]) == (503, "export_behind")
        exporting = (
            "log",
            "export",
            stack.url,
            "--to",
            home / "siem.jsonl",
            "--cursor",
            home / "cursor.json",
            "--once",
            "--policy",
            stack.policy,
            "--insecure-accept-software-key",
        )
        tenant = rlu(capsys, *exporting, "--api-key-file", stack.key)
        assert tenant.code == 3
        assert "not_exporter" in tenant.err
        ran = rlu(capsys, *exporting, "--api-key-file", stack.exporter)
        assert ran.code == 0, ran.err
        stack.open_sessions(2)
        assert rlu(capsys, *exporting, "--api-key-file", stack.exporter).code == 0
        lines = [json.loads(line) for line in (home / "siem.jsonl").read_text().splitlines()]
        indices = [line["index"] for line in lines if line["kind"] != "head"]
        assert indices == list(range(len(indices)))
        assert len(indices) >= 7
        head = cose.parse_head(
            unb64u(next(line for line in reversed(lines) if line["kind"] == "head")["head"])
        )
        assert head.tree_size == len(indices)
        leaves = [unb64u(line["leaf"]) for line in lines if line["kind"] != "head"]
        served = unb64u(stack.call("GET", "/v1/rlu/log/leaves?start=0")[1]["leaves"])
        assert b"".join(leaves) == served[: 32 * len(leaves)]


def test_an_old_backup_is_noticed_by_the_attestor_and_by_whoever_followed(
    home: Path, capsys: Capture
) -> None:
    state, saved = home / "auditor.json", home / "backup.tar"
    with LogStack(home / "server") as stack:
        stack.open_sessions(2)
        assert rlu(capsys, "log", "backup", "--state-dir", stack.deployment.state, "-o", saved).code == 0
    with stack:
        stack.open_sessions(2)
        assert audit(capsys, stack, state).code == WAIVED
    newest = home / "newest.tar"
    assert rlu(capsys, "log", "backup", "--state-dir", stack.deployment.state, "-o", newest).code == 0
    refused = rlu(capsys, "log", "restore", saved, "--state-dir", stack.deployment.state)
    assert (refused.code, "restore.not_empty" in refused.err) == (2, True)

    shutil.rmtree(stack.log)
    assert rlu(capsys, "log", "restore", newest, "--state-dir", stack.deployment.state).code == 0
    with stack:  # the newest one goes on as if nothing had happened
        assert audit(capsys, stack, state).code == WAIVED

    shutil.rmtree(stack.log)
    assert rlu(capsys, "log", "restore", saved, "--state-dir", stack.deployment.state).code == 0
    checked = rlu(capsys, "log", "audit", stack.log, "--state", state, "--json")
    assert (checked.code, codes(checked)) == (FOUND, ["log.truncated"])
    with pytest.raises(AssertionError, match=r"log\.restored"):
        stack.__enter__()
    stack.__exit__(None, None, None)
    # An operator who sets the (software) counter back too, and signs on, meets the auditor.
    counter = next(p for p in (stack.deployment.state / "attestation").iterdir() if p.read_bytes().isdigit())
    counter.write_bytes(b"1")
    with stack:
        ran = audit(capsys, stack, state)
        assert ran.code == FOUND
        assert codes(ran)[0] in ("log.start_counter", "log.shrunk")


def test_what_the_command_line_refuses(home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLU_API_KEY", raising=False)
    url = "https://localhost:1"
    (home / "key").write_text("rlu_x")
    for arguments in (
        ("audit", url),
        ("audit", url, "--state", home / "s"),
        ("audit", home, "--every", "5"),
        ("show", home / "absent"),
        ("export", url),
        ("export", url, "--api-key-file", home / "key"),
    ):
        assert rlu(capsys, "log", *arguments).code == 2, arguments
    away = rlu(capsys, "log", "audit", url, "--state", home / "s", "--api-key-file", home / "key")
    assert away.code == 3
    (home / "s").write_text("{}")
    broken = rlu(capsys, "log", "show", home / "s", "--json")
    assert (broken.code, broken.json["code"]) == (30, "audit.state")
    empty = rlu(capsys, "log", "audit", home, "--json")
    assert (empty.code, codes(empty)) == (FOUND, ["log.files"])
