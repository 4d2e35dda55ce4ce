"""The session, receipt and close statements (FORMATS section 6): what is a leaf of the log.

`encode` gives the exact bytes that are hashed; `parse` accepts nothing else. A parsed statement is only a *claim*: it is trusted when
an inclusion receipt over its leaf hash verifies under the instance key. The instance statement is in `instance.py`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from rlu_attestation import canonical
from rlu_attestation.channel import Channel
from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed
from rlu_attestation.merkle import leaf_hash

SESSION_PROFILE = "tag:rlu.internal,2026:session#1"
RECEIPT_PROFILE = "tag:rlu.internal,2026:receipt#1"
CLOSE_PROFILE = "tag:rlu.internal,2026:close#1"
STATUSES = ("complete", "partial", "aborted", "failed")
BLIND_SIZE = 16
SESSION_ID_SIZE = 16
NONCE_SIZES = range(8, 65)


@dataclass(frozen=True, slots=True)
class Content:
    """Size in bytes and keyed commitment of some content (FORMATS section 7)."""

    size: int
    commitment: bytes

    def to_json(self) -> dict[str, Any]:
        return {"bytes": self.size, "commitment": b64u(self.commitment)}

    @classmethod
    def read(cls, members: Members, name: str) -> Content:
        with members.object(name) as inner:
            return cls(inner.count("bytes"), inner.binary("commitment", 32))


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as found in the relayed bytes."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int

    def to_json(self) -> dict[str, Any]:
        return {
            "cached_input_tokens": self.cached_input_tokens,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStatement:
    """Who may rely on what: one session of one instance. `session` is the id's 22 characters."""

    issuer: str
    session: str
    issued_at: int
    expires_at: int
    instance: bytes
    nonce: bytes | None
    client_key: bytes | None
    tenant: str
    principal: str
    channel: Channel
    commitment_key: bytes
    opening: Content | None
    policies: tuple[str, ...] = ()
    blind: bytes

    def encode(self) -> bytes:
        """Canonical bytes; their leaf hash goes into the log."""
        return canonical.encode(
            _present(
                {
                    "cnf": None if self.client_key is None else {"jkt": b64u(self.client_key)},
                    "eat_nonce": _b64u_or_none(self.nonce),
                    "eat_profile": SESSION_PROFILE,
                    "exp": self.expires_at,
                    "iat": self.issued_at,
                    "iss": self.issuer,
                    "jti": self.session,
                    "rlu_blind": b64u(self.blind),
                    "rlu_channel": self.channel.to_json(),
                    "rlu_commitment_key": b64u(self.commitment_key),
                    "rlu_freshness": "none" if self.nonce is None else None,
                    "rlu_instance": b64u(self.instance),
                    "rlu_opening": None if self.opening is None else self.opening.to_json(),
                    "rlu_policies": list(self.policies) or None,
                    "rlu_principal": self.principal,
                    "rlu_tenant": self.tenant,
                }
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> SessionStatement:
        """Raises Malformed for anything but a canonical session statement."""
        with Members(canonical.decode(data), "session statement") as members:
            members.exactly("eat_profile", SESSION_PROFILE)
            nonce = members.optional(members.binary, "eat_nonce", *NONCE_SIZES)
            if nonce is None:
                members.exactly("rlu_freshness", "none")
            client_key = None
            if "cnf" in members:
                with members.object("cnf") as inner:
                    client_key = inner.binary("jkt", 32)
            return cls(
                issuer=members.text("iss"),
                session=session_id(members.text("jti")),
                issued_at=members.count("iat"),
                expires_at=members.count("exp"),
                instance=members.binary("rlu_instance", 32),
                nonce=nonce,
                client_key=client_key,
                tenant=members.text("rlu_tenant"),
                principal=members.text("rlu_principal"),
                channel=Channel.read(members, "rlu_channel"),
                commitment_key=members.binary("rlu_commitment_key", 32),
                opening=Content.read(members, "rlu_opening") if "rlu_opening" in members else None,
                policies=members.optional(members.texts, "rlu_policies", 16) or (),
                blind=members.binary("rlu_blind", BLIND_SIZE),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What the gateway reports it relayed in one exchange of a session."""

    issuer: str
    session: str
    session_leaf: bytes
    seq: int
    issued_at: int
    route: str
    model: str
    status: str
    http_status: int
    request: Content | None
    """`None`, as is `response`, only where the attestor logged the receipt because the gateway was lost."""
    forwarded: Content | None
    rewritten: tuple[str, ...]
    response: Content | None
    usage: Usage | None
    reason: str | None
    blind: bytes

    def encode(self) -> bytes:
        """Canonical bytes; their leaf hash goes into the log."""
        return canonical.encode(
            _present(
                {
                    "eat_profile": RECEIPT_PROFILE,
                    "iat": self.issued_at,
                    "iss": self.issuer,
                    "rlu_blind": b64u(self.blind),
                    "rlu_forwarded": None if self.forwarded is None else self.forwarded.to_json(),
                    "rlu_http_status": self.http_status,
                    "rlu_model": self.model,
                    "rlu_reason": self.reason,
                    "rlu_request": None if self.request is None else self.request.to_json(),
                    "rlu_response": None if self.response is None else self.response.to_json(),
                    "rlu_rewritten": list(self.rewritten) or None,
                    "rlu_route": self.route,
                    "rlu_seq": self.seq,
                    "rlu_session": self.session,
                    "rlu_session_leaf": b64u(self.session_leaf),
                    "rlu_status": self.status,
                    "rlu_usage": None if self.usage is None else self.usage.to_json(),
                }
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> Receipt:
        """Raises Malformed for anything but a canonical receipt."""
        with Members(canonical.decode(data), "receipt") as members:
            members.exactly("eat_profile", RECEIPT_PROFILE)
            usage = None
            if "rlu_usage" in members:
                with members.object("rlu_usage") as inner:
                    usage = Usage(
                        inner.count("input_tokens"),
                        inner.count("output_tokens"),
                        inner.count("cached_input_tokens"),
                    )
            receipt = cls(
                issuer=members.text("iss"),
                session=session_id(members.text("rlu_session")),
                session_leaf=members.binary("rlu_session_leaf", 32),
                seq=members.count("rlu_seq"),
                issued_at=members.count("iat"),
                route=members.text("rlu_route"),
                model=members.text("rlu_model"),
                status=members.choice("rlu_status", STATUSES),
                http_status=members.count("rlu_http_status"),
                request=Content.read(members, "rlu_request") if "rlu_request" in members else None,
                forwarded=Content.read(members, "rlu_forwarded") if "rlu_forwarded" in members else None,
                rewritten=members.optional(members.texts, "rlu_rewritten", 16) or (),
                response=Content.read(members, "rlu_response") if "rlu_response" in members else None,
                usage=usage,
                reason=members.optional(members.text, "rlu_reason"),
                blind=members.binary("rlu_blind", BLIND_SIZE),
            )
        receipt._check_content()
        return receipt

    def _check_content(self) -> None:
        silent = self.request is None or self.response is None
        if silent and (
            self.status != "failed" or self.request is not self.response or self.forwarded is not None
        ):
            raise Malformed(
                "statement.claims", "receipt: only a failed one of a lost gateway is without content"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """The end of a session: how many receipts it has, and a running hash over all of them."""

    issuer: str
    session: str
    session_leaf: bytes
    issued_at: int
    last_seq: int
    count: int
    running: bytes
    reason: str
    scratch: str
    blind: bytes

    def encode(self) -> bytes:
        """Canonical bytes; their leaf hash goes into the log."""
        return canonical.encode(
            {
                "eat_profile": CLOSE_PROFILE,
                "iat": self.issued_at,
                "iss": self.issuer,
                "rlu_blind": b64u(self.blind),
                "rlu_count": self.count,
                "rlu_last_seq": self.last_seq,
                "rlu_reason": self.reason,
                "rlu_running": b64u(self.running),
                "rlu_scratch": self.scratch,
                "rlu_session": self.session,
                "rlu_session_leaf": b64u(self.session_leaf),
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Close:
        """Raises Malformed for anything but a canonical close."""
        with Members(canonical.decode(data), "close") as members:
            members.exactly("eat_profile", CLOSE_PROFILE)
            return cls(
                issuer=members.text("iss"),
                session=session_id(members.text("rlu_session")),
                session_leaf=members.binary("rlu_session_leaf", 32),
                issued_at=members.count("iat"),
                last_seq=members.count("rlu_last_seq"),
                count=members.count("rlu_count"),
                running=members.binary("rlu_running", 32),
                reason=members.text("rlu_reason"),
                scratch=members.choice("rlu_scratch", ("wiped", "unknown")),
                blind=members.binary("rlu_blind", BLIND_SIZE),
            )


def session_id(text: str) -> str:
    """Check a session id's form: base64url of 16 bytes. Raises Malformed."""
    if len(unb64u(text)) != SESSION_ID_SIZE:
        raise Malformed("statement.claims", "a session id is base64url of 16 bytes")
    return text


def running_start(session_statement: bytes) -> bytes:
    """running_0 of FORMATS section 6: the session statement's leaf hash."""
    return leaf_hash(session_statement)


def running_next(running: bytes, receipt_leaf: bytes) -> bytes:
    """running_n from running_(n-1) and the n-th logged receipt's leaf hash."""
    return hashlib.sha256(b"rlu/running/v1\x00" + running + receipt_leaf).digest()


def _present(claims: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in claims.items() if value is not None}


def _b64u_or_none(value: bytes | None) -> str | None:
    return None if value is None else b64u(value)
