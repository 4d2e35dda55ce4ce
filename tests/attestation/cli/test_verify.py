"""`rlu verify` on files and on a server: exit codes, output for people and machines, and what is never sent."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.deployment import AT, NONCE, Deployment
from fakes.machine import Machine
from fakes.policy import write_policy
from fakes.server import API_KEY, FakeServer
from fakes.terminal import Ran, rlu
from rlu_attestation import bundle as bundles
from rlu_attestation.encoding import b64u

AS_OF = ("--as-of", AT)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return write_policy(tmp_path)


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    return Deployment()


@pytest.fixture
def file(tmp_path: Path, deployment: Deployment) -> Path:
    path = tmp_path / "bundle.rlu"
    path.write_bytes(Deployment(machine=deployment.machine).bundle().encode())
    return path


Capture = pytest.CaptureFixture[str]


# --- files --------------------------------------------------------------------------------------------------------------


def test_a_genuine_file(capsys: Capture, file: Path, policy: Path) -> None:
    ran = rlu(capsys, "verify", file, "--policy", policy, *AS_OF)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("VERIFIED  ")
    assert "✓ Quote signature: the TPM made the quote" in ran.out
    assert re.search(r"region +endorsed +eu-central-1", ran.out)
    assert re.search(r"key +hardware +key \S+ of TPM", ran.out)
    assert "time: asserted" in ran.out
    assert "only the server says so" in ran.out
    assert "proves freshness only to whoever made the bundle" in ran.out
    assert "\x1b" not in ran.out  # no colours where there is no terminal
    assert "✗" not in ran.out


def test_json(capsys: Capture, file: Path, policy: Path) -> None:
    ran = rlu(capsys, "verify", file, "--policy", policy, *AS_OF, "--json")
    assert ran.code == ran.json["exit_code"] == 0
    assert ran.json["result"] == "verified"
    assert ran.json["policy_sha256"]
    assert all(step["outcome"] in ("passed", "not_applicable") for step in ran.json["steps"])


def test_quiet(capsys: Capture, file: Path, policy: Path) -> None:
    assert rlu(capsys, "verify", file, "--policy", policy, *AS_OF, "-q") == Ran(0, "", "")
    assert rlu(capsys, "verify", file, *AS_OF, "--quiet") == Ran(10, "", "")


def test_times_in_words_and_seconds_are_one(capsys: Capture, file: Path, policy: Path) -> None:
    for as_of in ("2026-06-01T00:00:00Z", "2026-06-01T02:00:00+02:00", str(AT)):
        assert rlu(capsys, "verify", file, "--policy", policy, "--as-of", as_of, "--json").json["at"] == AT
    late = rlu(capsys, "verify", file, "--policy", policy, "--as-of", "2026-07-01T00:00:00Z")
    assert late.code == 10
    assert "statement.time.expired" in late.out


def test_without_as_of_the_time_is_now(capsys: Capture, file: Path, policy: Path) -> None:
    import time

    before = int(time.time())
    assert before <= rlu(capsys, "verify", file, "--policy", policy, "--json").json["at"] <= int(time.time())


def test_without_a_policy_nothing_is_accepted(capsys: Capture, file: Path) -> None:
    ran = rlu(capsys, "verify", file, *AS_OF)
    assert ran.code == 10
    assert "No policy was given" in ran.out
    assert "✗" in ran.out


def test_the_nonce_of_the_caller_counts(capsys: Capture, file: Path, policy: Path) -> None:
    common = ("verify", file, "--policy", policy, *AS_OF)
    own = rlu(capsys, *common, "--nonce", b64u(NONCE), "--json")
    assert (own.code, own.json["freshness"]) == (0, "verifier")
    other = rlu(capsys, *common, "--nonce", b64u(bytes(32)))
    assert other.code == 10
    assert "statement.nonce.mismatch" in other.out


def test_a_violation_is_told_with_expected_and_found(capsys: Capture, file: Path, tmp_path: Path) -> None:
    policy = write_policy(tmp_path, region="us-east-1")
    ran = rlu(capsys, "verify", file, "--policy", policy, *AS_OF)
    assert ran.code == 10
    assert ran.out.startswith("REJECTED")
    assert "✗ Region  policy.region.mismatch  expected us-east-1; found eu-central-1" in ran.out


def test_an_accepted_emulator_is_told_plainly(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "bundle.rlu"
    file.write_bytes(Deployment(machine=Machine(ek_fields={"model": "swtpm"})).bundle().encode())
    ran = rlu(capsys, "verify", file, "--policy", write_policy(tmp_path, emulated="true"), *AS_OF)
    assert ran.code == 11
    assert ran.out.startswith("VERIFIED EXCEPT FOR WAIVERS")
    assert "waived TPM is hardware  policy.tpm.emulator" in ran.out
    assert "The TPM is an emulator: this proves the mechanism, not the machine." in ran.out
    assert re.search(r"key +asserted +key \S+ of emulated TPM", ran.out)


def test_a_software_key(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "bundle.rlu"
    file.write_bytes(Deployment(software_key=True).bundle().encode())
    policy = write_policy(tmp_path)
    policy.write_text(policy.read_text().replace('region = "endorsed"', ""))
    common = ("verify", file, "--policy", policy, *AS_OF)
    assert rlu(capsys, *common).code == 10
    assert rlu(capsys, *common, "--insecure-accept-software-key").code == 11


@pytest.mark.parametrize(
    ("name", "content", "code", "shown"),
    [
        ("not-a-bundle", b"hello", 20, "verify.unknown"),
        ("empty", b"", 20, "verify.unknown"),
        ("truncated", None, 30, "bundle.encoding"),
    ],
)
def test_a_broken_file(
    capsys: Capture, file: Path, name: str, content: bytes | None, code: int, shown: str
) -> None:
    file.write_bytes(file.read_bytes()[:-50] if content is None else content)
    ran = rlu(capsys, "verify", file)
    assert (ran.code, ran.out) == (code, ""), name
    assert shown in ran.err
    as_json = rlu(capsys, "verify", file, "--json")
    assert as_json.json["result"] == {20: "unsupported", 30: "malformed"}[code]
    assert as_json.json["code"] == shown
    assert as_json.json["exit_code"] == as_json.code == code


def test_a_broken_statement_in_a_good_bundle(capsys: Capture, file: Path, policy: Path) -> None:
    bundle = bundles.parse(file.read_bytes())
    file.write_bytes(replace(bundle, statement="x").encode())
    ran = rlu(capsys, "verify", file, "--policy", policy, *AS_OF)
    assert ran.code == 30
    assert ran.out.startswith("MALFORMED")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("FILE", "--as-of", "yesterday"),
        ("FILE", "--as-of", "2026-06-01T00:00:00"),
        ("FILE", "--nonce", "AAAA"),
        ("FILE", "--nonce", "not base64"),
        ("FILE", "--probe", "hello"),
        ("FILE", "--api-key-file", "FILE"),
        ("FILE", "--unknown"),
        ("FILE", "--policy", "/nowhere/policy.toml"),
        ("/nowhere/bundle.rlu",),
        ("https://localhost:0",),
        ("https://localhost:1", "--probe", "hello"),
        ("https://localhost:1", "--api-key-file", "/nowhere/key"),
    ],
)
def test_usage(
    capsys: Capture, file: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RLU_API_KEY", raising=False)
    ran = rlu(capsys, "verify", *(str(file) if a == "FILE" else a for a in arguments))
    assert (ran.code, ran.out) == (2, "")
    assert ran.err


def test_a_policy_with_a_typo_is_a_usage_error_not_a_verdict(
    capsys: Capture, file: Path, policy: Path
) -> None:
    policy.write_text(policy.read_text().replace("regions", "region"))
    ran = rlu(capsys, "verify", file, "--policy", policy, *AS_OF)
    assert ran.code == 2
    assert "accept.region" in ran.err
    as_json = rlu(capsys, "verify", file, "--policy", policy, *AS_OF, "--json")
    assert (as_json.json["result"], as_json.json["code"]) == ("error", "policy.unknown_key")


def test_certificates_are_found_beside_the_policy_only(capsys: Capture, file: Path, policy: Path) -> None:
    (policy.parent / "vendor.pem").unlink()
    ran = rlu(capsys, "verify", file, "--policy", policy, *AS_OF)
    assert ran.code == 2
    assert "vendor.pem" in ran.err


def test_nothing_a_terminal_obeys_is_printed(capsys: Capture, tmp_path: Path, policy: Path) -> None:
    file = tmp_path / "bundle.rlu"
    hostile = Deployment(claims={"model_name": "\x1b]0;owned\x07\x1b[2J\u202egpj.exe[bold]x[/bold]\r\n"})
    file.write_bytes(hostile.bundle(receipts={1: {"model": "\x1b[31m", "reason": "a\nb"}}).encode())
    ran = rlu(capsys, "verify", file, "--policy", policy, *AS_OF)
    assert ran.code == 0
    assert not set(ran.out) & set("\x1b\x07\r\u202e")
    assert r"\x1b]0;owned\x07\x1b[2J\u202egpj.exe[bold]x[/bold]\r\n" in ran.out


# --- a server -----------------------------------------------------------------------------------------------------------


def online(capsys: Capture, server: FakeServer, policy: Path, *arguments: Any) -> Ran:
    return rlu(capsys, "verify", server.url, "--policy", policy, *AS_OF, *arguments)


@pytest.fixture(autouse=True)
def without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLU_API_KEY", raising=False)


def test_a_server_without_a_key(capsys: Capture, tmp_path: Path, policy: Path) -> None:
    with FakeServer(tmp_path) as server:
        ran = online(capsys, server, policy, "--json")
        again = online(capsys, server, policy)
    assert ran.code == 0
    assert (ran.json["covers"], ran.json["freshness"]) == (["instance"], "verifier")
    assert "as you saw it" in again.out
    nonces = [seen.path.partition("nonce=")[2] for seen in server.seen]
    assert len(set(nonces)) == 2
    assert len(nonces[0]) == 43  # 32 bytes


def test_a_nonce_of_ones_own(capsys: Capture, tmp_path: Path, policy: Path) -> None:
    with FakeServer(tmp_path) as server:
        assert online(capsys, server, policy, "--nonce", b64u(b"my own nonce")).code == 0
    assert server.seen[0].path.endswith(b64u(b"my own nonce"))


def test_a_server_with_key_and_probe_and_the_bundle_it_leaves(
    capsys: Capture, tmp_path: Path, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLU_API_KEY", API_KEY)
    saved = tmp_path / "saved.rlu"
    saved.write_text("what was there before, for everyone to read")
    saved.chmod(0o644)
    with FakeServer(tmp_path) as server:
        ran = online(capsys, server, policy, "--probe", "hello", "--save", saved)
    assert ran.code == 0
    assert "exchange 1" in ran.out
    assert saved.stat().st_mode & 0o077 == 0
    later = rlu(capsys, "verify", saved, "--policy", policy, *AS_OF, "--json")
    assert later.code == 0
    assert later.json["covers"] == ["instance", "session", "receipts", "close"]
    assert later.json["freshness"] == "asserted"


def test_a_key_from_a_file(capsys: Capture, tmp_path: Path, policy: Path) -> None:
    key = tmp_path / "key"
    key.write_text(API_KEY + "\n")
    with FakeServer(tmp_path) as server:
        ran = online(capsys, server, policy, "--api-key-file", key, "--json")
    assert ran.json["covers"] == ["instance", "session", "close"]
    key.write_bytes(b"\x00\xff")
    with FakeServer(tmp_path) as server:
        assert online(capsys, server, policy, "--api-key-file", key).code == 2
    assert server.seen == []


def test_no_key_is_sent_to_a_server_that_is_not_accepted(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLU_API_KEY", API_KEY)
    policy = write_policy(tmp_path, region="us-east-1")
    with FakeServer(tmp_path) as server:
        ran = online(capsys, server, policy, "--probe", "a secret prompt", "--json")
    assert ran.code == 10
    assert ran.json["covers"] == ["instance"]
    assert len(server.seen) == 1
    assert "authorization" not in server.seen[0].headers
    assert not any(b"secret" in seen.content for seen in server.seen)


def test_a_man_in_the_middle_with_a_key_of_his_own(
    capsys: Capture, tmp_path: Path, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fakes.server import make_certificate

    monkeypatch.setenv("RLU_API_KEY", API_KEY)
    with FakeServer(tmp_path) as server:
        server.present(make_certificate(tmp_path, "mallory")[0])
        ran = online(capsys, server, policy)
    assert ran.code == 10
    assert "channel.mismatch" in ran.out
    assert not any("authorization" in seen.headers for seen in server.seen)


def test_plain_http_is_rejected(capsys: Capture, tmp_path: Path, policy: Path) -> None:
    policy.write_text(policy.read_text().replace('["gateway-memory"]', '["plaintext"]'))
    with FakeServer(tmp_path, plaintext=True) as server:
        ran = online(capsys, server, policy)
        assert ran.code == 10
        assert "channel.plaintext" in ran.out
        waiver = '\n[[waive]]\nstep = "channel"\nreason = "on one machine"\n'
        policy.write_text(policy.read_text() + waiver)
        assert online(capsys, server, policy).code == 11


def test_a_server_that_is_not_there(capsys: Capture, policy: Path) -> None:
    ran = rlu(capsys, "verify", "https://localhost:1", "--policy", policy)
    assert (ran.code, ran.out) == (3, "")
    assert "server.unreachable" in ran.err
    as_json = rlu(capsys, "verify", "https://localhost:1", "--policy", policy, "--json")
    assert as_json.json["result"] == "unreachable"


def test_a_bundle_is_saved_even_when_it_is_rejected(capsys: Capture, tmp_path: Path, policy: Path) -> None:
    saved = tmp_path / "saved.rlu"
    with FakeServer(tmp_path, claims={"region": "elsewhere"}) as server:
        assert online(capsys, server, policy, "--save", saved).code == 10
    assert json.loads(saved.read_bytes())["rlu_bundle"] == "1"


def test_a_bundle_that_cannot_be_saved_is_told_after_the_verdict(
    capsys: Capture, file: Path, policy: Path, tmp_path: Path
) -> None:
    ran = rlu(capsys, "verify", file, "--policy", policy, *AS_OF, "--save", tmp_path)
    assert ran.code == 2
    assert ran.out.startswith("VERIFIED")
    assert "file.unwritable" in ran.err
