"""AMD's root keys, by fingerprint. Evidence brings the certificates; only these digests decide which are AMD's.

Source: AMD Key Distribution Service, `cert_chain` of `/vcek/v1/{Milan,Genoa,Turin}` (specification 57230, section 2.2). The digests were
computed from the copies that two independent verifiers publish (google/go-sev-guest `verify/trust/`, virtee/sev
`src/certs/snp/builtin/`); for Milan and Genoa they also are the roots of real evidence in the test vectors. VCEK and VLEK chains of a
line end in the same root.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlu_attestation.evidence.sev_snp.product import ProductLine
from rlu_attestation.x509 import Certificate


@dataclass(frozen=True, slots=True)
class Root:
    """A trusted ARK: SHA-256 of its DER certificate and of its SubjectPublicKeyInfo."""

    product: ProductLine
    certificate_sha256: bytes
    spki_sha256: bytes

    @classmethod
    def of(cls, certificate: Certificate, product: ProductLine) -> Root:
        """Trust a certificate that an operator supplies, for one product line."""
        return cls(product, certificate.fingerprint, certificate.spki_sha256)

    def is_of(self, certificate: Certificate) -> bool:
        """Whether this is the certificate, byte for byte."""
        return (self.certificate_sha256, self.spki_sha256) == (
            certificate.fingerprint,
            certificate.spki_sha256,
        )


ARK_MILAN = Root(
    ProductLine.MILAN,
    bytes.fromhex("69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"),
    bytes.fromhex("9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9"),
)
"""CN=ARK-Milan, serial 010000, valid 2020-10-22 to 2045-10-22."""

ARK_GENOA = Root(
    ProductLine.GENOA,
    bytes.fromhex("4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1"),
    bytes.fromhex("429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831"),
)
"""CN=ARK-Genoa, serial 020000, valid 2022-01-26 to 2047-01-26."""

ARK_TURIN = Root(
    ProductLine.TURIN,
    bytes.fromhex("1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a"),
    bytes.fromhex("4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08"),
)
"""CN=ARK-Turin, serial 030000, valid 2023-05-15 to 2048-05-15."""

PINNED = (ARK_MILAN, ARK_GENOA, ARK_TURIN)
