"""NVIDIA's root keys, by fingerprint. Evidence brings the certificates; only these digests decide which are NVIDIA's.

Source: `verifier_device_root.pem` and `verifier_RIM_root.pem` of NVIDIA's own verifiers (GitHub NVIDIA/nvtrust `guest_tools/gpu_verifiers`,
NVIDIA/attestation-sdk; PyPI nv-local-gpu-verifier 2.7.3 and nv-attestation-sdk 2.7.3, GPU and switch folders alike). They are also the
roots of the real evidence in the test vectors: of GH100, GB100 and LS10 reports, and of signed RIMs.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlu_attestation.x509 import Certificate


@dataclass(frozen=True, slots=True)
class Root:
    """A trusted self-signed certificate: SHA-256 of its DER and of its SubjectPublicKeyInfo."""

    name: str
    certificate_sha256: bytes
    spki_sha256: bytes

    @classmethod
    def of(cls, certificate: Certificate, name: str) -> Root:
        """Trust a certificate that an operator supplies."""
        return cls(name, certificate.fingerprint, certificate.spki_sha256)

    def is_of(self, certificate: Certificate) -> bool:
        """Whether this is the certificate, byte for byte."""
        return (self.certificate_sha256, self.spki_sha256) == (
            certificate.fingerprint,
            certificate.spki_sha256,
        )


@dataclass(frozen=True, slots=True)
class Roots:
    """Which roots count for what. A device's root never vouches for reference values, nor the other way round."""

    gpu: tuple[Root, ...]
    switch: tuple[Root, ...]
    rim: tuple[Root, ...]


DEVICE_IDENTITY_CA = Root(
    "NVIDIA Device Identity CA",
    bytes.fromhex("102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"),
    bytes.fromhex("a90c4eb5acfd3e3d03a25db6a26b84f720ad0503196c627c21ddd48dd85b06a4"),
)
"""CN=NVIDIA Device Identity CA, serial 2d3670b1ca100411c1fec0e82a065b54, from 2021-11-05 without an end; of GPUs and of switches."""

CORIM_SIGNING_ROOT = Root(
    "NVIDIA CoRIM signing Root CA",
    bytes.fromhex("12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1"),
    bytes.fromhex("dec1dc316477aa851eebdf51327ae9f864bc8d89254657ed1e7eb9168af1e1a3"),
)
"""CN=NVIDIA CoRIM signing Root CA, serial 45dae3a00e5037bddf875375ecb5e270, valid 2023-03-16 to 2053-03-08."""

PINNED = Roots(gpu=(DEVICE_IDENTITY_CA,), switch=(DEVICE_IDENTITY_CA,), rim=(CORIM_SIGNING_ROOT,))
