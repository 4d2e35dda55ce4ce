"""`rlu broker` and `rlu model encrypt|decrypt`: what they print, and an exit code for every end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from fakes.broker_room import BrokerRoom, policy
from fakes.safetensors_files import safetensors
from rlu_attestation.cli import main
from rlu_attestation.encoding import b64u
from rlu_attestation.policy_signature import generate
from rlu_server.broker import protocol
from rlu_server.models import measure
from rlu_server.selftest.node import RLU
from waiting import refused, wait_until


@pytest.fixture
def model(tmp_path: Path) -> Path:
    place = tmp_path / "m"
    place.mkdir()
    (place / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"]}')
    (place / "a.safetensors").write_bytes(safetensors({"w": ("BF16", [2], b"abcd")}))
    return place


class Ran:
    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        self.code = ended.value.code
        self.out, self.err = capsys.readouterr()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def test_encrypt_and_decrypt(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sealed, vault = tmp_path / "sealed", ("--vault", tmp_path / "vault")
    made = Ran(capsys, "model", "encrypt", model, sealed, *vault, "--json")
    assert (made.code, made.json["result"]) == (0, "encrypted")
    assert made.json["manifest_sha256"] == b64u(measure(model).sha256)
    assert (tmp_path / "vault" / f"{made.json['kid']}.json").is_file()
    back = Ran(capsys, "model", "decrypt", sealed, tmp_path / "back", *vault)
    assert back.code == 0
    assert "2 files" in back.out
    assert measure(tmp_path / "back") == measure(model)
    again = Ran(capsys, "model", "decrypt", sealed, tmp_path / "back", *vault)
    assert again.code == 2
    assert "weights.target" in again.err
    assert not list(tmp_path.glob(".*.partial"))


def test_signed_once_more_as_it_is_encrypted(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, public = tmp_path / "vendor.pem", tmp_path / "vendor.pub.pem"
    private, published = generate("ES256")
    key.write_bytes(private)
    public.write_bytes(published)
    assert Ran(capsys, "model", "sign", model, "--key", key, "--release", 7).code == 0
    sealed = tmp_path / "sealed"
    Ran(capsys, "model", "encrypt", model, sealed, "--vault", tmp_path / "vault")
    before = (sealed / "model.sig").read_bytes()
    unsigned = Ran(capsys, "model", "verify", sealed, "--signer", public)
    assert (unsigned.code, "model.signature.absent" in unsigned.err) == (10, True)
    assert Ran(capsys, "model", "sign", sealed, "--key", key).code == 0
    assert (sealed / "model.sig").read_bytes() == before, "that one is of the plain files"
    verified = Ran(capsys, "model", "verify", sealed, "--signer", public, "--json")
    assert (verified.code, verified.json["signature"]) == (0, str(sealed / "rlu-weights.sig"))
    assert verified.json["manifest_sha256"] == b64u(measure(model).sha256), "which statements name"
    assert (sealed / "rlu-release.json").read_bytes() == (model / "rlu-release.json").read_bytes()
    numbered = Ran(capsys, "model", "sign", sealed, "--key", key, "--release", 8)
    assert (numbered.code, "model.sealed" in numbered.err) == (2, True)
    # The vendor gets back what he had.
    back = Ran(capsys, "model", "decrypt", sealed, tmp_path / "back", "--vault", tmp_path / "vault")
    assert (back.code, measure(tmp_path / "back")) == (0, measure(model))
    (sealed / "config.json.sealed").write_bytes(b"x")
    altered = Ran(capsys, "model", "verify", sealed, "--signer", public)
    assert (altered.code, "model.signature.mismatch" in altered.err) == (10, True)


def test_what_is_not_encrypted(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No key stays for what was not sealed."""
    vault = tmp_path / "vault"
    (tmp_path / "taken").mkdir()
    for arguments, code in (
        ((model, tmp_path / "taken"), "weights.target"),
        ((tmp_path / "none", tmp_path / "s"), "model.directory"),
    ):
        ran = Ran(capsys, "model", "encrypt", *arguments, "--vault", vault)
        assert (ran.code, code in ran.err) == (2, True), ran.err
    (model / "code.py").touch()
    ran = Ran(capsys, "model", "encrypt", model, tmp_path / "s", "--vault", vault)
    assert ran.code == 10
    assert list(vault.glob("*")) == []


