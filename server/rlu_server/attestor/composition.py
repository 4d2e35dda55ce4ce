"""From what the gateway may say (messages) to what the attestor states (statements). Pure.

There is no way from a message to a signature except through these functions: everything that is signed is one of the statements of
FORMATS, and issuer, time, blind, session id, sequence number and running hash are the attestor's own.

There is a receipt for every response, and making one through `statements.Receipt` would cost more than everything else the attestor
does for it. So `receipt` writes the canonical bytes out, in a third of the time; the tests hold it against `statements.Receipt`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from json.encoder import encode_basestring

import msgspec

from rlu_attestation.channel import Channel
from rlu_attestation.encoding import b64u
from rlu_attestation.statements import RECEIPT_PROFILE, Close, Content, Receipt, SessionStatement
from rlu_server.attestor.messages import Commitment, OpenSession, RecordReceipt, Usage
from rlu_server.attestor.tiles import Meta, bucket

UNKNOWN = "unknown"
# Models, routes and reasons are few and come again and again.
_quoted: Callable[[str], str] = lru_cache(maxsize=1024)(encode_basestring)


class Stamp(msgspec.Struct, frozen=True):
    """The attestor's part of every leaf: its name, the time in seconds, 16 random bytes."""

    issuer: str
    now: int
    blind: bytes


class Composed(msgspec.Struct, frozen=True):
    """A receipt's bytes, and what the log keeps beside its leaf."""

    statement: bytes
    meta: Meta


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


def receipt(stamp: Stamp, message: RecordReceipt, session_leaf: bytes) -> Composed:
    """The receipt of an exchange that the gateway reports, in canonical form: members in the order of their names."""
    statement = (
        f'{{"eat_profile":"{RECEIPT_PROFILE}","iat":{stamp.now},"iss":"{stamp.issuer}","rlu_blind":"{b64u(stamp.blind)}"'
        f"{_content_member('forwarded', message.forwarded)}"
        f',"rlu_http_status":{message.http_status},"rlu_model":{_quoted(message.model)}'
        f"{_reason_member(message.reason)}"
        f"{_content_member('request', message.request)}{_content_member('response', message.response)}"
        f"{_rewritten_member(message.rewritten)}"
        f',"rlu_route":{_quoted(message.route)},"rlu_seq":{message.seq},"rlu_session":{_quoted(message.session)}'
        f',"rlu_session_leaf":"{b64u(session_leaf)}","rlu_status":"{message.status}"{_usage_member(message.usage)}}}'
    )
    return Composed(statement.encode("utf-8"), _meta(stamp, message.status, message.usage))


def lost_receipt(stamp: Stamp, session: str, session_leaf: bytes, seq: int, reason: str) -> Composed:
    """The receipt of an exchange whose end nobody reported (FORMATS section 6)."""
    lost = Receipt(
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
    return Composed(lost.encode(), _meta(stamp, lost.status, None))


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


def _content_member(name: str, commitment: Commitment | None) -> str:
    if commitment is None:
        return ""
    return f',"rlu_{name}":{{"bytes":{commitment.bytes},"commitment":"{b64u(commitment.commitment)}"}}'


def _reason_member(reason: str | None) -> str:
    return "" if reason is None else f',"rlu_reason":{_quoted(reason)}'


def _rewritten_member(names: list[str]) -> str:
    return f',"rlu_rewritten":[{",".join(map(_quoted, names))}]' if names else ""


def _usage_member(usage: Usage | None) -> str:
    if usage is None:
        return ""
    return (
        f',"rlu_usage":{{"cached_input_tokens":{usage.cached_input_tokens},"input_tokens":{usage.input_tokens},'
        f'"output_tokens":{usage.output_tokens}}}'
    )


def _meta(stamp: Stamp, status: str, usage: Usage | None) -> Meta:
    if usage is None:
        return Meta("receipt", stamp.now, status)
    buckets = (bucket(usage.input_tokens), bucket(usage.output_tokens), bucket(usage.cached_input_tokens))
    return Meta("receipt", stamp.now, status, buckets)
