"""`rlu preflight` as it is called: on this machine, and on a fake node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fakes.node import FakeNode
from fakes.terminal import rlu
from rlu_server.cli import preflight as module

Capture = pytest.CaptureFixture[str]
CODES = {"ok": 0, "warnings": 40, "errors": 41}


def test_on_this_machine(capsys: Capture) -> None:
    ran = rlu(capsys, "preflight", "--json")
    assert ran.code == ran.json["exit_code"] == CODES[ran.json["result"]]
    found = {finding["id"] for finding in ran.json["findings"]}
    assert {"cpu.count", "memory.size", "kernel.landlock", "kernel.swap", "kernel.cgroup"} <= found
    assert os.uname().nodename not in json.dumps(ran.json)


def test_as_a_user_without_rights() -> None:
    # Imported first: that user may not even read the interpreter's own files.
    program = """
import os
import rlu_server.cli.preflight
from rlu_attestation.cli import main
os.getuid() or os.setuid(65534)
main(["preflight", "--json"])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode in CODES.values(), ran.stderr
    assert json.loads(ran.stdout)["exit_code"] == ran.returncode


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNode:
    made = FakeNode(tmp_path / "root")
    monkeypatch.setattr(module, "ROOT", made.root)
    monkeypatch.setattr(module.rlu_lock, "landlock_abi", lambda: 7)
    return made


def test_text_and_exit_codes(capsys: Capture, node: FakeNode, tmp_path: Path) -> None:
    assert rlu(capsys, "preflight", "--profile", "cpu-demo").code == 0
    node.put("sys/kernel/kexec_crash_loaded", "1")
    ran = rlu(capsys, "preflight")
    assert ran.code == 40
    assert "WARNING kernel.crash_dump" in ran.out
    assert "→ disable kdump" in ran.out
    ran = rlu(capsys, "preflight", "--profile", "h100x8", "--weights", tmp_path / "absent")
    assert ran.code == 41
    assert "ERROR   profile.gpu_count" in ran.out
    assert "ERROR   storage.read" in ran.out
    assert str(tmp_path) not in ran.out


def test_an_unknown_profile(capsys: Capture) -> None:
    ran = rlu(capsys, "preflight", "--profile", "v100x8", "--json")
    assert (ran.code, ran.json["code"]) == (2, "preflight.profile")