def test_damage_is_told(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sealed, vault = tmp_path / "sealed", ("--vault", tmp_path / "vault")
    Ran(capsys, "model", "encrypt", model, sealed, *vault)
    file = sealed / "a.safetensors.sealed"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    ran = Ran(capsys, "model", "decrypt", sealed, tmp_path / "back", *vault, "--json")
    assert ran.code == 10
    assert "weights.chunk" in ran.out + ran.err
    assert not (tmp_path / "back").exists()
    (sealed / "rlu-weights.json").write_text("{}")
    assert Ran(capsys, "model", "decrypt", sealed, tmp_path / "back", *vault).code == 30
    assert Ran(capsys, "model", "decrypt", model, tmp_path / "back", *vault).code == 2


def test_keys_are_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room = BrokerRoom(tmp_path)
    vault, kid = ("--vault", room.vault.directory), b64u(room.key.kid)
    listed = Ran(capsys, "broker", "keys", *vault)
    assert (listed.code, listed.out.split()[:2]) == (0, [kid, "demo"])
    assert b64u(room.key.key) not in listed.out
    assert Ran(capsys, "broker", "revoke", kid, *vault, "--reason", "leaked").code == 0
    (one,) = Ran(capsys, "broker", "keys", *vault, "--json").json["keys"]
    assert one == {
        "kid": kid,
        "name": "demo",
        "manifest_sha256": b64u(room.key.manifest),
        "revoked": "leaked",
    }
    # The last two begin with a hyphen, or with many.
    for kid in (bytes(32), b"\xff" * 32, b"\xf8" * 32, b"\xfb\xef\xbe" * 10 + b"\xfb\xef"):
        unknown = Ran(capsys, "broker", "revoke", b64u(kid), *vault, "--reason", "leaked")
        assert (unknown.code, "broker.key.unknown" in unknown.err) == (10, True), unknown.err
    room.close()


def test_the_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room = BrokerRoom(tmp_path)
    room.ask()
    with pytest.raises(Exception, match=r"broker\.model\.other"):
        room.ask(manifest=bytes(32))
    vault = ("--vault", room.vault.directory)
    shown = Ran(capsys, "broker", "journal", *vault)
    first, second, last = shown.out.splitlines()
    assert shown.code == 0
    assert "released  demo  AMD SEV-SNP guest" in first
    assert "refused   demo  broker.model.other" in second
    assert last.startswith("unbroken, 2 entries; it ends with ")
    found = Ran(capsys, "broker", "journal", *vault, "--json").json
    assert [entry["event"] for entry in found["entries"]] == ["released", "refused"]
    assert last.endswith(found["last"])
    lines = room.vault.journal.read_bytes().splitlines(keepends=True)
    room.vault.journal.write_bytes(lines[1])
    broken = Ran(capsys, "broker", "journal", *vault)
    assert (broken.code, "broker.journal.chain" in broken.err) == (10, True)
    room.vault.journal.unlink()
    assert Ran(capsys, "broker", "journal", *vault).code == 3
    room.close()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--listen", "8444"), "broker.listen"),
        (("--listen", "0.0.0.0:0"), "broker.tls"),
        (("--tls-cert", "/none"), "broker.tls"),
    ],
)
def test_a_broker_that_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: str
) -> None:
    room = BrokerRoom(tmp_path)
    room.close()
    ran = Ran(capsys, "broker", "serve", "--vault", room.vault.directory, *arguments)
    assert (ran.code, code in ran.err) == (2, True), ran.err


def test_policies_are_read_at_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room = BrokerRoom(tmp_path)
    room.close()
    serve = ("broker", "serve", "--vault", room.vault.directory)
    for text in ("version = 2", policy("sev-snp") + "more = 1"):
        room.set_policy(text)
        ran = Ran(capsys, *serve)
        assert (ran.code, "broker.policy" in ran.err) == (2, True)
    (room.vault.directory / "policy.toml").unlink()
    ran = Ran(capsys, *serve)
    assert (ran.code, "rlu policy" in ran.err) == (2, True)
    room.vault.directory.chmod(0o755)
    ran = Ran(capsys, *serve)
    assert (ran.code, "0700" in ran.err) == (2, True)


IN_FLIGHT = (
    f"POST {protocol.RELEASE_PATH} HTTP/1.1\r\nContent-Type: {protocol.REQUEST_TYPE}\r\n"
    "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"
).encode()


def test_it_serves_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    room = BrokerRoom(tmp_path)
    room.close()
    broker = subprocess.Popen(
        [*RLU, "broker", "serve", "--vault", room.vault.directory, "--listen", "127.0.0.1:0"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert broker.stderr is not None
        told = json.loads(broker.stderr.readline())
        assert told["event"] == "broker_listening"
        request = urllib.request.Request(f"http://127.0.0.1:{told['code']}/v1/challenge", b"", method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert list(json.load(answer)) == ["challenge"]
        address = ("127.0.0.1", int(told["code"]))
        with socket.create_connection(address, 60) as asking:
            asking.sendall(IN_FLIGHT)
            assert asking.recv(4096).startswith(b"HTTP/1.1 100")
            broker.send_signal(signal.SIGTERM)
            wait_until(lambda: refused(address))
            asking.sendall(b"{}")
            assert asking.recv(4096).startswith(b"HTTP/1.1 400"), "it is no request, and is told so"
        assert broker.wait(60) == 0
    finally:
        broker.kill()
        broker.communicate()


def test_ask(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On this machine, which is no TEE: refused before anything is sent."""
    sealed = tmp_path / "sealed"
    Ran(capsys, "model", "encrypt", model, sealed, "--vault", tmp_path / "vault")
    config = tmp_path / "rlu.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n[weights]\nbroker = "http://127.0.0.1:9"\n')
    ran = Ran(capsys, "broker", "ask", sealed, "--config", config)
    assert (ran.code, "[broker.hardware]" in ran.err) == (10, True), ran.err
    config.write_text("")
    assert Ran(capsys, "broker", "ask", sealed, "--config", config).code == 2
    assert Ran(capsys, "broker", "ask", model, "--config", config).code == 2
    assert Ran(capsys, "broker", "ask", sealed, "--config", tmp_path / "none.toml").code == 2
    assert not (tmp_path / "egress.jsonl").exists()
