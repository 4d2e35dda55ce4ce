"""Which key attests to the TPM's state and to the instance key, and whose word it has: the registrar's here, a cloud's in `collect/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rlu_attestation.evidence.binding import BindingPath
from rlu_attestation.evidence.tpm2 import item
from rlu_server.attestor.secret import authorisation
from rlu_server.attestor.tpm import keys
from rlu_server.attestor.tpm.connection import Tpm


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmParts:
    """What a TPM signed for one quote: TPMT_PUBLIC of both keys, and (TPMS_ATTEST, TPMT_SIGNATURE) pairs."""

    ak_public: bytes
    key_public: bytes
    certify: tuple[bytes, bytes]
    quote: tuple[bytes, bytes]
    pcrs: Mapping[str, Mapping[int, bytes]]
    event_log: bytes | None
    ima_log: bytes | None


class AttestationKey(Protocol):
    """A restricted signing key in the TPM, with what others say of it."""

    @property
    def kind(self) -> str:
        """Kind of the evidence item."""

    def load(self, tpm: Tpm) -> keys.LoadedKey:
        """The key, ready for use.

        Raises:
            AttestorError: it is not there, or of another form.
        """

    def item(self, parts: TpmParts, binding: BindingPath) -> bytes:
        """The evidence item.

        Raises:
            RluError: what should stand beside the quote is missing or wrong.
        """


@dataclass(frozen=True, slots=True)
class Endorsement:
    """What others say of the AK: the registrar's certificate, the EK certificate, and their intermediates (all DER)."""

    ak_certificate: bytes
    ak_chain: tuple[bytes, ...]
    ek_certificate: bytes
    ek_chain: tuple[bytes, ...]


class EnrolledKey:
    """An AK of our own making, in a TSS2 file, that a registrar certified: evidence `tpm2`."""

    kind = "tpm2"

    def __init__(self, file: Path, secret: bytes, endorsement: Endorsement) -> None:
        self._file = file
        self._auth = authorisation(secret, "ak")
        self._endorsement = endorsement

    def load(self, tpm: Tpm) -> keys.LoadedKey:
        ak = keys.load_or_create_file(tpm, self._file, keys.AK_ATTRIBUTES, b"", self._auth)
        keys.check_public(ak, keys.AK_ATTRIBUTES, b"")
        return ak

    def item(self, parts: TpmParts, binding: BindingPath) -> bytes:
        endorsement = self._endorsement
        return item.encode(
            ek_certificate=endorsement.ek_certificate,
            ek_chain=endorsement.ek_chain,
            ak_public=parts.ak_public,
            ak_certificate=endorsement.ak_certificate,
            ak_chain=endorsement.ak_chain,
            key_public=parts.key_public,
            certify=parts.certify,
            quote=parts.quote,
            pcrs=parts.pcrs,
            binding=binding,
            event_log=parts.event_log,
            ima_log=parts.ima_log,
        )
