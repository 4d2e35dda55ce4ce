"""The attestation key of a Google Compute Engine instance's virtual TPM.

Google leaves a template and a certificate for each AK in NV memory (go-tpm-tools `client/keys.go`); the key is the primary key of the
endorsement hierarchy that the template makes, always the same one. Intermediate, root and revocation lists come from the collateral
directory: the certificates name where they are.
"""

from __future__ import annotations

from pathlib import Path

from tpm2_pytss import ESYS_TR, TPM2B_PUBLIC, TPM2B_SENSITIVE_CREATE, TPMT_PUBLIC, TSS2_Exception
from tpm2_pytss.utils import NoSuchIndex

from rlu_attestation import x509
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import gcp_vtpm
from rlu_attestation.evidence.binding import BindingPath
from rlu_attestation.evidence.tpm2.ek import trim_nv
from rlu_attestation.x509 import Certificate
from rlu_server.attestor.collect import collateral
from rlu_server.attestor.collect.vtpm import chain_of, check_certified, loaded
from rlu_server.attestor.errors import NotReady
from rlu_server.attestor.tpm import nv
from rlu_server.attestor.tpm.attestation_key import TpmParts
from rlu_server.attestor.tpm.connection import Tpm, guard
from rlu_server.attestor.tpm.keys import LoadedKey

KEYS = ((0x01C10002, 0x01C10003), (0x01C10000, 0x01C10001))
"""NV indices of certificate and template: the ECC key, which signs faster, then the RSA key."""


class GcpKey:
    """`AttestationKey` of evidence `gcp-vtpm`.

    Args:
        directory: Google's intermediate and root, revocation lists (`collateral.py`).
    """

    kind = gcp_vtpm.KIND

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._certificate: Certificate | None = None

    def load(self, tpm: Tpm) -> LoadedKey:
        """Make the AK from its template, which gives the same key every time.

        Raises:
            NotReady: this TPM has no such key (`gcp-vtpm.absent`), or its certificate's issuers are not in the directory
                (`gcp-vtpm.chain`).
            HardwareRefused: template and certificate do not fit (`gcp-vtpm.ak`).
        """
        certificate, template = _certified(tpm)
        with guard("create_primary"):
            reference, *_ = tpm.esapi.create_primary(
                TPM2B_SENSITIVE_CREATE(), TPM2B_PUBLIC(publicArea=template), ESYS_TR.RH_ENDORSEMENT
            )
        try:
            key = loaded(tpm, reference)
            check_certified(key, certificate, self.kind)
            chain_of(certificate, collateral.load(self._directory), self._directory, self.kind)
        except BaseException:
            tpm.flush(reference)
            raise
        self._certificate = certificate
        return key

    def item(self, parts: TpmParts, binding: BindingPath) -> bytes:
        assert self._certificate is not None
        given = collateral.load(self._directory)
        *intermediates, root = chain_of(self._certificate, given, self._directory, self.kind)
        lists = [given.crl_of(issuer) for issuer in (*intermediates, root)]
        return gcp_vtpm.encode(
            ak_certificate=self._certificate.raw,
            ak_chain=[issuer.raw for issuer in intermediates],
            root_certificate=root.raw,
            ak_public=parts.ak_public,
            key_public=parts.key_public,
            certify=parts.certify,
            quote=parts.quote,
            pcrs=parts.pcrs,
            binding=binding,
            crls=[found.raw for found in lists if found is not None],
            event_log=parts.event_log,
            ima_log=parts.ima_log,
        )


def _certified(tpm: Tpm) -> tuple[Certificate, TPMT_PUBLIC]:
    for certificate_index, template_index in KEYS:
        try:
            with guard("nv_read"):
                certificate, template = nv.read(tpm, certificate_index), nv.read(tpm, template_index)
        except NoSuchIndex:
            continue
        try:
            return x509.parse(trim_nv(certificate)), TPMT_PUBLIC.unmarshal(template)[0]
        except (RluError, TSS2_Exception, ValueError):
            continue  # one that was never filled
    raise NotReady(
        "gcp-vtpm.absent",
        "the TPM holds no attestation key of Google Compute Engine (NV 0x01c10000 to 0x01c10003); it needs an instance with vTPM, "
        "or set [attestation] key to the kind of this machine",
    )
