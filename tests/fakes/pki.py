"""A TPM vendor's certificate authority and a registrar, both working, with every certificate field open to perturbation."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fakes.tpm import PrivateKey, private_key
from rlu_attestation import endorsement

AT = datetime(2026, 6, 1, tzinfo=timezone.utc)
"""The time at which everything the fakes make is valid."""
YEAR = timedelta(days=365)
EK_PURPOSE, AIK_PURPOSE = "2.23.133.8.1", "2.23.133.8.3"

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def usage(*bits: str) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement "
        "key_cert_sign crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: name in bits for name in names.split()})


@dataclass
class Authority:
    """One certificate authority; `issuer` None makes it self-signed."""

    name: str
    kind: str = "p256"
    issuer: Authority | None = None
    path_length: int | None = None
    ca: bool = True
    key_usage: tuple[str, ...] = ("key_cert_sign", "crl_sign")
    not_before: datetime = AT - YEAR
    not_after: datetime = AT + 10 * YEAR
    extra: tuple[x509.Extension[x509.UnrecognizedExtension], ...] = ()
    key: PrivateKey = field(init=False)
    der: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.key = private_key(self.kind, f"ca/{self.name}")
        parent = self.issuer or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(common_name(self.name))
            .issuer_name(common_name(parent.name))
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.not_before)
            .not_valid_after(self.not_after)
            .add_extension(
                x509.BasicConstraints(self.ca, self.path_length if self.ca else None), critical=True
            )
            .add_extension(usage(*self.key_usage), critical=True)
        )
        for extension in self.extra:
            builder = builder.add_extension(extension.value, critical=extension.critical)
        self.der = builder.sign(parent.key, SHA256()).public_bytes(Encoding.DER)

    def certify_ek(
        self,
        key: PublicKey,
        *,
        manufacturer: str = "id:49465800",
        model: str = "SLB9672",
        version: str = "id:000F0010",
        purposes: tuple[str, ...] | None = (EK_PURPOSE,),
        key_usage: tuple[str, ...] | None = None,
        with_key_usage: bool = True,
        ca: bool | None = False,
        not_before: datetime = AT - YEAR,
        not_after: datetime = AT + 10 * YEAR,
        unknown_critical: bool = False,
        point: str | None = None,
    ) -> bytes:
        """An EK certificate as the TCG EK Credential Profile describes it; DER."""
        default = ("key_encipherment",) if isinstance(key, rsa.RSAPublicKey) else ("key_agreement",)
        attributes = (("2.23.133.2.1", manufacturer), ("2.23.133.2.2", model), ("2.23.133.2.3", version))
        name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(oid), text) for oid, text in attributes])
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(common_name(self.name))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
            .add_extension(x509.SubjectAlternativeName([x509.DirectoryName(name)]), critical=True)
        )
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        if with_key_usage:
            bits = default if key_usage is None else key_usage
            builder = builder.add_extension(usage(*bits), critical=True)
        if purposes is not None:
            oids = [x509.ObjectIdentifier(oid) for oid in purposes]
            builder = builder.add_extension(x509.ExtendedKeyUsage(oids), critical=False)
        if point is not None:
            places = [x509.DistributionPoint([x509.UniformResourceIdentifier(point)], None, None, None)]
            builder = builder.add_extension(x509.CRLDistributionPoints(places), critical=False)
        if unknown_critical:
            unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
            builder = builder.add_extension(unknown, critical=True)
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.DER)

    def revoke(self, *serials: int) -> bytes:
        """A revocation list that is current at `AT`; DER."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(common_name(self.name))
            .last_update(AT - timedelta(days=1))
            .next_update(AT + timedelta(days=30))
        )
        for serial in serials:
            entry = (
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(AT - timedelta(days=1))
            )
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.DER)


@dataclass
class FakeRegistrar:
    """A registrar with its self-signed certificate, as `rlu registrar` makes it."""

    name: str = "registrar"
    key: ec.EllipticCurvePrivateKey = field(init=False)
    der: bytes = field(init=False)

    def __post_init__(self) -> None:
        key = private_key("p256", f"registrar/{self.name}")
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.key = key
        self.der = endorsement.issue_registrar(
            self.name, key, serial=x509.random_serial_number(), not_before=AT - YEAR, not_after=AT + 10 * YEAR
        )

    def certify_ak(
        self,
        endorsed: endorsement.Endorsement,
        ak: PublicKey,
        not_before: datetime = AT - YEAR,
        not_after: datetime = AT + YEAR,
    ) -> bytes:
        return endorsement.issue(
            endorsed,
            ak,
            issuer=self.der,
            issuer_key=self.key,
            serial=x509.random_serial_number(),
            not_before=not_before,
            not_after=not_after,
        )

    def certify_ak_otherwise(
        self,
        endorsed: endorsement.Endorsement,
        ak: PublicKey,
        *,
        purposes: tuple[str, ...] | None = (AIK_PURPOSE,),
        ca: bool | None = False,
        key_usage: tuple[str, ...] | None = ("digital_signature",),
        endorse: bool = True,
    ) -> bytes:
        """An AK certificate that is not what FORMATS section 8 says; None leaves an extension out."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(common_name("another attestation key"))
            .issuer_name(common_name(self.name))
            .public_key(ak)
            .serial_number(x509.random_serial_number())
            .not_valid_before(AT - YEAR)
            .not_valid_after(AT + YEAR)
        )
        if purposes is not None:
            oids = [x509.ObjectIdentifier(oid) for oid in purposes]
            builder = builder.add_extension(x509.ExtendedKeyUsage(oids), critical=False)
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        if key_usage is not None:
            builder = builder.add_extension(usage(*key_usage), critical=True)
        if endorse:
            oid = x509.ObjectIdentifier(endorsement.EXTENSION)
            builder = builder.add_extension(
                x509.UnrecognizedExtension(oid, endorsed.encode()), critical=False
            )
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.DER)
