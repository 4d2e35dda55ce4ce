"""`python -m rlu_server.attestor`: what it refuses to start with, and the laptop's software key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fakes.attestor_process import AttestorProcess, Deployment
from rlu_attestation import jose
from rlu_attestation.instance import InstanceClaims


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RLU_")}
    command = [sys.executable, "-m", "rlu_server.attestor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


REFUSALS = {
    "unknown-key": ('surprise = 1\nruntime_dir = "{0}/run"\n', 2, "surprise"),
    "no-runtime": ("[attestation]\ninsecure_software_key = true\n", 2, "runtime_dir"),
    "no-tpm": ('runtime_dir = "{0}/run"\n[attestation]\ntcti = "swtpm:path={0}/none"\n', 2, "enrol"),
    "handle": ('runtime_dir = "{0}/run"\n[attestation]\nkey_path = "0xoops"\n', 2, "0x81000010"),
}


@pytest.mark.parametrize(("text", "status", "said"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_configuration_that_cannot_work_is_explained(
    tmp_path: Path, text: str, status: int, said: str
) -> None:
    config = tmp_path / "rlu.toml"
    enrolled = tmp_path / "state" / "attestation" / "enrolment.json"
    config.write_text(f'state_dir = "{tmp_path}/state"\n' + text.format(tmp_path))
    done = run("--config", str(config))
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not enrolled.exists()


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    done = run("--config", str(tmp_path / "none.toml"))
    assert done.returncode == 2
    assert "none.toml" in done.stderr


async def test_a_software_key_says_so_and_is_new_at_every_start(tmp_path: Path) -> None:
    process = AttestorProcess(Deployment(tmp_path / "d", None))
    issuers, claims = [], []
    for _ in range(2):
        with process:
            gateway = await process.connect()
            welcome = await gateway.hello()
            await gateway.open()
            issuers.append(welcome.issuer)
            claims.append(InstanceClaims.parse(jose.jws_parse(welcome.statement).payload))
            await gateway.disconnect()
    assert {c.key_hardware for c in claims} == {"none"}
    assert [c.start_count for c in claims] == [1, 2]
    assert issuers[0] != issuers[1]
    assert claims[1].predecessor is not None
    assert claims[1].predecessor.issuer == issuers[0]


async def test_a_given_software_key_is_kept(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = tmp_path / "key.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with AttestorProcess(Deployment(tmp_path / "d", None, f'key_path = "{pem}"\n')) as process:
        gateway = await process.connect()
        assert (await gateway.hello()).jwk == jose.public_jwk(key.public_key())
        await gateway.disconnect()


@pytest.mark.parametrize(
    "content", ["", "junk", "-----BEGIN TSS2 PRIVATE KEY-----\nAAAA\n-----END TSS2 PRIVATE KEY-----\n"]
)
def test_another_kind_of_key_file_is_refused(tmp_path: Path, content: str) -> None:
    pem = tmp_path / "key.pem"
    pem.write_text(content)
    deployment = Deployment(tmp_path / "d", None, f'key_path = "{pem}"\n')
    done = run("--config", str(deployment.config))
    assert done.returncode == 2
    assert json.loads(done.stdout)["code"] == "key.file"
    assert pem.read_text() == content
