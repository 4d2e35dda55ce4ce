"""Nitro evidence: the attestation document that an enclave's NSM or an instance's NitroTPM signs, with the binding root in `user_data`.

`nonce` and `public_key` stay empty: the statement that the root binds has both (FORMATS section 4.3). Revocation lists of AWS's authorities
come from the collateral directory; an enclave has no network to fetch them.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Protocol

import cbor2

from rlu_attestation.errors import RluError
from rlu_attestation.evidence import nitro
from rlu_attestation.evidence.binding import SINGLE
from rlu_attestation.evidence.nitro import Kind
from rlu_server.attestor.collect import collateral
from rlu_server.attestor.collect.collector import check_root
from rlu_server.attestor.errors import HardwareRefused
from rlu_server.attestor.platform import Evidence, evidence_of


class Module(Protocol):
    """What answers the requests of the NSM's interface."""

    def request(self, message: bytes) -> bytes:
        """Send a CBOR request and return the CBOR answer."""


class NitroCollector:
    """Collector of `nitro` and `nitrotpm` items.

    Args:
        module: the device.
        directory: revocation lists (`collateral.py`).
    """

    def __init__(self, module: Module, directory: Path, kind: Kind = Kind.NITRO) -> None:
        self._module = module
        self._directory = directory
        self._kind = kind

    @property
    def kind(self) -> str:
        return self._kind.value

    def collect(self, root: bytes) -> Evidence:
        """Evidence whose `user_data` is `root`.

        Raises:
            AttestorError: as the module's `request`; `nsm.refused`, `nsm.answer`, `collateral.…`.
        """
        check_root(root)
        document = parse_attestation(self._module.request(attestation_request(root)))
        try:
            parsed = nitro.parse_document(document, self._kind)
        except RluError as error:
            raise HardwareRefused(
                "nsm.answer", f"the attestation document cannot be used: {error}"
            ) from error
        if parsed.user_data != root:
            raise HardwareRefused(
                "nsm.answer", "the attestation document is over other data than was asked for"
            )
        crls = self._crls(parsed)

        return evidence_of(nitro.encode(self._kind, document=document, binding=SINGLE, crls=crls))

    def _crls(self, document: nitro.AttestationDocument) -> list[bytes]:
        ours = collateral.load(self._directory)
        found = (ours.crl_of(authority) for authority in document.cabundle)
        return [revoked.raw for revoked in found if revoked is not None]


def attestation_request(user_data: bytes) -> bytes:
    """`Attestation` of the NSM API (aws-nitro-enclaves-nsm-api, `Request`)."""
    return cbor2.dumps({"Attestation": {"user_data": user_data, "nonce": None, "public_key": None}})


def parse_attestation(answer: bytes) -> bytes:
    """The document of an answer.

    Raises:
        HardwareRefused: the module answered with an error (`nsm.refused`), or something else (`nsm.answer`).
    """
    try:
        # A NitroTPM fills its answers up, so that what follows the first item means nothing.
        decoded: Any = cbor2.CBORDecoder(io.BytesIO(answer)).decode()
    except Exception as error:  # the library raises many kinds
        raise HardwareRefused("nsm.answer", "the module's answer is no CBOR") from error
    match decoded:
        case {"Attestation": {"document": bytes(document)}}:
            return document
        case {"Error": str(cause)}:
            raise HardwareRefused("nsm.refused", f"the module refused the request: {cause[:64]!r}")
    raise HardwareRefused("nsm.answer", "the module's answer is no attestation document")
