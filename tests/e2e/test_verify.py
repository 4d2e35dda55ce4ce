"""`rlu verify` as a relying party runs it, against the running server and against what it saved; every exit code by its cause."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.proofs import judge
from e2e.served import Served
from ports import free_port
from rlu_attestation import load_policy, parse_bundle
from rlu_attestation.errors import RluError
from rlu_server import swtpm

pytestmark = [pytest.mark.engine, pytest.mark.tpm]

WAIVED = {"policy.tpm": "policy.tpm.emulator", "policy.boot": "policy.boot.off"}
"""What the demo's policy waives, and nothing else."""


@pytest.fixture(scope="module")
def saved(started: Served, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A bundle that `rlu verify` saved from the running server, and its verdict."""
    file = tmp_path_factory.mktemp("verified") / "bundle.json"
    key = started.directory / "api-key"
    done = started.rlu(
        *("verify", started.caller.url, "--policy", started.policy, "--api-key-file", key),
        *("--probe", f"{started.marker()} What is a receipt?", "--save", file, "--json"),
    )
    assert done.returncode == 11, done.stdout + done.stderr
    verdict: dict[str, Any] = json.loads(done.stdout)
    return file, verdict


def outcomes(verdict: dict[str, Any], outcome: str) -> dict[str, str]:
    return {step["id"]: step.get("code", "") for step in verdict["steps"] if step["outcome"] == outcome}


def test_the_running_server_is_verified_but_for_what_is_waived(
    saved: tuple[Path, dict[str, Any]],
) -> None:
    _, verdict = saved
    assert (verdict["result"], verdict["exit_code"]) == ("verified_except_waivers", 11)
    assert verdict["covers"] == ["instance", "session", "receipts", "close"]
    assert outcomes(verdict, "failed") == {}
    assert outcomes(verdict, "waived") == WAIVED
    assert (verdict["emulated"], verdict["freshness"], verdict["time"]) == (True, "verifier", "asserted")
    # Nothing of an emulated TPM counts as hardware; the place was endorsed by the registrar.
    sources = {claim["name"]: claim["source"] for claim in verdict["claims"]}
    assert {sources[name] for name in ("region", "boundary", "site")} == {"endorsed"}
    assert {source for name, source in sources.items() if name not in ("region", "boundary", "site")} == {
        "asserted"
    }


def test_without_a_probe_or_a_key_less_is_covered(served: Served) -> None:
    key = served.directory / "api-key"
    for options, covered in [
        ((), ["instance"]),
        (("--api-key-file", key), ["instance", "session", "close"]),
    ]:
        done = served.rlu("verify", served.caller.url, "--policy", served.policy, "--json", *options)
        assert (done.returncode, json.loads(done.stdout)["covers"]) == (11, covered)


def test_people_are_told_what_is_waived(served: Served) -> None:
    done = served.rlu("verify", served.caller.url, "--policy", served.policy)
    assert done.returncode == 11
    assert "VERIFIED EXCEPT FOR WAIVERS" in done.stdout
    assert "The TPM is an emulator" in done.stdout


def test_the_saved_bundle_verifies_offline(served: Served, saved: tuple[Path, dict[str, Any]]) -> None:
    file, online = saved
    done = served.rlu("verify", file, "--policy", served.policy, "--as-of", str(online["at"]), "--json")
    verdict = json.loads(done.stdout)
    assert (done.returncode, outcomes(verdict, "waived")) == (11, WAIVED)
    assert verdict["covers"] == online["covers"]
    # The nonce is now the file's word only.
    assert verdict["freshness"] == "asserted"
    late = served.rlu(
        "verify", file, "--policy", served.policy, "--as-of", str(online["at"] + 86400), "--json"
    )
    assert late.returncode == 10
    assert "statement.time" in outcomes(json.loads(late.stdout), "failed")


def leaves(value: Any, where: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The places of all strings."""
    if isinstance(value, str):
        yield where
    else:
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*where, name))


