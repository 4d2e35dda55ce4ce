"""The endorsement key: its certificate in NV, the key itself, and the activation of a credential (TCG EK Credential Profile 2.x)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_SE,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_ID_OBJECT,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_SESSION,
)
from tpm2_pytss.utils import NoSuchIndex, create_ek_template

from rlu_attestation import x509
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.evidence.tpm2.ek import trim_nv
from rlu_attestation.tpm.public import parse_public
from rlu_server.attestor.errors import HardwareRefused
from rlu_server.attestor.tpm import nv
from rlu_server.attestor.tpm.connection import Tpm, guard
from rlu_server.attestor.tpm.keys import LoadedKey

EK_KINDS = ("EK-RSA2048", "EK-ECC256")
"""Templates L-1 and L-2, in order of preference; certificates at 0x01c00002 and 0x01c0000a."""
CHAIN_FIRST, CHAIN_LAST = 0x01C00100, 0x01C001FF
"""NV indices that hold the EK certificate's issuers, concatenated (section 2.2.1.5.2)."""


@dataclass(frozen=True, slots=True)
class EndorsementKey:
    """A loaded EK with its certificate and the intermediates that the TPM holds (DER)."""

    reference: ESYS_TR
    certificate: bytes
    chain: tuple[bytes, ...]


@contextmanager
def endorsement_key(tpm: Tpm) -> Iterator[EndorsementKey]:
    """The first EK that has a certificate, loaded while the block runs.

    Raises:
        HardwareRefused: no EK certificate in NV, or none for the key that its template makes.
    """
    with guard("endorsement"):
        kind, certificate, template = _find(tpm)
        reference, public, *_ = tpm.esapi.create_primary(
            TPM2B_SENSITIVE_CREATE(), template, ESYS_TR.RH_ENDORSEMENT
        )
    try:
        _check(bytes(public.publicArea.marshal()), certificate, kind)
        yield EndorsementKey(reference, certificate, _chain(tpm))
    finally:
        tpm.flush(reference)


def ek_certificate(tpm: Tpm) -> bytes:
    """The EK certificate (DER) that names this TPM; the key itself is not loaded.

    Raises:
        HardwareRefused: there is none (`ek.certificate_missing`).
        HardwareUnavailable: the TPM does not answer.
    """
    with guard("endorsement"):
        return _find(tpm)[1]


def activate(tpm: Tpm, ak: LoadedKey, ek: EndorsementKey, credential_blob: bytes, secret: bytes) -> bytes:
    """TPM2_ActivateCredential: the credential, if it was made for this AK and this EK.

    Raises:
        HardwareRefused: it was made for others (`enrolment.challenge`).
    """
    blob, _ = TPM2B_ID_OBJECT.unmarshal(credential_blob)
    encrypted, _ = TPM2B_ENCRYPTED_SECRET.unmarshal(secret)
    with tpm.hmac_session() as ak_session, _ek_policy(tpm) as ek_session:
        try:
            with guard("activate_credential"):
                return bytes(
                    tpm.esapi.activate_credential(
                        ak.reference, ek.reference, blob, encrypted, ak_session, ek_session
                    )
                )
        except RluError as error:
            raise HardwareRefused(
                "enrolment.challenge",
                f"the TPM does not open this challenge; made for another one? ({error})",
            ) from error


@contextmanager
def _ek_policy(tpm: Tpm) -> Iterator[ESYS_TR]:
    """Policy A of the profile: whoever may use the endorsement hierarchy may use the EK."""
    with guard("policy_secret"):
        session = tpm.esapi.start_auth_session(
            ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.POLICY, None, TPM2_ALG.SHA256
        )
    try:
        with guard("policy_secret"):
            tpm.esapi.trsess_set_attributes(session, TPMA_SESSION.CONTINUESESSION)
            tpm.esapi.policy_secret(ESYS_TR.RH_ENDORSEMENT, session, b"", b"", b"", 0)
        yield session
    finally:
        tpm.flush(session)


def _find(tpm: Tpm) -> tuple[str, bytes, TPM2B_PUBLIC]:
    for kind in EK_KINDS:
        certificate, template = create_ek_template(kind, lambda index: nv.read(tpm, int(index)))
        if certificate is not None:
            return kind, trim_nv(certificate), template
    raise HardwareRefused(
        "ek.certificate_missing",
        "the TPM holds no EK certificate at 0x01c00002 or 0x01c0000a; ask its vendor, or use the cloud's own AK certificate",
    )


def _check(public: bytes, certificate: bytes, kind: str) -> None:
    spki = x509.parse(certificate).public_key()
    if parse_public(public).public_key() != spki:
        raise HardwareRefused(
            "ek.certificate_mismatch", f"the EK certificate in NV is not for the key that {kind} makes"
        )


def _chain(tpm: Tpm) -> tuple[bytes, ...]:
    data = b""
    with guard("endorsement"):
        indices = sorted(i for i in tpm.handles(CHAIN_FIRST) if CHAIN_FIRST <= i <= CHAIN_LAST)
        for index in indices:
            with suppress(NoSuchIndex):
                data += nv.read(tpm, index)
    certificates: list[bytes] = []
    while data.strip(b"\xff\x00") and len(certificates) < 8:
        try:
            first = _first_der(data)
        except Malformed:
            break  # an optional help; the chain can be given by hand
        certificates.append(first)
        data = data[len(first) :]
    return tuple(certificates)


def _first_der(data: bytes) -> bytes:
    """The DER object that the data begins with."""
    if len(data) < 4 or data[0] != 0x30:
        raise Malformed("tpm2.ek_nv", "not a certificate")
    if data[1] < 0x80:
        size = 2 + data[1]
    else:
        octets = data[1] & 0x7F
        size = 2 + octets + int.from_bytes(data[2 : 2 + octets], "big")
    return trim_nv(data[:size])
