"""What the attestor keeps of its enrolment: `<state>/attestation/enrolment.json`, and where its key files are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from rlu_attestation.encoding import b64u, unb64u
from rlu_server.attestor.errors import NotReady
from rlu_server.attestor.secret import write_private
from rlu_server.attestor.tpm.platform import Endorsement

MAX_FILE = 256 * 1024
Der = Annotated[str, Meta(max_length=16384)]


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rlu_enrolment: str
    ak_certificate: Der
    ak_chain: Annotated[list[Der], Meta(max_length=8)]
    ek_certificate: Der
    ek_chain: Annotated[list[Der], Meta(max_length=8)]


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
    def software_counter(self) -> Path:
        return self.directory / "attestation" / "start-count"

    @property
    def log(self) -> Path:
        return self.directory / "log"


def store(path: Path, endorsement: Endorsement) -> None:
    """Keep what the registrar issued."""
    stored = _Stored(
        "1",
        b64u(endorsement.ak_certificate),
        [b64u(der) for der in endorsement.ak_chain],
        b64u(endorsement.ek_certificate),
        [b64u(der) for der in endorsement.ek_chain],
    )
    write_private(path, msgspec.json.format(msgspec.json.encode(stored), indent=2) + b"\n")


def load(path: Path) -> Endorsement:
    """What the registrar issued.

    Raises:
        NotReady: there is nothing yet, or it is damaged.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotReady(
            "enrolment.missing",
            f"{path} is not there: enrol this TPM with a registrar first (python -m rlu_server.attestor request)",
        ) from error
    except OSError as error:
        raise NotReady("enrolment.unreadable", f"{path}: {error.strerror}") from error
    try:
        if len(data) > MAX_FILE:
            raise msgspec.ValidationError("too long")
        stored = msgspec.json.decode(data, type=_Stored)
    except msgspec.MsgspecError as error:
        raise NotReady("enrolment.damaged", f"{path}: {error}") from error
    if stored.rlu_enrolment != "1":
        raise NotReady("enrolment.damaged", f"{path} is of another version")
    return Endorsement(
        unb64u(stored.ak_certificate),
        tuple(unb64u(der) for der in stored.ak_chain),
        unb64u(stored.ek_certificate),
        tuple(unb64u(der) for der in stored.ek_chain),
    )
