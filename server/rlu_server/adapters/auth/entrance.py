"""Authentication of one process, put together from its settings: who decides, which files it depends on, and whom it asks."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path

from rlu_server.adapters.auth.authenticator import Authenticator
from rlu_server.adapters.auth.client_tls import ClientTrust
from rlu_server.adapters.auth.reviewer import Reviewer
from rlu_server.adapters.auth.sources import Sources
from rlu_server.adapters.events import Events
from rlu_server.adapters.tls import ServerTls
from rlu_server.core.apikeys import KeyRing
from rlu_server.settings_auth import Auth


class Entrance:
    """What a process that takes requests needs.

    Args:
        tls: the server's TLS, which asks for client certificates from now on if the settings say so.
        withdrawn: called when a CA of client certificates is no longer trusted.
    """

    def __init__(
        self,
        settings: Auth,
        keys: Path,
        tls: ServerTls | None,
        events: Events,
        withdrawn: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._relay_ca = settings.relay_ca_file
        self._reviewer = (
            Reviewer(settings.relay, settings.review_timeout_s, events, self._relay_trust)
            if settings.relay
            else None
        )
        self.authenticator = Authenticator(settings, KeyRing(bytes(32), ()), events, clock, self._reviewer)
        mode = settings.certificates.mode
        trust = ClientTrust(tls.context, tls.fresh, mode) if tls is not None and mode != "off" else None
        self._sources = Sources(keys, settings, self.authenticator, trust, events, withdrawn)

    def load(self) -> None:
        """Take over the files that changed."""
        self._sources.load()

    async def close(self) -> None:
        if self._reviewer is not None:
            await self._reviewer.close()

    def _relay_trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._relay_ca)
