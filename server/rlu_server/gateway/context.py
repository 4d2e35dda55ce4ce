"""The gateway as its own routes see it: implements `endpoints.context.Context` on the relay's parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from rlu_server.adapters.attestor_client import AttestorClient
from rlu_server.adapters.auth.authenticator import Authenticator, Decided
from rlu_server.adapters.ledger import Ledger
from rlu_server.adapters.relay import Relay
from rlu_server.attestor import messages
from rlu_server.core.apikeys import KeyRecord, Principal
from rlu_server.core.auth.credentials import Credentials
from rlu_server.core.errors import GatewayError
from rlu_server.core.sessions import Logged, Session, State
from rlu_server.endpoints.context import Identity, SessionView, Signed
from rlu_server.settings import Log

CUT_S = 0.1
"""How often exchanges of a session that is being closed are cut."""


class GatewayContext:
    """One per process."""

    def __init__(
        self,
        relay: Relay,
        ledger: Ledger,
        attestor: AttestorClient,
        version: str,
        tls_origin: messages.TlsOrigin,
        tls_spki_sha256: bytes | None,
        log: Log,
        authenticator: Authenticator,
        administrators: Sequence[str],
        count: Callable[[Principal], None],
    ) -> None:
        self._relay = relay
        self._ledger = ledger
        self._attestor = attestor
        self._version = version
        self._tls_origin = tls_origin
        self._tls_spki_sha256 = tls_spki_sha256
        self._exporter = log.exporter
        self._authenticator = authenticator
        self._administrators = frozenset(tuple(one.split("/", 1)) for one in administrators)
        self._count = count

    async def authenticate(self, credentials: Credentials) -> Principal:
        found = self._relay.auth.authenticate(credentials)
        if isinstance(found, Principal):
            return found
        decided: asyncio.Future[Decided] = asyncio.get_running_loop().create_future()
        found.then(lambda answer: None if decided.done() else decided.set_result(answer))
        answer = await decided
        if isinstance(answer, GatewayError):
            raise answer
        return answer

    def check_administrator(self, principal: Principal) -> None:
        if (principal.tenant, principal.name) not in self._administrators:
            raise GatewayError("not_administrator")

    def resolve(self, principal: Principal, pseudonym: str) -> str | None:
        ring = self._relay.keys
        for record in ring.records:
            if record.tenant == principal.tenant and ring.pseudonym(record) == pseudonym:
                return record.principal
        return self._authenticator.seen.get((principal.tenant, pseudonym))

    def keys(self, principal: Principal) -> Sequence[tuple[KeyRecord, int | None]]:
        used = self._authenticator.used
        return [
            (record, used[record.id] // 60 * 60 if record.id in used else None)
            for record in self._relay.keys.records
            if record.tenant == principal.tenant
        ]

    def identity(self) -> Identity:
        welcome = self._attestor.welcome
        if welcome is None:
            raise GatewayError("signer_unavailable")
        return Identity(
            issuer=welcome.issuer,
            jwk=welcome.jwk,
            profile_digest=welcome.profile_digest,
            tls_origin=self._tls_origin,
            tls_spki_sha256=self._tls_spki_sha256,
            version=self._version,
        )

    def not_ready(self) -> Sequence[str]:
        return self._relay.readiness.missing()

    def models(self) -> Sequence[str]:
        return self._relay.models.listed

    async def attest(self, nonce: bytes | None) -> messages.Attestation:
        return await self._attestor.attest(nonce)

    async def open_session(
        self, principal: Principal, nonce: bytes, cnf_jkt: bytes | None, ttl_s: int | None
    ) -> SessionView:
        self._count(principal)
        return self._view(await self._ledger.open_explicit(principal, nonce, cnf_jkt, ttl_s))

    def sessions(self, principal: Principal) -> Sequence[SessionView]:
        return [self._view(session) for session in reversed(self._ledger.table.of(principal))]

    def session(self, principal: Principal, session: str) -> SessionView:
        return self._view(self._ledger.table.visible(session, principal))

    async def close_session(self, principal: Principal, session: str) -> Signed:
        found = self._ledger.table.visible(session, principal)
        closing = asyncio.ensure_future(self._ledger.close(found, "client"))
        try:
            while not closing.done():
                # More than once: one that is being numbered belongs to the session a moment later, and the close waits for it.
                self._relay.stop_exchanges(found.id, GatewayError("session_closed"))
                await asyncio.wait((closing,), timeout=CUT_S)
            return await self._signed(found, closing.result())
        finally:
            closing.cancel()

    async def receipt(self, principal: Principal, session: str, seq: int, wait_s: float) -> Signed:
        found = self._ledger.table.visible(session, principal)
        return await self._signed(found, await self._ledger.recorder.receipt(found, seq, wait_s))

    async def head(self, issuer: str | None) -> tuple[bytes, int]:
        head = await self._attestor.latest_head(issuer)
        return head.head, head.tree_size

    async def inclusion(self, leaf_index: int) -> bytes:
        return await self._attestor.prove(leaf_index)

    async def consistency(self, old_size: int, issuer: str | None) -> bytes:
        return await self._attestor.prove_consistency(old_size, issuer)

    async def path(self, old_size: int, new_size: int, issuer: str | None) -> Sequence[bytes]:
        return await self._attestor.prove_path(old_size, new_size, issuer)

    async def leaves(self, start: int, count: int) -> bytes:
        return await self._attestor.leaves(start, count)

    async def history(self) -> Sequence[messages.Instance]:
        return await self._attestor.history()

    async def entries(
        self, principal: Principal, start: int, count: int, issuer: str | None
    ) -> messages.Entries:
        self._check_exporter(principal)
        return await self._attestor.entries(start, count, issuer)

    async def exported(self, principal: Principal, size: int) -> int:
        self._check_exporter(principal)
        return await self._attestor.exported(size)

    async def cosignatures(self, issuer: str | None) -> Sequence[messages.CosignedHead]:
        return await self._attestor.cosignatures(issuer)

    async def cosign(self, head: bytes, line: str) -> None:
        await self._attestor.cosign(head, line)

    def _check_exporter(self, principal: Principal) -> None:
        if f"{principal.tenant}/{principal.name}" != self._exporter:
            raise GatewayError("not_exporter")

    async def _signed(self, session: Session, logged: Logged) -> Signed:
        return Signed(logged.statement, await self._attestor.prove(logged.leaf_index, session.issuer))

    def _view(self, session: Session) -> SessionView:
        expired = session.close_reason in ("expired", "idle") or not session.usable(self._relay.clock())
        open_now = session.state is State.OPEN
        return SessionView(
            session=session.id,
            opening=Signed(session.opened.statement, session.inclusion),
            commitment_key=session.commitment_key,
            created=session.opened_at,
            expires=session.expires,
            state=("expired" if expired else "open") if open_now else "closed",
            explicit=session.conversation is None,
            last_seq=session.last_seq,
        )
