"""The machine's side of an enrolment: request, activate, import; and what is kept of it in `<state>/attestation/enrolment.json`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rlu_attestation import endorsement as ak_endorsement
from rlu_attestation import x509
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.tpm.public import parse_public
from rlu_server.attestor import secret
from rlu_server.attestor.errors import HardwareRefused, NotReady
from rlu_server.attestor.tpm import documents, endorsement, keys
from rlu_server.attestor.tpm.attestation_key import Endorsement
from rlu_server.attestor.tpm.connection import Tpm
from rlu_server.attestor.tpm.documents import (
    Enrolment,
    EnrolmentChallenge,
    EnrolmentRequest,
    EnrolmentResponse,
)


@dataclass(frozen=True, slots=True)
class StateFiles:
    """Files of the attestor below `settings.state_dir`."""

    directory: Path

    @property
    def secret(self) -> Path:
        return self.directory / "attestation" / "secret"

    @property
    def ak(self) -> Path:
        return self.directory / "attestation" / "ak.tss2.pem"

    @property
    def enrolment(self) -> Path:
        return self.directory / "attestation" / "enrolment.json"

    @property
    def key_age(self) -> Path:
        return self.directory / "attestation" / "key.json"

    @property
    def software_counter(self) -> Path:
        return self.directory / "attestation" / "start-count"

    @property
    def log(self) -> Path:
        return self.directory / "log"


def request(tcti: str, files: StateFiles, ek_chain: tuple[bytes, ...] = ()) -> EnrolmentRequest:
    """Ask for enrolment; makes the AK if there is none.

    Args:
        ek_chain: DER intermediates of the EK certificate that the TPM does not hold itself.

    Raises:
        RluError: no TPM, no EK certificate, or an AK of another form.
    """
    with _opened(tcti, files) as (tpm, ak), endorsement.endorsement_key(tpm) as ek:
        return EnrolmentRequest(
            ak_public=b64u(ak.public),
            ek_certificate=b64u(ek.certificate),
            ek_chain=[b64u(der) for der in (*ek.chain, *ek_chain)],
        )


def activate(tcti: str, files: StateFiles, challenge: EnrolmentChallenge) -> EnrolmentResponse:
    """Open a registrar's challenge in the TPM.

    Raises:
        HardwareRefused: it was made for another AK or another TPM.
    """
    with _opened(tcti, files) as (tpm, ak):
        if unb64u(challenge.ak_name) != ak.name:
            raise HardwareRefused("enrolment.challenge", "the challenge was made for another AK")
        with endorsement.endorsement_key(tpm) as ek:
            blob, encrypted = unb64u(challenge.credential_blob), unb64u(challenge.secret)
            credential = endorsement.activate(tpm, ak, ek, blob, encrypted)
        answer = documents.proof(credential, challenge.id, ak.name)
        return EnrolmentResponse(id=challenge.id, ak_name=b64u(ak.name), proof=b64u(answer))


def accept(tcti: str, files: StateFiles, enrolment: Enrolment) -> None:
    """Keep what the registrar issued; a running attestor uses it after its next start.

    Raises:
        HardwareRefused: it is for another AK.
    """
    certificate = x509.parse(unb64u(enrolment.ak_certificate))
    with _opened(tcti, files) as (_, ak):
        endorsed = ak_endorsement.of_certificate(certificate)
        same_key = certificate.public_key() == parse_public(ak.public).public_key()
        if endorsed.ak_name != ak.name or not same_key:
            raise HardwareRefused(
                "enrolment.other_ak", "the certificate is for another AK than this machine's"
            )
    if endorsed.ek_spki_sha256 != x509.parse(unb64u(enrolment.ek_certificate)).spki_sha256:
        raise HardwareRefused(
            "enrolment.other_ek", "the AK certificate names another EK than the one beside it"
        )
    secret.write_private(files.enrolment, documents.encode(enrolment))


def load(path: Path) -> Endorsement:
    """What the registrar issued.

    Raises:
        NotReady: there is nothing yet, or it cannot be read.
        Malformed: it is damaged.
    """
    try:
        with path.open("rb") as file:
            data = file.read(documents.MAX_DOCUMENT + 1)
    except FileNotFoundError as error:
        raise NotReady(
            "enrolment.missing",
            f"{path} is not there: enrol this TPM with a registrar first (python -m rlu_server.attestor request)",
        ) from error
    except OSError as error:
        raise NotReady("enrolment.unreadable", f"{path}: {os.strerror(error.errno or 0)}") from error
    stored = documents.parse(data, Enrolment)
    return Endorsement(
        unb64u(stored.ak_certificate),
        tuple(unb64u(der) for der in stored.ak_chain),
        unb64u(stored.ek_certificate),
        tuple(unb64u(der) for der in stored.ek_chain),
    )


@contextmanager
def _opened(tcti: str, files: StateFiles) -> Iterator[tuple[Tpm, keys.LoadedKey]]:
    auth = secret.authorisation(secret.load_or_create(files.secret), "ak")
    tpm = Tpm(tcti)
    try:
        ak = keys.load_or_create_file(tpm, files.ak, keys.AK_ATTRIBUTES, b"", auth)
        try:
            keys.check_public(ak, keys.AK_ATTRIBUTES, b"")
            yield tpm, ak
        finally:
            tpm.flush(ak.reference)
    finally:
        tpm.close()
