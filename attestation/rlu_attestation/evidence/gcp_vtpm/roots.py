"""Google's roots for the keys of Compute Engine's virtual TPMs, by fingerprint. Evidence brings the certificates; only these digests decide
that they are Google's.

Source: `https://pki.goog/cloud_integrity/` publishes the first with its intermediates, Google's Certificate Authority Service the second.
The digests were computed from the copies that Google's own verifier ships (google/go-tpm-tools, `server/ca-certs/tpm_ek_root_1.cer` and
`gcp_ek_ak_ca_root.crt`); all real certificates in the test vectors end in one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlu_attestation.x509 import Certificate


@dataclass(frozen=True, slots=True)
class Root:
    """A trusted root: SHA-256 of its DER certificate and of its SubjectPublicKeyInfo."""

    certificate_sha256: bytes
    spki_sha256: bytes

    @classmethod
    def of(cls, certificate: Certificate) -> Root:
        """Trust a certificate that an operator supplies."""
        return cls(certificate.fingerprint, certificate.spki_sha256)

    def is_of(self, certificate: Certificate) -> bool:
        """Whether this is the certificate, byte for byte."""
        return (self.certificate_sha256, self.spki_sha256) == (
            certificate.fingerprint,
            certificate.spki_sha256,
        )


TPM_EK_ROOT_1 = Root(
    bytes.fromhex("9bd5285f8fb18502a7947e621ffd470266f49fcd3b73e19a190f690ad32a7caf"),
    bytes.fromhex("f23057f4f97d1d90e4cae0ce91d5a0fc99069f0a1bc147021dca33b1e9c4d0d9"),
)
"""CN=tpm_ek_v1_cloud_host_root-signer-0-2018-04-06T10:58:26-07:00 …, OU=Cloud, O=Google LLC, valid 2018-04-06 to 2118-04-06."""

EK_AK_CA_ROOT = Root(
    bytes.fromhex("594759594b9b61524f6c8ef668f7177f7b9066bc0674f2f49fe9e052be78beb2"),
    bytes.fromhex("56a613f57126a385dd6949294e93b0b566f96ab0573be0c2368e6f5ca779831f"),
)
"""CN=EK/AK CA Root, OU=Google Cloud, O=Google LLC, valid 2022-07-08 to 2122-07-08."""

PINNED = (TPM_EK_ROOT_1, EK_AK_CA_ROOT)
