"""`rlu doctor` as it is called: codes, usage, events from files and standard input, exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.terminal import rlu
from rlu_server.cli import doctor as module
from rlu_server.preflight.findings import error, ok, warning

Capture = pytest.CaptureFixture[str]
FAILED = {"event": "signer.failed", "level": "error", "code": "tpm.unreachable"}


@pytest.fixture
def well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine and a deployment with nothing to find."""
    monkeypatch.setattr(module, "_of_node", lambda settings, whole: [ok("cpu.count", "2 processors")])
    monkeypatch.setattr(module, "judge_deployment", lambda seen: [ok("deployment.settings", "accepted")])
    path = tmp_path / "rlu.toml"
    path.write_text(f'state_dir = "{tmp_path / "state"}"\n[gateway]\nport = 0\n')
    return path


def test_a_code(capsys: Capture) -> None:
    ran = rlu(capsys, "doctor", "signer_unavailable")
    assert ran.code == 0
    assert "HTTP 503; the body of an HTTP error" in ran.out
    assert rlu(capsys, "doctor", "137", "--json").json["code"] == "exit.137"
    both = rlu(capsys, "doctor", "log.restored", "--json").json
    assert both["looks"]  # the server's meaning first
    tdx = rlu(capsys, "doctor", "tdx.quote", "--json").json
    assert [bool(tdx["looks"]), *(bool(one["looks"]) for one in tdx["also"])] == [True, False]
    verifiers = rlu(capsys, "doctor", "quote.binding.mismatch", "--json").json
    assert verifiers["step"] == "quote.binding"


def test_a_code_that_is_none(capsys: Capture) -> None:
    ran = rlu(capsys, "doctor", "engine_unavailible", "--json")
    assert (ran.code, ran.json["code"]) == (2, "explain.unknown")
    assert "engine_unavailable" in ran.json["message"]


def test_nothing_to_find(capsys: Capture, well: Path) -> None:
    ran = rlu(capsys, "doctor", "--config", well)
    assert (ran.code, ran.out) == (0, "2 more things are well (--all).\n")
    assert "ok      cpu.count" in rlu(capsys, "doctor", "--config", well, "--all").out
    assert rlu(capsys, "doctor", "--config", well, "--json").json["result"] == "ok"


def test_exit_codes(capsys: Capture, well: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [warning("kernel.cgroup", "v1", "boot with v2"), ok("cpu.count", "2")]
    monkeypatch.setattr(module, "_of_node", lambda settings, whole: found)
    ran = rlu(capsys, "doctor", "--config", well)
    assert ran.code == 40
    assert "WARNING kernel.cgroup" in ran.out
    found.append(error("kernel.swap", "on", "turn it off"))
    worse = rlu(capsys, "doctor", "--config", well)
    assert worse.code == 41
    assert worse.out.index("kernel.swap") < worse.out.index("kernel.cgroup")  # the worst first


def test_events_of_files_and_of_standard_input(
    capsys: Capture, well: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_text(json.dumps(FAILED) + "\n")
    two.write_text("text\n")
    ran = rlu(capsys, "doctor", "--config", well, "--events", one, "--events", two, "--json")
    assert ran.code == 41
    assert {
        "event": "signer.failed",
        "code": "tpm.unreachable",
        "level": "error",
        "count": 1,
        "source": "",
    } in ran.json["events"]

    class Piped:
        buffer = io.BytesIO(
            json.dumps(FAILED).encode()
            + b"\n"
            + json.dumps({"event": "signer.recovered", "level": "info"}).encode()
        )

    monkeypatch.setattr(module.sys, "stdin", Piped())
    assert rlu(capsys, "doctor", "--config", well, "--events", "-").code == 0
    missing = rlu(capsys, "doctor", "--config", well, "--events", tmp_path / "none")
    assert missing.code == 2


def test_only_the_end_of_a_long_file_is_read(
    capsys: Capture, well: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = tmp_path / "events.jsonl"
    events.write_text((json.dumps(FAILED) + "\n") * 100)
    monkeypatch.setattr(module, "MOST", 1000)
    found = rlu(capsys, "doctor", "--config", well, "--events", events, "--json").json["events"]
    assert 5 < found[0]["count"] < 15


def test_what_holds_the_key_matters_where_the_settings_name_hardware(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module.preflight,
        "judge",
        lambda node: [error("trust.key", "none", "switch it on"), ok("cpu.count", "2")],
    )
    path = tmp_path / "rlu.toml"
    for attestation, told in (
        ('tcti = "device:/dev/tpmrm0"', True),
        ('key = "sev-snp"', True),
        ("insecure_software_key = true", False),
        ('tcti = "swtpm:port=2321"', False),
    ):
        path.write_text(f'state_dir = "{tmp_path}"\n[gateway]\nport = 0\n[attestation]\n{attestation}\n')
        found = rlu(capsys, "doctor", "--config", path, "--json").json["findings"]
        assert ("trust.key" in {one["id"] for one in found}) == told, attestation


@pytest.fixture
def readable() -> Iterator[Path]:
    """A directory that everybody may read, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="readable-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def test_as_a_user_without_rights(readable: Path) -> None:
    """Files that may not be seen are told as such; nothing that is not known is told as missing."""
    (readable / "state" / "attestation").mkdir(parents=True)
    (readable / "private" / "model").mkdir(parents=True)
    (readable / "state").chmod(0o700)
    (readable / "private").chmod(0o700)
    config = readable / "rlu.toml"
    config.write_text(
        f"""state_dir = "{readable / "state"}"
[gateway]
port = 0
[licence]
file = "{readable / "private" / "licence"}"
vendor_keys = ["{readable / "private" / "key"}"]
[auth.certificates]
mode = "optional"
ca_file = "{readable / "private" / "ca"}"
[[auth.certificates.rules]]
source = "dns"
pattern = "{{principal}}"
tenant = "t"
[model]
path = "{readable / "private" / "model"}"
"""
    )
    # Imported first: that user may not even read the interpreter's own files.
    program = """
import encodings.idna, os, sys
import rlu_server.cli.doctor
from rlu_attestation.cli import main
os.getuid() or os.setuid(65534)
main(["doctor", "--config", sys.argv[1], "--json"])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(config)], capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 41, ran.stderr
    found = {one["id"]: one["severity"] for one in json.loads(ran.stdout)["findings"]}
    if os.getuid() == 0:  # else the files are our own
        assert found["deployment.state"] == "warning"
        assert found["auth.file"] == found["licence.file"] == found["model.directory"] == "error"
        assert not {"enrolment.missing", "keys.unreadable"} & set(found)
