"""A TLS key that the operator provides: from a Secret, so that clients can trust it by a CA of theirs.

Statements call it `provisioned`: whoever else has the file could pass for this gateway, and a verifier's policy decides whether that will
do. The files are watched, because whoever issues the certificate renews it. What was attested is the key, so a renewed certificate counts
at once when it is for the same key; another key counts at the next start.
"""

from __future__ import annotations

import errno
import os
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from rlu_attestation.errors import Malformed
from rlu_server.adapters.tls import ServerTls, server_context
from rlu_server.watched import Stamp, stamp

MAX_FILE = 256 * 1024


class ProvisionedTls(ServerTls):
    """Certificate chain and key, both PEM, the leaf first.

    Raises:
        Malformed: `tls.unreadable`, `tls.malformed`, `tls.mismatch`.
    """

    origin = "provisioned"

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._told = False
        """That the files cannot be read."""
        try:
            self._seen = self._stamps()
            self._chain, pem, spki = self._read()
        except OSError as error:
            raise _unreadable(error) from error
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
        """Raises Malformed, once for each change: as above, and `tls.key_changed`. What cannot be read is tried again each time."""
        try:
            stamps = self._stamps()
            if stamps == self._seen:
                return False
            renewed = self._take()
        except OSError as error:
            self._seen = []
            if self._told:
                return False
            self._told = True
            raise _unreadable(error) from error
        except Malformed:
            self._seen, self._told = stamps, False
            raise
        self._seen, self._told = stamps, False
        return renewed

    def _take(self) -> bool:
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

    def _stamps(self) -> list[Stamp]:
        found = [stamp(file) for file in self._files]
        if None in found:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return [one for one in found if one is not None]

    def _read(self) -> tuple[bytes, bytes, bytes]:
        """The chain, chain and key, and the key's SPKI. Raises Malformed, OSError."""
        parts = []
        for file in self._files:
            with file.open("rb") as opened:
                parts.append(opened.read(MAX_FILE + 1))
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


def _unreadable(error: OSError) -> Malformed:
    return Malformed("tls.unreadable", f"certificate or key cannot be read: {error.strerror}")
