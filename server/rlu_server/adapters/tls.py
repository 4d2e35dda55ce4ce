"""The gateway's TLS key, named in the instance statement: born in this process's memory and gone with it, unless the operator provides one.

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
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rlu_server.attestor.messages import TlsOrigin

VALIDITY = timedelta(days=90)
RENEWED_AFTER = timedelta(days=60)
EARLIER = timedelta(days=1)
"""Valid before it is shown, for clients whose clock is behind."""

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption only, as everything that TLS 1.3 has."""


class ServerTls(ABC):
    """A key, the contexts that serve with it, and the certificate of now.

    Attributes:
        context: of the listening socket.
        spki_sha256: of the key.
        origin: where the key comes from, as statements say it.
    """

    origin: TlsOrigin

    def __init__(self, spki: bytes, pem: bytes) -> None:
        self.spki_sha256 = hashlib.sha256(spki).digest()
        self._pem = pem
        self._contexts: weakref.WeakSet[ssl.SSLContext] = weakref.WeakSet()
        self.context = self.fresh()

    @property
    @abstractmethod
    def certificate_pem(self) -> bytes:
        """What clients that trust by file are given."""

    @property
    @abstractmethod
    def expires(self) -> float:
        """When the certificate of now ends, in seconds since the epoch."""

    @abstractmethod
    def renew(self) -> bool:
        """Have every handshake from now on see the certificate that is due. Connections that are open keep theirs.

        Returns:
            whether there is a new one.

        Raises:
            Malformed: there is another, and it cannot be used; the one before stays.
        """

    def fresh(self) -> ssl.SSLContext:
        """Another context with the same key and certificate; it is renewed with the others."""
        context = server_context(self._pem)
        self._contexts.add(context)
        return context

    def _show(self, pem: bytes) -> None:
        """Certificate and key, for all contexts."""
        self._pem = pem
        for context in self._contexts:
            _load(context, pem)


class MemoryTls(ServerTls):
    """A key that is born here and never leaves.

    Clients trust the certificate as it is, by file or, better, after its key was found in a verified instance statement.

    Attributes:
        clock: seconds since the epoch, by which certificates are renewed.
    """

    origin = "gateway-memory"

    def __init__(self, hostnames: tuple[str, ...], clock: Callable[[], float] = time.time) -> None:
        self._hostnames = hostnames
        self.clock = clock
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._born = datetime.fromtimestamp(int(clock()), timezone.utc)
        self._number = self._due()
        spki = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        super().__init__(spki, self._with_key(self._number))

    @property
    def certificate_pem(self) -> bytes:
        """The certificate of now, and the next."""
        return self._certificate(self._number) + self._certificate(self._number + 1)

    @property
    def expires(self) -> float:
        return (self._born + self._number * RENEWED_AFTER + VALIDITY).timestamp()

    def renew(self) -> bool:
        number = self._due()
        if number == self._number:
            return False
        try:
            self._show(self._with_key(number))
        except OSError:  # no free descriptor: the next call tries again, with a month left
            return False
        self._number = number
        return True

    def _due(self) -> int:
        """By the clock alone: one that was wrong and is set right leads to the right certificate, also backwards."""
        now = datetime.fromtimestamp(self.clock(), timezone.utc)
        return (now - self._born) // RENEWED_AFTER

    def _certificate(self, number: int) -> bytes:
        made = certificate(self._key, self._hostnames, self._born, number)
        return made.public_bytes(serialization.Encoding.PEM)

    def _with_key(self, number: int) -> bytes:
        return self._certificate(number) + self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def server_context(pem: bytes) -> ssl.SSLContext:
    """With certificate and key (PEM). Raises ssl.SSLError."""
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
