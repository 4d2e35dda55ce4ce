"""`rlu model`: what it prints, and an exit code for every end."""

from __future__ import annotations

import json
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fakes.safetensors_files import safetensors
from rlu_attestation.cli import main
from rlu_attestation.encoding import b64u
from rlu_server.models import measure, signing

KEY = ec.generate_private_key(ec.SECP256R1())
SIGNER = b64u(signing.key_id(KEY.public_key()))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    model = tmp_path / "m"
    model.mkdir()
    (model / "config.json").write_text(
        '{"architectures": ["Qwen3ForCausalLM"], "rope": {"theta": 1, "x": 0}}'
    )
    (model / "a.safetensors").write_bytes(safetensors({"w": ("BF16", [2], b"abcd"), "n": ("U8", [1], b"x")}))
    (model / "LICENSE.txt").write_text("do as you please")
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "pub").write_bytes(KEY.public_key().public_bytes(serialization.Encoding.PEM, form))
    for name, encryption in (
        ("key", serialization.NoEncryption()),
        ("locked", serialization.BestAvailableEncryption(b"secret")),
    ):
        pem = serialization.Encoding.PEM
        (tmp_path / name).write_bytes(KEY.private_bytes(pem, serialization.PrivateFormat.PKCS8, encryption))
    (tmp_path / "password").write_text("secret\n")
    return tmp_path


