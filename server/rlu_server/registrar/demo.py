"""Everything an enrolment takes, in one call, for a registrar and a TPM on one machine: the demo and tests.

The steps are those of `rlu registrar` and `python -m rlu_server.attestor`; what is missing is the distance between the two that gives an
endorsement its meaning.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rlu_attestation import x509
from rlu_attestation.errors import Refused
from rlu_server.attestor import enrolment
from rlu_server.attestor.enrolment import StateFiles
from rlu_server.registrar import authority, enrolling
from rlu_server.registrar.enrolling import Place


def enrol(
    registrar_dir: Path,
    state_dir: Path,
    tcti: str,
    place: Place,
    now: datetime,
    ek_roots: Sequence[Path],
    ek_intermediates: Sequence[Path] = (),
) -> Path:
    """Enrol a TPM; makes the registrar if there is none. Returns the registrar's certificate file (PEM), for the policy.

    Args:
        ek_roots: PEM or DER files of the EK certificate's roots.
        ek_intermediates: the same of its intermediates.

    Raises:
        RluError: a step refused.
    """
    try:
        registrar = authority.load(registrar_dir)
    except Refused as error:
        if error.code != "registrar.missing":
            raise
        registrar = authority.create(registrar_dir, "rlu demo registrar", now, secrets.randbits(120) | 1)
    files = StateFiles(state_dir)
    chain = tuple(c.raw for path in ek_intermediates for c in x509.parse_many(path.read_bytes()))
    roots = [c for path in ek_roots for c in x509.parse_many(path.read_bytes())]
    request = enrolment.request(tcti, files, chain)
    challenge = enrolling.challenge(registrar, request, roots, now, secrets.token_bytes)
    response = enrolment.activate(tcti, files, challenge)
    issued = enrolling.issue(registrar, response, place, now, secrets.token_bytes)
    enrolment.accept(tcti, files, issued)
    return authority.certificate_path(registrar_dir)
