"""The software TPM: made once, powered on and off, with its own CA."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import pytest

from rlu_attestation import x509
from rlu_attestation.chain import verify_signed_by
from rlu_server import swtpm
from rlu_server.attestor.tpm.connection import Tpm

pytestmark = pytest.mark.tpm


def test_the_issuer_leads_to_the_root_that_policies_name(manufactured_tpm: Path) -> None:
    (root,) = x509.parse_many(swtpm.root_certificate(manufactured_tpm).read_bytes())
    (issuer,) = x509.parse_many(swtpm.issuer_certificate(manufactured_tpm).read_bytes())
    verify_signed_by(issuer, root, "test")
    assert root.not_after > datetime.now(timezone.utc)


def test_it_is_made_once(manufactured_tpm: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in manufactured_tpm.rglob("*")}
    swtpm.manufacture(manufactured_tpm)
    assert {path: path.stat().st_mtime_ns for path in manufactured_tpm.rglob("*")} == before


def test_it_can_be_switched_off_and_on(software_tpm: swtpm.SoftwareTpm) -> None:
    tcti = software_tpm.tcti
    for _ in range(2):
        tpm = Tpm(software_tpm.tcti)
        assert len(bytes(tpm.esapi.get_random(8))) == 8
        assert {0x81010001, 0x81010016} <= set(tpm.handles(0x81000000))
        tpm.close()
        software_tpm.stop()
        with pytest.raises(swtpm.SwtpmError):
            _ = software_tpm.pid
        software_tpm.start()
        assert software_tpm.tcti == tcti


SLOW = """#!{python}
import signal, socket, sys, time
options = dict(zip(sys.argv[1:], sys.argv[2:]))
control, data = (socket.socket(socket.AF_UNIX) for _ in range(2))
control.bind(options["--ctrl"].partition("path=")[2])
control.listen()
data.bind(options["--server"].partition("path=")[2])
time.sleep(0.3)
data.listen()
signal.pause()
"""


def test_it_is_on_when_it_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine under load stops swtpm between binding its socket and listening there; who connects then is refused."""
    (tmp_path / "swtpm").write_text(SLOW.format(python=sys.executable))
    (tmp_path / "swtpm").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(swtpm, "manufacture", lambda directory: None)
    with (
        tempfile.TemporaryDirectory(prefix="rlu-tpm-") as directory,
        swtpm.SoftwareTpm(Path(directory)) as tpm,
        socket.socket(socket.AF_UNIX) as client,
    ):
        client.connect(tpm.tcti.partition("path=")[2])


def test_what_cannot_work_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(swtpm.SwtpmError, match="shorter"):
        swtpm.SoftwareTpm(tmp_path / ("x" * 120)).start()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(swtpm.SwtpmError, match="apt-get install swtpm"):
        swtpm.manufacture(tmp_path / "new")
