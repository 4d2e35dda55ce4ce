"""Opens sessions: makes the commitment key, asks the attestor, verifies what it signed."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from rlu_attestation.commitment import OPENING_SESSION, Tag, commit, key_digest
from rlu_attestation.cose import parse_inclusion
from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.statements import Content
from rlu_server.adapters.attestor_client import AttestorClient, refusal
from rlu_server.adapters.measures import Measures
from rlu_server.attestor import messages
from rlu_server.attestor.messages import Answer
from rlu_server.core.apikeys import Principal
from rlu_server.core.errors import GatewayError
from rlu_server.core.proof import Asked, SessionVerifier
from rlu_server.core.sessions import Logged, Session, SessionTable

EXPIRY_MARGIN_S = 2.0


class Opening(msgspec.Struct, frozen=True):
    """The request that opens an implicit session: its size and SHA-256."""

    size: int
    digest: bytes


class Terms(msgspec.Struct, frozen=True):
    """What a session is opened with."""

    principal: Principal
    nonce: bytes | None
    client_key: bytes | None
    ttl_s: int
    policies: tuple[str, ...]
    opening: Opening | None
    conversation: bytes | None


OnOpened = Callable[[Session | GatewayError], None]


class Opener:
    """Opens sessions and puts those that verified into the table."""

    def __init__(
        self,
        attestor: AttestorClient,
        table: SessionTable,
        measures: Measures,
        clock: Callable[[], float],
        session_idle_s: int,
    ) -> None:
        self.under_way = 0
        self._attestor = attestor
        self._table = table
        self._measures = measures
        self._clock = clock
        self._idle_s = session_idle_s

    def open(self, terms: Terms, on_opened: OnOpened) -> None:
        """Ask for a session; the callback gets it verified, or the refusal, later."""
        key = os.urandom(32)
        asked, asked_at = _asked(terms, key), self._clock()
        self.under_way += 1

        def opened(answer: Answer | None) -> None:
            self.under_way -= 1
            if not isinstance(answer, messages.SessionOpened) or self._attestor.verifier is None:
                on_opened(refusal(answer))
                return
            try:
                session = self._verified(
                    self._verifier(answer), answer, asked, asked_at, key, terms.conversation
                )
            except RluError as error:
                self._attestor.distrust(error)
                on_opened(GatewayError("signer_unavailable"))
                return
            on_opened(session)

        self._attestor.send(_message(self._attestor.next_id(), asked), opened)

    def _verifier(self, answer: messages.SessionOpened) -> SessionVerifier:
        """The current instance's; after a rotation, the former's for what it was still asked for."""
        current = self._attestor.verifier
        assert current is not None
        if self._attestor.former is None:
            return current
        return self._attestor.verifier_of(parse_inclusion(answer.receipt).issuer) or current

    def _verified(
        self,
        verifier: SessionVerifier,
        answer: messages.SessionOpened,
        asked: Asked,
        asked_at: float,
        key: bytes,
        conversation: bytes | None,
    ) -> Session:
        logged = Logged(answer.logged.statement, answer.logged.leaf_index)
        statement = verifier.verify(
            answer.session, logged.statement, logged.leaf_index, answer.receipt, asked, asked_at
        )
        session = Session(
            id=answer.session,
            issuer=statement.issuer,
            raw_id=unb64u(answer.session),
            tenant=asked.tenant,
            principal=asked.principal,
            commitment_key=key,
            opened=logged,
            inclusion=answer.receipt,
            opened_at=statement.issued_at,
            expires=statement.expires_at,
            expires_at=statement.expires_at - min(EXPIRY_MARGIN_S, asked.ttl_s / 10),
            idle_s=self._idle_s,
            last_used=self._clock(),
            conversation=conversation,
        )
        self._table.add(session)
        self._measures.sessions_opened["explicit" if conversation is None else "implicit"] += 1
        return session


def _asked(terms: Terms, key: bytes) -> Asked:
    opening = None
    if terms.opening is not None:
        size, digest = terms.opening.size, terms.opening.digest
        opening = Content(size, commit(key, Tag.OPENING, OPENING_SESSION, 0, size, digest))
    return Asked(
        tenant=terms.principal.tenant_pseudonym,
        principal=terms.principal.pseudonym,
        nonce=terms.nonce,
        client_key=terms.client_key,
        commitment_key=key_digest(key),
        opening=opening,
        ttl_s=terms.ttl_s,
        policies=terms.policies,
    )


def _message(request_id: int, asked: Asked) -> messages.OpenSession:
    opening = None
    if asked.opening is not None:
        opening = messages.Commitment(bytes=asked.opening.size, commitment=asked.opening.commitment)
    return messages.OpenSession(
        id=request_id,
        tenant=asked.tenant,
        principal=asked.principal,
        nonce=asked.nonce,
        cnf_jkt=asked.client_key,
        commitment_key_digest=asked.commitment_key,
        opening=opening,
        ttl_s=asked.ttl_s,
        policies=list(asked.policies),
    )
