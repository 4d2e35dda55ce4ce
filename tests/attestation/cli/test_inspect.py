"""`rlu inspect` on the command line."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from fakes.deployment import Deployment
from fakes.terminal import rlu

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def data() -> bytes:
    return Deployment(claims={"model_name": "\x1b[2Jowned"}).bundle(1).encode()


def test_for_people(capsys: Capture, tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "bundle.rlu"
    file.write_bytes(data)
    ran = rlu(capsys, "inspect", file)
    assert (ran.code, ran.err) == (0, "")
    assert "rlu_region" in ran.out
    assert "region, as configured" in ran.out
    assert "an emulator" not in ran.out
    assert ran.out.rstrip().endswith("Nothing was verified.")
    assert "\x1b" not in ran.out
    assert r"\x1b[2Jowned" in ran.out


def test_for_machines_and_from_standard_input(
    capsys: Capture, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Input:
        buffer = io.BytesIO(data)

    monkeypatch.setattr("sys.stdin", Input)
    ran = rlu(capsys, "inspect", "-", "--json")
    assert ran.code == 0
    assert ran.json["title"] == "Bundle"
    assert {"name", "value", "meaning"} == set(ran.json["fields"][0])


def test_what_is_unknown(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("hello world")
    ran = rlu(capsys, "inspect", file)
    assert (ran.code, ran.out) == (20, "")
    assert "inspect.unknown" in ran.err
    assert rlu(capsys, "inspect", file, "--json").json["result"] == "unsupported"
    assert rlu(capsys, "inspect", tmp_path / "absent").code == 2
