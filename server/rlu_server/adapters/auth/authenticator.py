"""The one place that decides who is asking: API key, bearer token or client certificate in, a principal out.

API keys and tokens are decided at once; a token that was verified is remembered by its digest until it expires, a refused one for a
moment. A token the cluster has to be asked about gives a `Pending`, and all requests with that token wait for the same answer. Nothing is
remembered across a change of any file, so that what was withdrawn is withdrawn at once. What is kept is bounded.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from rlu_server.adapters.events import Events
from rlu_server.core.apikeys import KeyRing, Principal, key_fingerprint, looks_like_key
from rlu_server.core.auth import certificates, reviews, tokens
from rlu_server.core.auth.certificates import ClientCertificate, Revoked
from rlu_server.core.auth.credentials import BY_CERTIFICATE, Credentials, Peer, presented
from rlu_server.core.auth.jwks import Keys
from rlu_server.core.auth.lockout import Lockout
from rlu_server.core.errors import GatewayError
from rlu_server.settings_auth import Auth, Issuer

REMEMBERED = 16_384
CERTIFICATES = 4096
NAMES = 65_536
ASKING = 256
REFUSED_S = 10.0
GUESSES = frozenset({"key_invalid", "token_malformed", "token_signature", "token_refused"})
"""What somebody gets who tries things; a real credential that has expired is no guess."""

Decided = Principal | GatewayError
K = TypeVar("K")
V = TypeVar("V")


class Pending:
    """An answer that is on its way; `then` is called once for each who waits, never at once."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Callable[[Decided], None]] = []

    def then(self, callback: Callable[[Decided], None]) -> None:
        self._waiting.append(callback)

    def settle(self, decided: Decided) -> None:
        waiting, self._waiting = self._waiting, []
        failed: Exception | None = None
        for callback in waiting:
            try:
                callback(decided)
            except Exception as error:  # a bug; whoever else waits still gets the answer
                failed = error
        if failed is not None:
            raise failed


class Authentication(Protocol):
    """What the relay and our own routes ask, be it answered in this process or in another."""

    @property
    def keys(self) -> KeyRing:
        """The API keys of now."""

    def authenticate(self, credentials: Credentials) -> Principal | Pending:
        """Who is asking. Raises GatewayError."""


class Cluster(Protocol):
    """Asks TokenReviews (`reviewer.Reviewer`)."""

    def ask(self, question: bytes, answered: Callable[[bytes | None], None]) -> None:
        """`answered` is called once, later; with None when there was no answer."""


@dataclass(slots=True)
class _Known:
    """An issuer as configured, and its keys as they are now."""

    rules: tokens.Rules
    offline: bool
    review: bool
    keys: Keys | None = None


