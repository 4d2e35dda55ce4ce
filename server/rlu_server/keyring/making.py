"""What needs the TPM itself: making keys, and the machine's side of their registration."""

from __future__ import annotations

import json

from rlu_attestation.errors import Malformed
from rlu_attestation.instance import ueid
from rlu_attestation.jose import public_jwk, thumbprint
from rlu_server.attestor import enrolment, secret
from rlu_server.attestor.enrolment import StateFiles
from rlu_server.attestor.keeping import TPM_HOLDERS, key_slots, tpm_configuration
from rlu_server.attestor.tpm import documents
from rlu_server.attestor.tpm.attestation_key import Endorsement, EnrolledKey
from rlu_server.attestor.tpm.documents import Enrolment, EnrolmentChallenge
from rlu_server.attestor.tpm.platform import TpmPlatform
from rlu_server.keyring.listing import KeysError
from rlu_server.settings import Settings


def create(settings: Settings) -> str:
    """Make the instance key and the AK where they are not there yet; gives the key's `ueid`.

    Raises:
        KeysError: `keys.no_tpm`.
        RluError: as the TPM has it.
    """
    if settings.attestation.holder not in TPM_HOLDERS:
        raise KeysError(
            "keys.no_tpm", "only a TPM keeps keys; elsewhere the attestor makes one at every start"
        )
    files = StateFiles(settings.state_dir)
    files.secret.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    ours = secret.load_or_create(files.secret)
    key_slots(settings).recover()
    ak = EnrolledKey(files.ak, ours, Endorsement(b"", (), b"", ()))
    platform = TpmPlatform(tpm_configuration(settings), ours, ak)
    try:
        return ueid(thumbprint(public_jwk(platform.public_key)))
    finally:
        platform.close()


def kind_of(data: bytes) -> type[EnrolmentChallenge] | type[Enrolment]:
    """What a registrar's file is.

    Raises:
        Malformed: `enrolment.document`.
    """
    try:
        members = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Malformed("enrolment.document", "not a file of a registrar's") from error
    for form in (EnrolmentChallenge, Enrolment):
        if isinstance(members, dict) and form.__struct_fields__[0] in members:
            return form
    raise Malformed("enrolment.document", "neither a challenge nor an enrolment")


def activate(settings: Settings, data: bytes) -> bytes:
    """The answer to a challenge.

    Raises:
        RluError: it was made for another TPM or AK.
    """
    challenge = documents.parse(data, EnrolmentChallenge)
    response = enrolment.activate(settings.attestation.tcti, StateFiles(settings.state_dir), challenge)
    return documents.encode(response)


def accept(settings: Settings, data: bytes) -> None:
    """Keep what the registrar issued.

    Raises:
        RluError: it is for another AK.
    """
    issued = documents.parse(data, Enrolment)
    enrolment.accept(settings.attestation.tcti, StateFiles(settings.state_dir), issued)
