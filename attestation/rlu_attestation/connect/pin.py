"""TLS that is bound to a key instead of a name: the peer's SubjectPublicKeyInfo is looked at inside the handshake, before any byte is sent.

Certificates are not checked against CAs, as in `rlu_attestation.client`: the attestation says which key is the gateway's.
"""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Callable
from typing import Any

from rlu_attestation import x509
from rlu_attestation.errors import RluError


class KeyMismatch(ssl.SSLError):
    """The peer's TLS key is not the one the connection is bound to."""


def recording(record: Callable[[bytes], None]) -> ssl.SSLContext:
    """A context that tells the SHA-256 of the peer's SubjectPublicKeyInfo, and accepts any."""
    return _context(record)


def bound_to(spki_sha256: bytes) -> ssl.SSLContext:
    """A context whose handshakes fail with `KeyMismatch` unless the peer has this key."""

    def check(seen: bytes) -> None:
        if not hmac.compare_digest(seen, spki_sha256):
            raise KeyMismatch("the server's TLS key is not the attested one")

    return _context(check)


def _context(see: Callable[[bytes], None]) -> ssl.SSLContext:
    def look(certificate: bytes | None) -> None:
        try:
            see(x509.parse(certificate or b"").spki_sha256)
        except RluError as error:
            raise KeyMismatch("the server's certificate cannot be read") from error

    # Both are documented places for subclasses (`SSLContext.sslsocket_class`, `.sslobject_class`); threads use the one, event loops the
    # other. A handshake that has not ended raises, and comes again.
    class PinnedSocket(ssl.SSLSocket):
        def do_handshake(self, *arguments: Any, **options: Any) -> None:
            super().do_handshake(*arguments, **options)
            look(self.getpeercert(binary_form=True))

    class PinnedObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            look(self.getpeercert(binary_form=True))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.sslsocket_class = PinnedSocket
    context.sslobject_class = PinnedObject
    return context