class Authenticator:
    """Implements `Authentication` with what is in this process.

    Attributes:
        used: when each API key was last good, by key id, in seconds since the epoch.
        seen: principals that tokens and certificates made, by tenant and pseudonym: (tenant, pseudonym) → name.
    """

    def __init__(
        self,
        settings: Auth,
        keys: KeyRing,
        events: Events,
        clock: Callable[[], float] = time.time,
        cluster: Cluster | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._events = events
        self._clock = clock
        self._cluster = cluster
        self._monotonic = monotonic
        self._review_ttl_s = settings.review_ttl_s
        self._lockout = Lockout(settings.lockout_after, settings.lockout_longest_s)
        self._issuers = {
            one.issuer: _Known(rules(one), one.jwks_file is not None, one.review) for one in settings.issuers
        }
        self._rules = [
            certificates.rule(one.source, one.pattern, one.tenant) for one in settings.certificates.rules
        ]
        self._revoked = None if settings.certificates.crl_file is None else Revoked()
        self._verified: dict[bytes, tuple[Principal, float]] = {}
        self._refusals: dict[bytes, tuple[str, str | None, float]] = {}
        """Code, parameter, and until when; apart from the good ones, so that nobody drives those out with bad ones. Not the error itself:
        its traceback would keep the connection and the request that it refused."""
        self._certificates: dict[bytes, ClientCertificate] = {}
        self._asking: dict[bytes, Pending] = {}
        self._generation = 0
        self.used: dict[str, int] = {}
        self.seen: dict[tuple[str, str], str] = {}

    # --- what the files said ---

    @property
    def keys(self) -> KeyRing:
        return self._keys

    @keys.setter
    def keys(self, keys: KeyRing) -> None:
        self._keys = keys
        self.used = {key: when for key, when in self.used.items() if key in keys}
        self._forget()

    def set_issuer_keys(self, name: str, keys: Keys | None) -> None:
        """Take over an issuer's key set; None: there is none, and its tokens cannot be verified."""
        for known in self._issuers.values():
            if known.rules.name == name:
                known.keys = keys
        self._forget()

    def set_revoked(self, revoked: Revoked) -> None:
        self._revoked = revoked

    def note(self, principal: Principal) -> None:
        """Somebody was let in by another process: its key was used, or its name is one to resolve."""
        if principal.key_id in self._keys:
            self.used[principal.key_id] = int(self._clock())
        else:
            _put(self.seen, (principal.tenant, principal.pseudonym), principal.name, NAMES)

    def _forget(self) -> None:
        self._generation += 1
        self._verified.clear()
        self._refusals.clear()

    # --- deciding ---

    def authenticate(self, credentials: Credentials) -> Principal | Pending:
        """Who is asking.

        Raises:
            GatewayError: `key_…`, `token_…`, `certificate_…`, `credentials_conflict`, `locked_out`.
        """
        text = presented(credentials.authorization, credentials.x_api_key)
        peer = credentials.peer
        if peer.certificate is not None:
            return self._with_certificate(peer, text)
        if not text:
            raise GatewayError("key_missing")
        return self._by_text(text, peer.address)

    def _by_text(self, text: str, address: str) -> Principal | Pending:
        wait = self._lockout.waits(address, self._monotonic())
        if looks_like_key(text):
            if wait and not self._lockout.knows(address, key_fingerprint(text)):
                raise GatewayError("locked_out", retry_after_s=wait)
            return self._by_key(text, address)
        digest = hashlib.sha256(text.encode("latin-1", "replace")).digest()
        if wait and not self._lockout.knows(address, digest):
            raise GatewayError("locked_out", retry_after_s=wait)
        return self._by_token(text, digest, address)

    def _by_key(self, text: str, address: str) -> Principal:
        now = self._clock()
        try:
            principal, fingerprint = self._keys.identify(text, now)
        except GatewayError as error:
            self._count(error, address, text)
            raise
        self._lockout.good(address, fingerprint)
        self.used[principal.key_id] = int(now)
        return principal

    def _by_token(self, text: str, digest: bytes, address: str) -> Principal | Pending:
        now = self._clock()
        verified = self._verified.get(digest)
        if verified is not None and now < verified[1]:
            self._lockout.good(address, digest)
            return verified[0]
        refusal = self._refusals.get(digest)
        if refusal is not None and now < refusal[2]:
            raise GatewayError(refusal[0], param=refusal[1])
        pending = self._asking.get(digest)
        if pending is not None:
            return pending
        try:
            # An API key of another make is refused as a key, not as a token that it never was.
            if not tokens.looks_like_one(text) or not self._issuers:
                raise GatewayError("key_invalid")
            return self._verify(text, digest, address, now)
        except GatewayError as error:
            self._refused(error, digest, address, text)
            raise

    def _verify(self, text: str, digest: bytes, address: str, now: float) -> Principal | Pending:
        token = tokens.parse(text)
        known = self._issuers.get(token.issuer)
        if known is None:
            raise GatewayError("token_issuer")
        if known.offline:
            if known.keys is None:
                raise GatewayError("token_unverifiable")
            try:
                tokens.verify(token, known.rules, known.keys)
            except GatewayError as error:
                if error.code == "token_key_unknown":
                    self._events.emit("token_key_unknown", known.rules.name)
                raise
        if known.review:
            return self._ask(token, known, digest, address)
        named = tokens.judge(token.claims, known.rules, now)
        return self._accepted(named, known, digest, address, named.expires)

    def _accepted(
        self, named: tokens.Named, known: _Known, digest: bytes, address: str, until: float
    ) -> Principal:
        principal = self._principal(named.tenant, named.principal, f"token:{known.rules.name}")
        _put(self._verified, digest, (principal, until), REMEMBERED)
        self._lockout.good(address, digest)
        return principal

    def _ask(self, token: tokens.Token, known: _Known, digest: bytes, address: str) -> Pending:
        if self._cluster is None or len(self._asking) >= ASKING:
            raise GatewayError("token_unverifiable")
        pending = self._asking[digest] = Pending()
        generation = self._generation
        question = reviews.question(token.text, known.rules.audiences)

        def answered(answer: bytes | None) -> None:
            del self._asking[digest]
            pending.settle(self._reviewed(token, known, digest, address, answer, generation))

        self._cluster.ask(question, answered)
        return pending

    def _reviewed(
        self,
        token: tokens.Token,
        known: _Known,
        digest: bytes,
        address: str,
        answer: bytes | None,
        generation: int,
    ) -> Decided:
        now = self._clock()
        try:
            if answer is None or generation != self._generation:
                # Files changed while the cluster was asked: what was verified before may be withdrawn. The client tries again.
                raise GatewayError("token_unverifiable")
            name = reviews.username(answer, known.rules.audiences)
            if token.claims.get("sub") != name:
                raise GatewayError("token_refused")
            named = tokens.judge(token.claims, known.rules, now)
            return self._accepted(named, known, digest, address, min(named.expires, now + self._review_ttl_s))
        except GatewayError as error:
            if error.code == "token_unverifiable":
                self._events.emit("token_unverifiable", known.rules.name)
            self._refused(error, digest, address, token.text)
            return error

    def _refused(self, error: GatewayError, digest: bytes, address: str, text: str) -> None:
        if error.status == 401:
            _put(self._refusals, digest, (error.code, error.param, self._clock() + REFUSED_S), REMEMBERED)
        self._count(error, address, text)

    def _count(self, error: GatewayError, address: str, text: str) -> None:
        if error.code in GUESSES and self._lockout.wrong(address, hash(text), self._monotonic()):
            self._events.emit("locked_out")

    # --- certificates ---

    def _with_certificate(self, peer: Peer, text: str) -> Principal | Pending:
        assert peer.certificate is not None
        certificate = self._certificate(peer.certificate)
        certificates.check(certificate, self._revoked, self._clock())
        try:
            tenant, name = certificates.name(certificate, self._rules)
        except GatewayError:
            if not text or text == BY_CERTIFICATE:
                raise
            return self._by_text(text, peer.address)
        if not text or text == BY_CERTIFICATE:
            return self._principal(tenant, name, "certificate")
        found = self._by_text(text, peer.address)
        if isinstance(found, Principal):
            return _of_tenant(found, tenant)
        both = Pending()
        found.then(lambda decided: both.settle(_checked(decided, tenant)))
        return both

    def _certificate(self, der: bytes) -> ClientCertificate:
        found = self._certificates.get(der)
        if found is None:
            found = certificates.read(der)
            _put(self._certificates, der, found, CERTIFICATES)
        return found

    def _principal(self, tenant: str, name: str, source: str) -> Principal:
        principal = self._keys.principal(tenant, name, source)
        self.note(principal)
        return principal


def _put(kept: dict[K, V], key: K, value: V, most: int) -> None:
    """Keep it as the newest; the oldest makes room."""
    kept.pop(key, None)
    if len(kept) >= most:
        del kept[next(iter(kept))]
    kept[key] = value


def rules(issuer: Issuer) -> tokens.Rules:
    """The decisions' form of an issuer's settings."""
    required: Mapping[str, str | bool | int] = issuer.required
    return tokens.Rules(
        name=issuer.name,
        issuer=issuer.issuer,
        audiences=frozenset(issuer.audience),
        algorithms=frozenset(issuer.algorithms),
        tenant=issuer.tenant,
        tenant_claim=issuer.tenant_claim or (),
        tenants=frozenset(issuer.tenants),
        principal_claim=issuer.principal_claim,
        principal_prefix=issuer.principal_prefix,
        required=tuple(((name,), value) for name, value in required.items()),
        clock_skew_s=issuer.clock_skew_s,
    )


def _of_tenant(principal: Principal, tenant: str) -> Principal:
    if principal.tenant != tenant:
        raise GatewayError("credentials_conflict")
    return principal


def _checked(decided: Decided, tenant: str) -> Decided:
    if isinstance(decided, Principal) and decided.tenant != tenant:
        return GatewayError("credentials_conflict")
    return decided
