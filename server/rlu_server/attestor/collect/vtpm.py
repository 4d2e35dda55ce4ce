"""What attestation keys of clouds' virtual TPMs have in common: keys that the cloud made, with certificates in NV memory."""

from __future__ import annotations

from pathlib import Path

from tpm2_pytss import ESYS_TR

from rlu_attestation.errors import RluError
from rlu_attestation.tpm.public import parse_public
from rlu_attestation.x509 import Certificate
from rlu_server.attestor.collect.collateral import Collateral
from rlu_server.attestor.errors import HardwareRefused, NotReady
from rlu_server.attestor.tpm.connection import Tpm, guard
from rlu_server.attestor.tpm.keys import LoadedKey

MAX_CHAIN = 5


def loaded(tpm: Tpm, reference: ESYS_TR) -> LoadedKey:
    """A key of the TPM that needs no secret."""
    with guard("read_public"):
        public, name, _ = tpm.esapi.read_public(reference)
        handle = int(tpm.esapi.tr_get_tpm_handle(reference))
    return LoadedKey(reference, handle, bytes(name), bytes(public.publicArea.marshal()))


def check_certified(key: LoadedKey, certificate: Certificate, kind: str) -> None:
    """Refuse a certificate that is for another key.

    Raises:
        HardwareRefused: `<kind>.ak`.
    """
    try:
        ours = parse_public(key.public).public_key()
    except RluError as error:
        raise HardwareRefused(f"{kind}.ak", f"the TPM's attestation key cannot be used: {error}") from error
    if ours != certificate.public_key():
        raise HardwareRefused(
            f"{kind}.ak",
            "the certificate in NV memory is not for the TPM's attestation key: was its hierarchy cleared?",
        )


def chain_of(
    certificate: Certificate, given: Collateral, directory: Path, kind: str
) -> tuple[Certificate, ...]:
    """The issuers of a certificate up to a root.

    Raises:
        NotReady: one is not in the directory (`<kind>.chain`).
    """
    chain: list[Certificate] = []
    last = certificate
    while last.subject != last.issuer and len(chain) < MAX_CHAIN:
        issuer = given.issuer_of(last)
        if issuer is None:
            raise NotReady(
                f"{kind}.chain",
                f"{directory} lacks an issuer of the attestation key's certificate; put the intermediate and the root there, "
                "from where the certificates' Authority Information Access points (`rlu collateral fetch`)",
            )
        chain.append(issuer)
        last = issuer
    return tuple(chain)
