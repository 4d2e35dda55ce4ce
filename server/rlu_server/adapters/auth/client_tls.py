"""TLS that asks clients for a certificate, with CAs that can change while it serves.

A listening socket keeps its context, and a context only ever gains CAs. So each handshake is moved to the newest context, which has the
same key and certificate and the CAs of now. Sessions are never resumed: a resumed one would show a certificate that nobody checked again.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Literal


class ClientTrust:
    """Which CAs' client certificates are accepted.

    Args:
        listening: the context of the listening socket.
        fresh: makes another with the same key and certificate.
    """

    def __init__(
        self,
        listening: ssl.SSLContext,
        fresh: Callable[[], ssl.SSLContext],
        mode: Literal["optional", "required"],
    ) -> None:
        self._fresh = fresh
        self._mode = ssl.CERT_REQUIRED if mode == "required" else ssl.CERT_OPTIONAL
        self._ask(listening)
        self._current = self._made("")
        listening.sni_callback = self._choose

    def trust(self, pem: str) -> None:
        """From the next handshake on, exactly these; none: every certificate is refused."""
        self._current = self._made(pem)

    def _made(self, pem: str) -> ssl.SSLContext:
        context = self._fresh()
        self._ask(context)
        if pem:
            context.load_verify_locations(cadata=pem)
        return context

    def _ask(self, context: ssl.SSLContext) -> None:
        # How much is asked is the listening context's; whom to believe is the current one's.
        context.verify_mode = self._mode
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0

    def _choose(self, connection: ssl.SSLObject, name: str | None, listening: ssl.SSLContext) -> None:
        connection.context = self._current
