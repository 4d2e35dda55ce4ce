"""The gateway's TLS key: born in this process's memory, named in the instance statement, gone with the process.

The key stays as long as the process, the certificate does not: every `RENEWED_AFTER` there is another for the same key, so that what was
attested goes on being true. Certificates are a function of the key and of the time of their birth (deterministic signatures, RFC 6979), so
every worker process makes the same ones without a word to the others. Who trusts them by file is given the next one beside the present one;
each has a name of its own, because some clients look for an issuer by name and take the first.

Python's ssl module reads keys from files only; the file is an anonymous one in memory (memfd) and is closed at once.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import ssl
import time
import weakref
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY = timedelta(days=90)
RENEWED_AFTER = timedelta(days=60)
EARLIER = timedelta(days=1)
"""Valid before it is shown, for clients whose clock is behind."""

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption only, as everything that TLS 1.3 has."""


class ServerTls:
    """The key, the contexts that serve with it, and the certificate of now.

    Clients trust the certificate as it is, by file or, better, after its key was found in a verified instance statement.

    Attributes:
        context: of the listening socket.
        spki_sha256: of the key.
        clock: seconds since the epoch, by which certificates are renewed.
    """

    def __init__(self, hostnames: tuple[str, ...], clock: Callable[[], float] = time.time) -> None:
        self._hostnames = hostnames
        self.clock = clock
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._born = datetime.fromtimestamp(int(clock()), timezone.utc)
        spki = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.spki_sha256 = hashlib.sha256(spki).digest()
        self._number = self._due()
        self._contexts: weakref.WeakSet[ssl.SSLContext] = weakref.WeakSet()
        self.context = self.fresh()

    @property
    def certificate_pem(self) -> bytes:
        """What clients that trust by file are given: the certificate of now, and the next."""
        return self._pem(self._number) + self._pem(self._number + 1)

    def fresh(self) -> ssl.SSLContext:
        """Another context with the same key and certificate; it is renewed with the others."""
        context = _context(self._with_key())
        self._contexts.add(context)
        return context

    def renew(self) -> bool:
        """Have every handshake from now on see the certificate that is due. Connections that are open keep theirs.

        Returns:
            whether there is a new one.
        """
        number = self._due()
        if number == self._number:
            return False
        self._number = number
        pem = self._with_key()
        for context in self._contexts:
            _load(context, pem)
        return True

    def _due(self) -> int:
        """By the clock alone: one that was wrong and is set right leads to the right certificate, also backwards."""
        now = datetime.fromtimestamp(self.clock(), timezone.utc)
        return (now - self._born) // RENEWED_AFTER

    def _pem(self, number: int) -> bytes:
        made = certificate(self._key, self._hostnames, self._born, number)
        return made.public_bytes(serialization.Encoding.PEM)

    def _with_key(self) -> bytes:
        return self._pem(self._number) + self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


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


def certificate(
    key: ec.EllipticCurvePrivateKey, hostnames: tuple[str, ...], born: datetime, number: int
) -> x509.Certificate:
    """The certificate of one period, always the same one; period 0 begins at `born`.

    It is an end-entity certificate (not a CA): nothing else can be signed with it. It names no key usage: BoringSSL (Bun, and so opencode)
    takes no certificate for self-signed whose key usage excludes signing certificates, and then trusts it from no file.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"RLU gateway {number}")])
    public = key.public_key()
    begin = born + number * RENEWED_AFTER
    spki = x509.SubjectKeyIdentifier.from_public_key(public)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(_serial(spki.digest, begin))
        .not_valid_before(begin - EARLIER)
        .not_valid_after(begin + VALIDITY)
        .add_extension(
            x509.SubjectAlternativeName([_alternative(host) for host in hostnames]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(spki, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    )


def _serial(key: bytes, begin: datetime) -> int:
    """Positive, and of 128 bits: RFC 5280, 4.1.2.2, wants at most 20 bytes."""
    digest = hashlib.sha256(key + int(begin.timestamp()).to_bytes(8, "big")).digest()
    return int.from_bytes(digest[:16], "big") | 1


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
