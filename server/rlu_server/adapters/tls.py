"""The gateway's TLS key: born in this process's memory, named in the instance statement, gone with the process.

Python's ssl module reads keys from files only; the file is an anonymous one in memory (memfd) and is closed at once.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY = timedelta(days=90)
"""Longer than any process should live; a restart makes a new key."""


CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption only, as everything that TLS 1.3 has."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """The context to serve with, and what may be shown of it."""

    context: ssl.SSLContext
    certificate_pem: bytes
    spki_sha256: bytes
    fresh: Callable[[], ssl.SSLContext]
    """Makes another context with the same key and certificate."""


def make(hostnames: tuple[str, ...], now: datetime | None = None) -> ServerTls:
    """A fresh key and its self-signed certificate.

    Clients trust the certificate as it is, by file or, better, after its key was found in a verified instance statement. It is an
    end-entity certificate (not a CA): nothing else can be signed with it. It names no key usage: BoringSSL (Bun, and so opencode) takes no
    certificate for self-signed whose key usage excludes signing certificates, and then trusts it from no file.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _self_signed(key, hostnames, now or datetime.now(timezone.utc))
    certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    fresh = functools.partial(_context, certificate_pem + key_pem)
    return ServerTls(fresh(), certificate_pem, hashlib.sha256(spki).digest(), fresh)


def _context(pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    _load(context, pem)
    return context


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    handle = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(handle, pem)
        os.lseek(handle, 0, os.SEEK_SET)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def _self_signed(
    key: ec.EllipticCurvePrivateKey, hostnames: tuple[str, ...], now: datetime
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "RLU gateway")])
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + VALIDITY)
        .add_extension(
            x509.SubjectAlternativeName([_alternative(host) for host in hostnames]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
