"""An OpenID issuer and a CA of client certificates, both in memory: real keys, real signatures."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rlu_attestation.encoding import b64u

ISSUER = "https://login.example.org"


def number(value: int, size: int) -> str:
    return b64u(value.to_bytes(size, "big"))


class Issuer:
    """Signs whatever it is told to, with ES256 keys of any name."""

    def __init__(self, *kids: str) -> None:
        self.keys = {kid: ec.generate_private_key(ec.SECP256R1()) for kid in kids or ("one",)}

    def jwk(self, kid: str) -> dict[str, Any]:
        public = self.keys[kid].public_key().public_numbers()
        return {
            "kty": "EC",
            "crv": "P-256",
            "alg": "ES256",
            "use": "sig",
            "kid": kid,
            "x": number(public.x, 32),
            "y": number(public.y, 32),
        }

    def jwks(self) -> bytes:
        return json.dumps({"keys": [self.jwk(kid) for kid in self.keys]}).encode()

    def claims(self, now: float, **more: Any) -> dict[str, Any]:
        made = {"iss": ISSUER, "aud": ["rlu"], "sub": "dana", "iat": int(now), "exp": int(now) + 600, **more}
        return {name: value for name, value in made.items() if value is not ...}

    def sign(self, claims: Any, header: dict[str, Any] | None = None, kid: str = "") -> str:
        kid = kid or next(iter(self.keys))
        head = {"alg": "ES256", "kid": kid, "typ": "JWT", **(header or {})}
        return self.sign_raw(
            json.dumps({n: v for n, v in head.items() if v is not ...}).encode(),
            json.dumps(claims).encode(),
            kid,
        )

    def sign_raw(self, header: bytes, payload: bytes, kid: str = "") -> str:
        signed = f"{b64u(header)}.{b64u(payload)}"
        key = self.keys[kid or next(iter(self.keys))]
        r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{b64u(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def token(self, now: float, **more: Any) -> str:
        return self.sign(self.claims(now, **more))


class Authority:
    """Signs client certificates and their revocations."""

    def __init__(self, name: str = "Clients' CA") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(timezone.utc)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=False,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=True,
                    crl_sign=True,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(
        self,
        *names: x509.GeneralName,
        subject: str = "",
        life: timedelta = timedelta(days=1),
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    ) -> tuple[x509.Certificate, bytes]:
        """A client certificate, and it with its key as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(timezone.utc)
        subject_name = [x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else []
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject_name))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not subject)
        certificate = builder.sign(self.key, hashes.SHA256())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return certificate, certificate.public_bytes(Encoding.PEM) + private

    def revoke(self, *serials: int, until: timedelta = timedelta(days=1)) -> bytes:
        """A revocation list as PEM."""
        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(now - timedelta(days=2))
            .next_update(now + until)
        )
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def rsa_jwk(bits: int, kid: str) -> dict[str, Any]:
    public = rsa.generate_private_key(65537, bits).public_key().public_numbers()
    return {"kty": "RSA", "kid": kid, "n": number(public.n, bits // 8), "e": "AQAB"}
