"""From what the gateway may say (messages) to what the attestor states (statements). Pure.

There is no way from a message to a signature except through these functions: everything that is signed is one of the statements of
FORMATS, and issuer, time, blind, session id, sequence number and running hash are the attestor's own.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlu_attestation.statements import Channel, Close, Content, Receipt, SessionStatement, Usage
from rlu_server.attestor.messages import Commitment, OpenSession, RecordReceipt

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Stamp:
    """The attestor's part of every leaf: its name, the time in seconds, 16 random bytes."""

    issuer: str
    now: int
    blind: bytes


def session_statement(
    stamp: Stamp, session: str, message: OpenSession, instance: bytes, channel: Channel
) -> SessionStatement:
    """The statement that opens a session."""
    return SessionStatement(
        issuer=stamp.issuer,
        session=session,
        issued_at=stamp.now,
        expires_at=stamp.now + message.ttl_s,
        instance=instance,
        nonce=message.nonce,
        client_key=message.cnf_jkt,
        tenant=message.tenant,
        principal=message.principal,
        channel=channel,
        commitment_key=message.commitment_key_digest,
        opening=_content(message.opening),
        policies=tuple(message.policies),
        blind=stamp.blind,
    )


def receipt(stamp: Stamp, message: RecordReceipt, session_leaf: bytes) -> Receipt:
    """The receipt of an exchange that the gateway reports."""
    usage = message.usage
    return Receipt(
        issuer=stamp.issuer,
        session=message.session,
        session_leaf=session_leaf,
        seq=message.seq,
        issued_at=stamp.now,
        route=message.route,
        model=message.model,
        status=message.status,
        http_status=message.http_status,
        request=_content(message.request),
        forwarded=_content(message.forwarded),
        rewritten=tuple(message.rewritten),
        response=_content(message.response),
        usage=None
        if usage is None
        else Usage(usage.input_tokens, usage.output_tokens, usage.cached_input_tokens),
        reason=message.reason,
        blind=stamp.blind,
    )


def lost_receipt(stamp: Stamp, session: str, session_leaf: bytes, seq: int, reason: str) -> Receipt:
    """The receipt of an exchange whose end nobody reported (FORMATS section 6)."""
    return Receipt(
        issuer=stamp.issuer,
        session=session,
        session_leaf=session_leaf,
        seq=seq,
        issued_at=stamp.now,
        route=UNKNOWN,
        model=UNKNOWN,
        status="failed",
        http_status=0,
        request=None,
        forwarded=None,
        rewritten=(),
        response=None,
        usage=None,
        reason=reason,
        blind=stamp.blind,
    )


def close(
    stamp: Stamp,
    session: str,
    session_leaf: bytes,
    *,
    last_seq: int,
    count: int,
    running: bytes,
    reason: str,
    scratch: str,
) -> Close:
    """The statement that ends a session."""
    return Close(
        issuer=stamp.issuer,
        session=session,
        session_leaf=session_leaf,
        issued_at=stamp.now,
        last_seq=last_seq,
        count=count,
        running=running,
        reason=reason,
        scratch=scratch,
        blind=stamp.blind,
    )


def _content(commitment: Commitment | None) -> Content | None:
    return None if commitment is None else Content(commitment.bytes, commitment.commitment)
