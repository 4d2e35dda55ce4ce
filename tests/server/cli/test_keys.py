"""`rlu keys`, as an operator types it: registration by file and in one step, rotation of a running attestor, revocation."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from fakes.attestor_process import AttestorProcess, Deployment
from fakes.deployment import Deployment as Attested
from fakes.deployment import findings, verdict_of
from fakes.server import FakeServer
from fakes.terminal import rlu
from rlu_attestation import bundle, policy_file
from rlu_attestation.encoding import b64u
from rlu_attestation.policy_signature import generate
from rlu_server import swtpm
from waiting import until

Capture = pytest.CaptureFixture[str]


def test_without_a_key_the_place_that_was_looked_at_is_named(tmp_path: Path, capsys: Capture) -> None:
    """A state directory that the configuration does not name is the usual reason."""
    config = tmp_path / "rlu.toml"
    config.write_text(f'state_dir = "{tmp_path / "elsewhere"}"\n')
    ran = rlu(capsys, "keys", "list", "--config", config)
    assert (ran.code, ran.out.strip()) == (0, f"No key has been used in {tmp_path / 'elsewhere'} yet.")


@pytest.mark.tpm
def test_a_key_from_its_making_to_its_registration(
    software_tpm: swtpm.SoftwareTpm, tmp_path: Path, capsys: Capture
) -> None:
    deployment = Deployment(tmp_path / "machine", software_tpm)
    config = ("--config", deployment.config)
    root, issuer = (
        swtpm.root_certificate(software_tpm.directory),
        swtpm.issuer_certificate(software_tpm.directory),
    )
    made = rlu(capsys, "keys", "create", *config, "--json")
    assert made.code == 0, made.err
    assert rlu(capsys, "keys", "create", *config, "--json").json == made.json, "it is made once"
    place = ("--region", "eu-central-1", "--boundary", "laptop", "--site", "desk")

    registrar = tmp_path / "registrar"
    assert rlu(capsys, "registrar", "init", registrar).code == 0
    files = {name: tmp_path / name for name in ("request", "challenge", "response", "enrolment")}
    steps = (
        ("keys", "export", "-o", files["request"], "--ek-chain", issuer, *config),
        ("registrar", "challenge", files["request"], "-o", files["challenge"], "--ek-root", root, "--registrar", registrar),
        ("keys", "import", files["challenge"], "-o", files["response"], *config),
        ("registrar", "issue", files["response"], "-o", files["enrolment"], *place, "--registrar", registrar),
        ("keys", "import", files["enrolment"], *config),
    )  # fmt: skip
    for step in steps:
        ran = rlu(capsys, *step)
        assert ran.code == 0, (step, ran.err)
    again = rlu(
        capsys,
        "registrar",
        "issue",
        files["response"],
        "-o",
        tmp_path / "x",
        *place,
        "--registrar",
        registrar,
    )
    assert again.code == 10

    # In one step, where registrar and TPM are on one machine.
    ran = rlu(
        capsys, "keys", "register", *place, "--ek-root", root, "--ek-intermediate", issuer, "--registrar",
        tmp_path / "other", *config, "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert Path(ran.json["certificate"]).exists()

    with AttestorProcess(deployment):
        listed = rlu(capsys, "keys", "list", *config, "--json").json
        assert [(one["ueid"], one["state"]) for one in listed] == [(made.json["ueid"], "in use")]
        assert listed[0]["due"] == listed[0]["created"] + 90 * 86400
        assert rlu(capsys, "keys", "create", *config).err.endswith("[keys.running]\n")


@pytest.mark.tpm
async def test_rotation_of_a_running_attestor(attestor_process: AttestorProcess, capsys: Capture) -> None:
    config = ("--config", attestor_process.deployment.config)
    gateway = await attestor_process.connect()
    old = await gateway.hello()
    await gateway.open()

    def run(*arguments: object) -> Any:
        ran = rlu(capsys, "keys", *arguments, *config, "--json")
        assert ran.code == 0, ran.out
        return ran.json

    assert await asyncio.to_thread(run, "rehearse") == {"rehearsed": True}
    assert await asyncio.to_thread(run, "rotate", "--rehearse") == {"rehearsed": True}
    rotated = await asyncio.to_thread(run, "rotate")
    new = rotated["issuer"].rpartition(":")[2]
    listed = run("list")
    states = [(one["ueid"], one["state"]) for one in listed]
    assert states == [(new, "in use"), (old.issuer.rpartition(":")[2], "stepping down")]
    assert await asyncio.to_thread(run, "retire") == {"sessions": 1}
    await until(lambda: "key.retired" in attestor_process.events(), attestor_process.output)
    listed = run("list")
    assert [one["state"] for one in listed] == ["in use", "ended"]
    assert listed[1]["entries"] == 3  # a session, its close, and the tally that ends the log


@pytest.mark.parametrize("action", ["rotate", "rehearse", "retire"])
def test_nothing_is_asked_of_nobody(action: str, tmp_path: Path, capsys: Capture) -> None:
    config = tmp_path / "rlu.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n')
    ran = rlu(capsys, "keys", action, "--config", config)
    assert ran.code == 2
    assert "[keys.not_running]" in ran.err


def test_a_registration_bundle_has_nothing_of_a_session(tmp_path: Path, capsys: Capture) -> None:
    config = tmp_path / "rlu.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n')
    out = tmp_path / "registration.json"
    with FakeServer(tmp_path, plaintext=True) as server:
        ran = rlu(
            capsys, "keys", "export", "--bundle", "--url", server.url, "--nonce", b64u(b"n" * 16), "-o", out, "--config",
            config, "--json",
        )  # fmt: skip
    assert ran.code == 0, ran.err
    found = bundle.parse(out.read_bytes())
    assert found.nonce == b"n" * 16
    assert found.evidence
    assert (found.session, found.exchanges, found.close, found.commitment_key, found.head) == (
        None,
        (),
        None,
        None,
        None,
    )
    assert rlu(capsys, "inspect", out).code == 0


# --- revocation ---


@pytest.fixture
def signer(tmp_path: Path) -> Path:
    private, public = generate("Ed25519")
    (tmp_path / "signer.pub.pem").write_bytes(public)
    path = tmp_path / "signer.pem"
    path.write_bytes(private)
    return path


def test_a_list_grows_and_is_never_taken_back(tmp_path: Path, signer: Path, capsys: Capture) -> None:
    attested = Attested()
    attested.append(b"a leaf")
    early = attested.head()
    attested.append(b"another")
    late = attested.head()
    ueid = attested.instance_claims().ueid
    path, head = tmp_path / "revocations.jws", tmp_path / "head"
    common = ("--key", signer, "--list", path, "--json")

    def revoke(last_good: bytes | None, reason: str = "compromise") -> Any:
        arguments: list[object] = [ueid, "--reason", reason, *common]
        if last_good is not None:
            head.write_text(json.dumps({"head": b64u(last_good)}))
            arguments += ["--last-good", head]
        return rlu(capsys, "keys", "revoke", *arguments)

    assert revoke(late).json["number"] == 1
    assert revoke(early).json["number"] == 2
    refused = revoke(late)
    assert refused.json["code"] == "keys.looser"
    assert revoke(None).json["number"] == 3
    assert revoke(early).json["code"] == "keys.looser"
    assert revoke(None, "boredom").json["code"] == "keys.reason"

    # What the policy makes of it, and of an older list in its place.
    def read_file(name: str) -> bytes:
        return (tmp_path / name).read_bytes()

    trust = "version = 1\n[trust]\nrevocations = ['revocations.jws']\nrevocation_keys = ['signer.pub.pem']\n"
    policy = policy_file.parse(f"{trust}revocation_minimum = 3".encode(), read_file)
    assert policy.revocations[ueid].last_good is None
    assert findings(
        verdict_of(attested, attested.bundle(0), attested.policy(revocations=policy.revocations))
    ) == ["policy.key.revoked"]
    with pytest.raises(policy_file.PolicyError, match="rolled_back"):
        policy_file.parse(f"{trust}revocation_minimum = 4".encode(), read_file)


def test_what_cannot_be_revoked(tmp_path: Path, signer: Path, capsys: Capture) -> None:
    path = tmp_path / "revocations.jws"
    common = ("--key", signer, "--reason", "lost", "--list", path, "--json")
    assert rlu(capsys, "keys", "revoke", "nobody", *common).code == 30
    attested = Attested()
    head = tmp_path / "head"
    head.write_text(b64u(attested.head(0)))
    other = b64u(b"\x01" + bytes(32))
    assert rlu(capsys, "keys", "revoke", other, *common, "--last-good", head).json["code"] == "keys.last_good"
    head.write_text("{}")
    assert rlu(capsys, "keys", "revoke", other, *common, "--last-good", head).json["code"] == "keys.last_good"
    head.write_text("AAAA")
    assert rlu(capsys, "keys", "revoke", other, *common, "--last-good", head).code == 30
    assert not path.exists()
    assert rlu(capsys, "keys", "revoke", other, *common).code == 0
    # Somebody else's key cannot go on with the list.
    signer.write_bytes(generate("ES256")[0])
    assert rlu(capsys, "keys", "revoke", other, *common).json["code"] == "revocations.signer"
