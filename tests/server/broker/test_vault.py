"""The directory of keys: what it takes, and that anything damaged in it releases nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fakes.broker_room import MANIFEST, policy
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_server.broker.errors import BrokerUnready, Misused, NoSuchKey, NotReleased
from rlu_server.broker.vault import ModelKey, Vault

KEY = ModelKey(b"k" * 32, MANIFEST, "demo")
NAME = b64u(KEY.kid)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault(tmp_path / "vault")
    made.add(KEY)
    text = policy("sev-snp").replace("[trust]", "").partition("roots =")[0]
    (made.directory / "policy.toml").write_text(text)
    return made


def test_a_key_is_for_its_owner_only(vault: Vault) -> None:
    assert (vault.directory / f"{NAME}.json").stat().st_mode & 0o777 == 0o600
    assert vault.directory.stat().st_mode & 0o777 == 0o700
    assert vault.key(KEY.kid) == KEY
    assert vault.listing() == [KEY]
    vault.directory.chmod(0o750)
    with pytest.raises(Misused, match=r"broker\.vault"):
        vault.check()


def test_a_key_is_not_written_over(vault: Vault) -> None:
    with pytest.raises(RluError, match=r"file\.exists"):
        vault.add(ModelKey(KEY.key, MANIFEST, "other name"))


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(Misused, match=r"broker\.vault"):
        Vault(tmp_path / "none").check()


def test_policies(vault: Vault) -> None:
    everyone = vault.releasable(KEY.kid)[1]
    (vault.directory / f"{NAME}.toml").write_text("version = 1\n")
    assert vault.releasable(KEY.kid)[1].digest != everyone.digest
    (vault.directory / f"{NAME}.toml").write_text("version = 2\n")
    with pytest.raises(BrokerUnready):
        vault.releasable(KEY.kid)


def test_no_such_key(vault: Vault) -> None:
    for ask in (vault.key, vault.releasable):
        with pytest.raises(NoSuchKey) as caught:
            ask(bytes(32))
        assert (caught.value.code, caught.value.status) == ("broker.key.unknown", 404)


def test_revoked(vault: Vault) -> None:
    vault.revoke(KEY.kid, "leaked", 5)
    with pytest.raises(NotReleased) as caught:
        vault.releasable(KEY.kid)
    assert caught.value.code == "broker.key.revoked"
    assert caught.value.message.endswith(": leaked")
    assert vault.revoked() == {NAME: "leaked"}
    assert json.loads((vault.directory / "revoked.jsonl").read_text())["time"] == 5


@pytest.mark.parametrize("reason", ["", " ", "two\nlines", "x" * 257])
def test_reasons(vault: Vault, reason: str) -> None:
    with pytest.raises(Misused, match=r"broker\.vault\.reason"):
        vault.revoke(KEY.kid, reason, 5)
    with pytest.raises(NoSuchKey):
        vault.revoke(bytes(32), "why", 5)
    assert not (vault.directory / "revoked.jsonl").exists()


@pytest.mark.parametrize("text", ["{", "[]\n", '{"kid":1}\n', "\xff"])
def test_revocations_that_cannot_be_read(vault: Vault, text: str) -> None:
    (vault.directory / "revoked.jsonl").write_text(text)
    with pytest.raises(BrokerUnready) as caught:
        vault.releasable(KEY.kid)
    assert (caught.value.code, caught.value.status) == ("broker.vault", 503)


def damaged(**members: object) -> bytes:
    return json.dumps({**json.loads(KEY.encode()), **members}, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        damaged(more=1),
        damaged(kid=b64u(bytes(32))),
        damaged(key=b64u(b"x" * 32)),
        damaged(manifest_sha256="AA"),
        KEY.encode() + b" " * 5000,
        ModelKey(b"x" * 32, MANIFEST, "of another name").encode(),
    ],
)
def test_key_files_that_are_damaged(vault: Vault, data: bytes) -> None:
    (vault.directory / f"{NAME}.json").write_bytes(data)
    with pytest.raises(Misused) as caught:
        vault.key(KEY.kid)
    assert caught.value.code == "broker.vault.key"
    assert b64u(KEY.key) not in str(caught.value)
    with pytest.raises(BrokerUnready):
        vault.releasable(KEY.kid)


def test_without_a_policy(vault: Vault) -> None:
    os.unlink(vault.directory / "policy.toml")
    with pytest.raises(BrokerUnready):
        vault.releasable(KEY.kid)
