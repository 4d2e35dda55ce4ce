"""What the labeller asks of a node's TPM, and of its kernel; what it does with the answers is in tests/cluster."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from rlu_server import swtpm
from rlu_server.attestor.tpm.connection import Tpm
from rlu_server.attestor.tpm.endorsement import endorsement_key
from rlu_server.cluster.labeller import endorsement_of, weaker_than
from rlu_server.preflight import Severity
from rlu_server.swtpm import SoftwareTpm


def test_the_ek_certificate_names_the_tpm(software_tpm: SoftwareTpm) -> None:
    # The same at every look, and nothing stays loaded: an emulator has room for three objects.
    [digest] = {endorsement_of(software_tpm.tcti) for _ in range(4)}
    tpm = Tpm(software_tpm.tcti)
    try:
        with endorsement_key(tpm) as key:
            assert digest == (hashlib.sha256(key.certificate).hexdigest(), ())
    finally:
        tpm.close()


def test_another_tpm_has_another(software_tpm: SoftwareTpm) -> None:
    first = endorsement_of(software_tpm.tcti)
    with tempfile.TemporaryDirectory(prefix="rlu-tpm-") as directory:
        swtpm.manufacture(Path(directory))
        with SoftwareTpm(Path(directory)) as other:
            assert endorsement_of(other.tcti) != first


def test_a_tpm_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    digest, [problem] = endorsement_of(f"device:{tmp_path / 'none'}")
    assert (digest, problem.id, problem.severity) == ("", "tpm.endorsement", Severity.ERROR)


def test_a_kernel_that_the_lock_would_refuse() -> None:
    assert weaker_than(3, 3) == weaker_than(0, 0) == ()
    [found] = weaker_than(4, 3)
    assert (found.id, found.severity) == ("lock.landlock", Severity.ERROR)
