"""The files that authentication depends on, taken over when they change. One that cannot be used leaves things as they were, and says so.

A file that is gone is another matter: its owner took it away, so what it gave is withdrawn.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from cryptography import x509

from rlu_attestation.errors import Malformed
from rlu_server.adapters.auth.authenticator import Authenticator
from rlu_server.adapters.auth.client_tls import ClientTrust
from rlu_server.adapters.events import Event, Events
from rlu_server.core.apikeys import MAX_FILE, KeyRing, parse_file
from rlu_server.core.auth import certificates, jwks
from rlu_server.core.auth.certificates import Revoked
from rlu_server.settings_auth import Auth
from rlu_server.watched import WatchedFile


class Sources:
    """All of them.

    Args:
        trust: takes CAs of client certificates; None, when TLS asks for none.
        withdrawn: called when a CA is no longer trusted; what it signed must not count on connections that are open.
    """

    def __init__(
        self,
        keys: Path,
        settings: Auth,
        authenticator: Authenticator,
        trust: ClientTrust | None,
        events: Events,
        withdrawn: Callable[[], None],
    ) -> None:
        self._authenticator = authenticator
        self._trust = trust
        self._withdrawn = withdrawn
        self._events = events
        self._keys = WatchedFile(keys, MAX_FILE)
        self._sets = [
            (one.name, WatchedFile(one.jwks_file, jwks.MAX_FILE))
            for one in settings.issuers
            if one.jwks_file is not None
        ]
        places = settings.certificates
        asks = trust is not None
        self._authorities = (
            WatchedFile(places.ca_file, certificates.MAX_FILE)
            if asks and places.ca_file is not None
            else None
        )
        self._lists = (
            WatchedFile(places.crl_file, certificates.MAX_FILE)
            if asks and places.crl_file is not None
            else None
        )
        self._issuers: list[x509.Certificate] = []
        self._list_data = b""

    def load(self) -> None:
        """Take over what changed."""
        self._take(self._keys, "keys", self._load_keys, lambda: self._set_keys(KeyRing(bytes(32), ())))
        for name, file in self._sets:
            self._take(file, name, partial(self._load_set, name), partial(self._no_set, name))
        if self._authorities is not None:
            self._take(self._authorities, "ca", self._load_authorities, lambda: self._set_authorities([]))
        if self._lists is not None:
            self._take(self._lists, "crl", self._load_lists, self._no_lists)

    def _take(
        self, file: WatchedFile, name: str, load: Callable[[bytes], None], gone: Callable[[], None]
    ) -> None:
        is_keys = file is self._keys
        refused: Event = "keys_refused" if is_keys else "auth_refused"

        def withdraw() -> None:
            gone()
            if not is_keys:
                self._events.emit("auth_refused", "absent", file=name)

        try:
            file.look(load, withdraw)
        except OSError as error:
            self._events.emit(refused, "unreadable", file=name, errno=error.errno or 0)
        except Malformed as error:
            self._events.emit(refused, error.code, file=name)

    def _load_keys(self, data: bytes) -> None:
        self._set_keys(KeyRing.of(parse_file(data)))

    def _set_keys(self, ring: KeyRing) -> None:
        self._authenticator.keys = ring
        self._events.emit("keys_loaded", keys=len(ring))

    def _load_set(self, name: str, data: bytes) -> None:
        keys = jwks.parse(data)
        self._authenticator.set_issuer_keys(name, keys)
        self._events.emit("auth_loaded", file=name, keys=len(keys))

    def _no_set(self, name: str) -> None:
        self._authenticator.set_issuer_keys(name, None)

    def _load_authorities(self, data: bytes) -> None:
        self._set_authorities(certificates.authorities(data))
        self._events.emit("auth_loaded", file="ca", keys=len(self._issuers))
        if self._list_data:
            self._load_lists(self._list_data)

    def _set_authorities(self, issuers: list[x509.Certificate]) -> None:
        assert self._trust is not None
        self._trust.trust(certificates.pem(issuers))
        gone = set(self._issuers) - set(issuers)
        self._issuers = issuers
        if gone:
            self._withdrawn()

    def _load_lists(self, data: bytes) -> None:
        self._list_data = data
        revoked = certificates.lists(data, self._issuers, datetime.now(timezone.utc))
        self._authenticator.set_revoked(revoked)
        self._events.emit("auth_loaded", file="crl", keys=len(revoked.serials))

    def _no_lists(self) -> None:
        self._list_data = b""
        self._authenticator.set_revoked(Revoked())