class Ran:
    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["model", *map(str, arguments)])
        self.code = ended.value.code
        self.out, self.err = capsys.readouterr()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def test_sign_and_verify(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    signed = Ran(capsys, "sign", home / "m", "--key", home / "locked", "--password-file", home / "password")
    assert (signed.code, signed.err) == (0, "")
    assert SIGNER in signed.out
    verified = Ran(capsys, "verify", home / "m", "--signer", home / "pub", "--json")
    assert verified.code == 0
    assert verified.json == {
        "result": "verified",
        "exit_code": 0,
        "manifest_sha256": b64u(measure(home / "m").sha256),
        "signer": SIGNER,
        "files": 3,
        "bytes": measure(home / "m").size,
        "signature": str(home / "m" / "model.sig"),
    }
    assert not list(home.glob("m/.model.sig*")), "nothing is left beside it"


def test_the_signature_may_be_elsewhere(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = ("--signature", home / "vendor.sig")
    assert Ran(capsys, "sign", home / "m", "--key", home / "key", *elsewhere).code == 0
    assert Ran(capsys, "verify", home / "m", "--signer", home / "pub", *elsewhere).code == 0
    inside = Ran(capsys, "sign", home / "m", "--key", home / "key", "--signature", home / "m" / "x.sig")
    assert inside.code == 2
    assert "[model.signature.place]" in inside.err


def broken(home: Path, what: str) -> list[object]:
    verify: list[object] = ["verify", home / "m", "--signer", home / "pub"]
    signature = home / "m" / "model.sig"
    match what:
        case "altered":
            (home / "m" / "config.json").write_text("{}")
        case "unsigned":
            signature.unlink()
        case "cut":
            signature.write_bytes(signature.read_bytes()[:99])
        case "unknown kind":
            signature.write_text(signature.read_text().replace("v0.3+json", "v0.9+json"))
        case "pickle":
            (home / "m" / "x.pt").touch()
        case "no directory":
            verify[1] = home / "missing"
        case "no signer":
            verify[3] = home / "missing"
        case "no certificate":
            verify = ["sign", home / "m", "--key", home / "key", "--certificate", home / "pub"]
        case "locked key":
            verify = ["sign", home / "m", "--key", home / "locked"]
        case "code":
            (home / "m" / "x.py").touch()
            verify = ["sign", home / "m", "--key", home / "key"]
        case "not writable":
            verify = ["sign", home / "m", "--key", home / "key", "--signature", home / "missing" / "x.sig"]
    return verify


ENDS = {
    "altered": (10, "model.signature.mismatch"),
    "unsigned": (10, "model.signature.absent"),
    "cut": (30, "model.signature.encoding"),
    "unknown kind": (20, "model.signature.unsupported"),
    "pickle": (10, "model.pickle"),
    "no directory": (2, "model.directory"),
    "no signer": (2, "model.signers"),
    "no certificate": (2, "model.certificate"),
    "locked key": (2, "model.key"),
    "code": (10, "model.code"),
    "not writable": (3, "model.unreadable"),
}


@pytest.mark.parametrize("what", ENDS)
@pytest.mark.parametrize("as_json", [False, True])
def test_every_end_has_its_code(
    what: str, as_json: bool, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Ran(capsys, "sign", home / "m", "--key", home / "key").code == 0
    exit_code, code = ENDS[what]
    ran = Ran(capsys, *broken(home, what), *(["--json"] if as_json else []))
    assert ran.code == exit_code
    if as_json:
        assert (ran.json["exit_code"], ran.json["code"]) == (exit_code, code)
    else:
        assert f"[{code}]" in ran.err
        assert ran.out == ""


def test_inspect(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = Ran(capsys, "inspect", home / "m", "--json")
    assert found.code == 0
    assert found.json == {
        "result": "ok",
        "exit_code": 0,
        "files": 3,
        "bytes": measure(home / "m").size,
        "architectures": ["Qwen3ForCausalLM"],
        "tensors": 2,
        "elements": {"BF16": 2, "U8": 1},
        "licences": ["LICENSE.txt"],
        "signature": False,
        "refused": [],
        "malformed": [],
    }
    (home / "m" / "b\x1b[2J.safetensors").write_bytes(b"x")
    (home / "m" / "x.py").touch()
    (home / "m" / "w.pkl").touch()
    shown = Ran(capsys, "inspect", home / "m")
    assert shown.code == 10
    assert "\x1b" not in shown.out
    assert "REFUSED w.pkl is a pickle" in shown.out
    assert "[model.code]" in shown.out
    assert "malformed: " in shown.out
    assert [one["code"] for one in Ran(capsys, "inspect", home / "m", "--json").json["refused"]] == [
        "model.pickle",
        "model.code",
    ]


def test_diff(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = home / "other"
    other.mkdir()
    for file in (home / "m").iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    assert Ran(capsys, "diff", home / "m", other).out == "the same files\n"
    (other / "LICENSE.txt").unlink()
    (other / "new").touch()
    (other / "config.json").write_text(
        '{"architectures": ["Qwen3ForCausalLM"], "rope": {"theta": 2, "x": false}}'
    )
    (other / "a.safetensors").unlink()
    (other / "b.safetensors").write_bytes(safetensors({"w": ("F16", [2], b"abcd"), "v": ("U8", [1], b"x")}))
    found = Ran(capsys, "diff", home / "m", other, "--json")
    assert found.code == 10
    assert list(found.json["files"]) == [
        "LICENSE.txt",
        "a.safetensors",
        "b.safetensors",
        "config.json",
        "new",
    ]
    assert found.json["files"]["new"] == {"before": None, "after": 0}
    assert found.json["tensors"] == {
        "n": {"before": "U8[1]", "after": None},
        "v": {"before": None, "after": "U8[1]"},
        "w": {"before": "BF16[2]", "after": "F16[2]"},
    }
    assert found.json["config"] == {
        "rope.theta": {"before": 1, "after": 2},
        "rope.x": {"before": 0, "after": False},
    }
    shown = Ran(capsys, "diff", home / "m", other)
    assert shown.code == 10
    assert "removed file LICENSE.txt: 16 bytes -> none" in shown.out
    assert "changed tensor w: BF16[2] -> F16[2]" in shown.out
    assert "config rope.x: 0 -> False" in shown.out
    # Another division into files is no difference between tensors.
    (other / "b.safetensors").write_bytes(safetensors({"w": ("BF16", [2], b"abcd")}))
    (other / "c.safetensors").write_bytes(safetensors({"n": ("U8", [1], b"x")}))
    assert Ran(capsys, "diff", home / "m", other, "--json").json["tensors"] == {}
    (other / "c.safetensors").write_bytes(b"x")
    assert Ran(capsys, "diff", home / "m", other).code == 30


def test_a_bar_on_a_terminal_only(home: Path) -> None:
    command = [sys.executable, "-c", "from rlu_attestation.cli import main; main()", "model", "sign"]
    command += [str(home / "m"), "--key", str(home / "key")]
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as screen:
        with open(theirs, "wb", buffering=0) as terminal:
            done = subprocess.run(
                command, stderr=terminal, stdout=subprocess.PIPE, check=True, env={"TERM": "xterm"}
            )
        shown = screen.read(65536)
    assert "━".encode() in shown
    assert done.stdout.startswith(b"signed: ")
    piped = subprocess.run(command, capture_output=True, check=True)
    assert piped.stderr == b""