def changed(document: Any, where: tuple[str | int, ...], position: int) -> bytes:
    """The bundle with one character of one string another one."""
    copy = json.loads(json.dumps(document))
    holder = copy
    for name in where[:-1]:
        holder = holder[name]
    text = holder[where[-1]]
    position %= len(text)
    holder[where[-1]] = text[:position] + ("A" if text[position] != "A" else "B") + text[position + 1 :]
    return json.dumps(copy).encode()


def test_no_byte_of_it_can_be_changed(served: Served, saved: tuple[Path, dict[str, Any]]) -> None:
    file, online = saved
    document, policy = json.loads(file.read_bytes()), load_policy(served.policy)

    def exit_code(data: bytes) -> int:
        try:
            return judge(parse_bundle(data), policy, online["at"]).exit_code
        except RluError as error:
            return error.exit_code

    assert exit_code(file.read_bytes()) == 11
    tried = 0
    for where in leaves(document):
        for position in (0, 7, 101, 1009, -1):
            tried += 1
            code = exit_code(changed(document, where, position))
            assert code in (10, 20, 30), (where, position)
    assert tried > 50


def test_a_damaged_bundle_is_malformed_and_what_is_none_is_not_known(
    served: Served, saved: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    whole = saved[0].read_bytes()
    for damaged, code in ((whole[: len(whole) // 2], 30), (whole + b"{}", 30), (b"", 20), (b"{}", 20)):
        file = tmp_path / "damaged.json"
        file.write_bytes(damaged)
        done = served.rlu("verify", file, "--policy", served.policy, "--json")
        assert done.returncode == code, done.stdout


def test_a_policy_that_names_another_ca_rejects(
    served: Served, manufactured_tpm: Path, tmp_path: Path
) -> None:
    ours, theirs = (
        swtpm.root_certificate(served.directory / "swtpm"),
        swtpm.root_certificate(manufactured_tpm),
    )
    text = served.policy.read_text()
    assert str(ours) in text
    policy = tmp_path / "policy.toml"
    policy.write_text(text.replace(str(ours), str(theirs)))
    done = served.rlu("verify", served.caller.url, "--policy", policy, "--json")
    assert done.returncode == 10
    assert "ek.chain" in outcomes(json.loads(done.stdout), "failed")


@pytest.mark.parametrize(
    ("was", "becomes", "step"),
    [
        ('regions = ["demo-region"]', 'regions = ["elsewhere"]', "policy.region"),
        ("unsafe_accept_emulated_tpm = true", "unsafe_accept_emulated_tpm = false", "policy.tpm"),
        ("[lock.engine]\nread_outside = false", "[lock.engine]\nread_outside = true", "policy.lock"),
    ],
)
def test_a_stricter_policy_rejects(served: Served, tmp_path: Path, was: str, becomes: str, step: str) -> None:
    text = served.policy.read_text()
    assert was in text
    policy = tmp_path / "policy.toml"
    policy.write_text(text.replace(was, becomes))
    done = served.rlu("verify", served.caller.url, "--policy", policy, "--json")
    assert done.returncode == 10
    failed = outcomes(json.loads(done.stdout), "failed")
    assert any(found.startswith(step) for found in failed), failed


def test_no_policy_accepts_nothing(served: Served) -> None:
    done = served.rlu("verify", served.caller.url, "--json")
    assert done.returncode == 10


def test_nobody_listens(served: Served) -> None:
    done = served.rlu("verify", f"https://localhost:{free_port()}", "--policy", served.policy, "--json")
    assert done.returncode == 3


def test_the_saved_bundle_can_be_looked_into(served: Served, saved: tuple[Path, dict[str, Any]]) -> None:
    done = served.rlu("inspect", saved[0])
    assert done.returncode == 0, done.stderr
    assert "demo-region" in done.stdout
