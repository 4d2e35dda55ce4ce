"""Real software TPMs and real attestor processes for tests; a pytest plugin (`pytest_plugins = ["fixtures_tpm"]`).

swtpm serves one client at a time, so whoever holds a TPM open keeps others waiting: a test that starts an attestor process takes a TPM
of its own (`software_tpm`), made in milliseconds as a copy of one that is manufactured once a run.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.attestor_process import AttestorProcess, Deployment
from rlu_server import swtpm


@pytest.fixture(scope="session")
def manufactured_tpm() -> Iterator[Path]:
    """Directory of a software TPM with EK certificates of its own local CA; not running, not to be changed."""
    # Not below pytest's directory: socket paths have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="rlu-tpm-") as directory:
        swtpm.manufacture(Path(directory))
        yield Path(directory)


@pytest.fixture
def software_tpm(manufactured_tpm: Path) -> Iterator[swtpm.SoftwareTpm]:
    """A running TPM of this test's own: fresh state, PCRs as after a boot."""
    with tempfile.TemporaryDirectory(prefix="rlu-tpm-") as directory:
        for part in ("tpm", "ca"):
            shutil.copytree(manufactured_tpm / part, Path(directory) / part)
        with swtpm.SoftwareTpm(Path(directory)) as tpm:
            yield tpm


@pytest.fixture
def deployment(software_tpm: swtpm.SoftwareTpm) -> Iterator[Deployment]:
    """Directories and configuration of one attestor on a TPM of its own, enrolled with a registrar; not started."""
    with tempfile.TemporaryDirectory(prefix="rlu-attestor-") as directory:
        made = Deployment(Path(directory), software_tpm)
        made.enrol()
        yield made


@pytest.fixture
def attestor_process(deployment: Deployment) -> Iterator[AttestorProcess]:
    """A running attestor; `.socket`, `.deployment`, and `.connect()` for a gateway's side."""
    with AttestorProcess(deployment) as process:
        yield process
