"""A TLS key that the operator provides: from a Secret, so that clients can trust it by a CA of theirs.

Statements call it `provisioned`: whoever else has the file could pass for this gateway, and a verifier's policy decides whether that will
do. The files are watched, because whoever issues the certificate renews it. What was attested is the key, so a renewed certificate counts
at once when it is for the same key; another key counts at the next start.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from rlu_attestation.errors import Malformed
from rlu_server.adapters.tls import ServerTls, server_context

MAX_FILE = 256 * 1024


class ProvisionedTls(ServerTls):
    """Certificate chain and key, both PEM, the leaf first.

    Raises:
        Malformed: `tls.unreadable`, `tls.malformed`, `tls.mismatch`.
    """

    origin = "provisioned"

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._seen: list[tuple[int, int, int]] | None = self._stamps()
        self._chain, pem, spki = self._read()
        super().__init__(spki, pem)
        self._spki = spki

    @property
    def certificate_pem(self) -> bytes:
        return self._chain

    @property
    def expires(self) -> float:
        leaf = x509.load_pem_x509_certificates(self._chain)[0]
        return leaf.not_valid_after_utc.timestamp()

    def renew(self) -> bool:
        """Raises Malformed, once for each change: as above, and `tls.key_changed`."""
        try:
            stamps = self._stamps()
        except Malformed:
            if self._seen is None:
                return False
            self._seen = None
            raise
        if stamps == self._seen:
            return False
        self._seen = stamps
        chain, pem, spki = self._read()
        if spki != self._spki:
            raise Malformed(
                "tls.key_changed",
                "the certificate is for another key than the one that was attested; restart",
            )
        if chain == self._chain:
            return False
        self._show(pem)
        self._chain = chain
        return True

    def _stamps(self) -> list[tuple[int, int, int]]:
        try:
            found = [file.stat() for file in self._files]
        except OSError as error:
            raise self._unreadable(error) from error
        return [(one.st_mtime_ns, one.st_ino, one.st_size) for one in found]

    def _read(self) -> tuple[bytes, bytes, bytes]:
        """The chain, chain and key, and the key's SPKI."""
        parts = []
        for file in self._files:
            try:
                with file.open("rb") as opened:
                    parts.append(opened.read(MAX_FILE + 1))
            except OSError as error:
                raise self._unreadable(error) from error
            if len(parts[-1]) > MAX_FILE:
                raise Malformed("tls.malformed", f"{file.name} is too long")
        chain, secret = parts
        try:
            leaf = x509.load_pem_x509_certificates(chain)[0]
            key = serialization.load_pem_private_key(secret, None)
        except (ValueError, TypeError) as error:
            raise Malformed(
                "tls.malformed", "certificate and key take PEM, the key without a password"
            ) from error
        form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        spki = key.public_key().public_bytes(*form)
        if leaf.public_key().public_bytes(*form) != spki:
            raise Malformed("tls.mismatch", "the first certificate is not the key's")
        pem = chain.rstrip() + b"\n" + secret
        try:
            server_context(pem)
        except ssl.SSLError as error:
            raise Malformed("tls.malformed", "the key is of no kind that TLS has") from error
        return chain, pem, spki

    def _unreadable(self, error: OSError) -> Malformed:
        return Malformed("tls.unreadable", f"certificate or key cannot be read: {error.strerror}")
