"""A registrar's endorsement: the AK certificate (FORMATS section 8), issued and read.

The registrar issues it only after `TPM2_ActivateCredential` succeeded for this AK under this EK; that challenge is the one proof that both
are in one TPM, and it convinces nobody but who made it. The certificate passes the result on and adds where the machine stands. `issue`
and `issue_registrar` sign with a key they are handed; time and serial numbers are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from rlu_attestation import canonical
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed
from rlu_attestation.x509 import Certificate, PublicKey

if TYPE_CHECKING:
    from cryptography import x509 as pyca

AIK_PURPOSE = "2.23.133.8.3"
"""tcg-kp-AIKCertificate."""
EXTENSION = "2.25.227486024550674777818042816869759752263"
_CODE = "ak.certificate.extension"
_KEYS = frozenset({"ak_name", "boundary", "ek_spki_sha256", "region", "site"})
_MAX_TEXT = 128


@dataclass(frozen=True, slots=True)
class Endorsement:
    """What a registrar endorses. As parsed it is a claim; it is endorsed once the certificate's chain was verified."""

    ak_name: bytes
    """TPM Name of the AK: two bytes of algorithm and the digest."""
    ek_spki_sha256: bytes
    """SHA-256 of the DER SubjectPublicKeyInfo of the EK certificate, 32 bytes."""
    region: str
    boundary: str
    site: str

    def encode(self) -> bytes:
        """Value of the certificate extension.

        Raises:
            Malformed: a text that is empty, too long or not printable, or a digest of the wrong size.
        """
        self._check()
        return canonical.encode(
            {
                "ak_name": b64u(self.ak_name),
                "boundary": self.boundary,
                "ek_spki_sha256": b64u(self.ek_spki_sha256),
                "region": self.region,
                "site": self.site,
            }
        )

    def _check(self) -> None:
        if not 22 <= len(self.ak_name) <= 66 or len(self.ek_spki_sha256) != 32:
            raise Malformed(_CODE, "ak_name must be a TPM name and ek_spki_sha256 a SHA-256 digest")
        for text in (self.region, self.boundary, self.site):
            if not isinstance(text, str) or not 0 < len(text) <= _MAX_TEXT or not text.isprintable():
                raise Malformed(
                    _CODE, f"region, boundary and site are printable texts of 1 to {_MAX_TEXT} characters"
                )


def parse(value: bytes) -> Endorsement:
    """Read the certificate extension.

    Raises:
        Malformed: `ak.certificate.extension`.
    """
    try:
        return _parse(value)
    except Malformed as error:
        raise Malformed(_CODE, error.message) from error


def _parse(value: bytes) -> Endorsement:
    fields = canonical.decode(value, 4096)
    if fields.keys() != _KEYS:
        raise Malformed(_CODE, f"the endorsement must have exactly the keys {', '.join(sorted(_KEYS))}")
    endorsement = Endorsement(
        unb64u(fields["ak_name"]),
        unb64u(fields["ek_spki_sha256"]),
        fields["region"],
        fields["boundary"],
        fields["site"],
    )
    endorsement._check()
    return endorsement


def of_certificate(certificate: Certificate) -> Endorsement:
    """The endorsement in an AK certificate.

    Raises:
        Malformed: `ak.certificate.extension`, also when there is none.
    """
    extension = certificate.extension(EXTENSION)
    if extension is None:
        raise Malformed(_CODE, "the AK certificate carries no endorsement")
    return parse(extension.value)


def issue(
    endorsement: Endorsement,
    ak: PublicKey,
    *,
    issuer: bytes,
    issuer_key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    serial: int,
    not_before: datetime,
    not_after: datetime,
) -> bytes:
    """Issue an AK certificate; returns DER.

    Args:
        endorsement: what to endorse; `ak_name` must be the name of the public area that `ak` comes from.
        ak: the AK's public key, the certificate's subject.
        issuer: DER of the registrar's certificate.
        issuer_key: the key of that certificate.
        serial: at least 64 random bits, at most 159 (RFC 5280 section 4.1.2.2).
        not_before: start of validity, with time zone, to the second.
        not_after: its end.
    """
    from cryptography import x509 as pyca  # only issuing needs it, and loading it is slow

    authority = pyca.load_der_x509_certificate(issuer)
    if authority.public_key() != issuer_key.public_key():
        raise ValueError("the registrar's key is not the key of its certificate")
    key_id = pyca.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        pyca.CertificateBuilder()
        .subject_name(_name("rlu attestation key"))
        .issuer_name(authority.subject)
        .public_key(ak)
        .serial_number(serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(pyca.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(pyca.ExtendedKeyUsage([pyca.ObjectIdentifier(AIK_PURPOSE)]), critical=False)
        .add_extension(key_id, critical=False)
        .add_extension(
            pyca.UnrecognizedExtension(pyca.ObjectIdentifier(EXTENSION), endorsement.encode()), critical=False
        )
        .sign(issuer_key, SHA256())
        .public_bytes(Encoding.DER)
    )


def issue_registrar(
    common_name: str,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    *,
    serial: int,
    not_before: datetime,
    not_after: datetime,
) -> bytes:
    """The self-signed certificate of a registrar; returns DER. It may issue AK certificates but no further authorities."""
    from cryptography import x509 as pyca  # only issuing needs it, and loading it is slow

    name = _name(common_name)
    return (
        pyca.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(pyca.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .add_extension(pyca.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
        .public_bytes(Encoding.DER)
    )


def _name(common_name: str) -> pyca.Name:
    from cryptography import x509 as pyca
    from cryptography.x509.oid import NameOID

    return pyca.Name([pyca.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, sign: bool) -> pyca.KeyUsage:
    from cryptography import x509 as pyca

    return pyca.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not sign,
        crl_sign=not sign,
        encipher_only=False,
        decipher_only=False,
    )
