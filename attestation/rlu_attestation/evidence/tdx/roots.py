"""Intel's root key for SGX and TDX, by fingerprint. Quotes and collateral bring the certificate; only these digests decide.

Source: Intel Provisioning Certification Service, `Intel_SGX_Provisioning_Certification_RootCA.cer` at
certificates.trustedservices.intel.com (PCK certificate profile specification, section 1.3). The digests were computed from that certificate
and are those of the root in every genuine quote and issuer chain of the test vectors. PCK, TCB information, QE identity and revocation
lists all end in this one root.
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


INTEL_SGX_ROOT_CA = Root(
    bytes.fromhex("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"),
    bytes.fromhex("a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e"),
)
"""CN=Intel SGX Root CA, serial 22650cd65a9d3489f383b49552bf501b392706ac, valid 2018-05-21 to 2049-12-31."""

PINNED = (INTEL_SGX_ROOT_CA,)
