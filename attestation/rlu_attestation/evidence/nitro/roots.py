"""AWS's root of Nitro attestation, by fingerprint. Documents bring the certificate; only these digests decide that it is AWS's.

Source: AWS, "Nitro Enclaves Attestation Process" section 2.1 and "Verifying the root of trust" of the Nitro Enclaves user guide, which
prints the certificate's SHA-256; all real documents in the test vectors end in it. NitroTPM documents end in the same root. Other
partitions (GovCloud, China) have roots of their own, which an operator supplies.
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


AWS_NITRO_G1 = Root(
    bytes.fromhex("641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"),
    bytes.fromhex("f2caf5ecc6190b4a8399b78bc58a2bbcd0382375db8a1bfd78a82743874fd225"),
)
"""CN=aws.nitro-enclaves, C=US, O=Amazon, OU=AWS, valid 2019-10-28 to 2049-10-28."""

PINNED = (AWS_NITRO_G1,)
