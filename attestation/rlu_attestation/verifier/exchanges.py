"""Steps 10 and 11: receipts against the bytes the client saw, and the close that shows that none is missing.

A receipt proves what the *gateway reports it relayed*; that the engine produced it is not proved by anything here.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from rlu_attestation.bundle import Exchange, Logged
from rlu_attestation.commitment import OPENING_SESSION, Tag, commit
from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import Untrusted
from rlu_attestation.statements import Close, Content, Receipt, SessionStatement, running_next
from rlu_attestation.verifier.context import Context, SignedStatement, VerifiedLeaf, VerifiedSession
from rlu_attestation.verifier.session import describe_leaf, verify_leaf
from rlu_attestation.verifier.trail import Failed, NotApplicable, NotMade, Trail, need


@dataclass(frozen=True, slots=True)
class VerifiedExchange:
    """A receipt of the session that the instance signed."""

    receipt: Receipt
    leaf: VerifiedLeaf


@dataclass(frozen=True, slots=True)
class _Check:
    """What the checks of one session's exchanges and close share."""

    trail: Trail
    context: Context
    signed: SignedStatement | Failed
    session: VerifiedSession | Failed
    key: bytes | Failed

    def leaf(self, step: str, logged: Logged, subject: str = "") -> VerifiedLeaf | Failed:
        return self.trail.check(
            step,
            lambda: verify_leaf(need(self.signed), logged, self.context),
            describe_leaf,
            subject,
        )


def check_exchanges(
    trail: Trail,
    context: Context,
    signed: SignedStatement | Failed,
    session: VerifiedSession | Failed,
    key: bytes | Failed,
) -> list[VerifiedExchange | Failed]:
    """Run the steps of every exchange, and those over all of them."""
    check = _Check(trail, context, signed, session, key)
    exchanges = context.bundle.exchanges
    found = [_check_exchange(check, exchange, f"exchange {n}") for n, exchange in enumerate(exchanges, 1)]
    requests = [exchange.request for exchange in exchanges if exchange.request is not None]
    trail.check("session.opening", lambda: verify_opening(need(session).statement, key, requests))
    if found:
        trail.check("receipt.sequence", lambda: verify_sequence([need(exchange) for exchange in found]), str)
    return found


def check_close(
    trail: Trail,
    context: Context,
    signed: SignedStatement | Failed,
    session: VerifiedSession | Failed,
    exchanges: Sequence[VerifiedExchange | Failed],
    logged: Logged,
) -> VerifiedLeaf | Failed:
    """Run the steps of the close."""
    check = _Check(trail, context, signed, session, Failed("session.commitment_key"))
    leaf = check.leaf("close.inclusion", logged)
    close = trail.check("close.statement", lambda: Close.parse(need(leaf).statement), _describe_close)
    trail.check("close.session", lambda: verify_close(need(close), need(leaf), need(session), context))
    trail.check(
        "close.running",
        lambda: verify_running(need(close), need(leaf), need(session), [need(e) for e in exchanges]),
        str,
    )
    return leaf


def _check_exchange(check: _Check, exchange: Exchange, subject: str) -> VerifiedExchange | Failed:
    trail = check.trail
    leaf = check.leaf("receipt.inclusion", exchange.logged, subject)
    receipt = trail.check(
        "receipt.statement", lambda: Receipt.parse(need(leaf).statement), _describe_receipt, subject
    )
    trail.check(
        "receipt.session",
        lambda: verify_receipt(need(receipt), need(leaf), need(check.session), check.context),
        subject=subject,
    )
    trail.check(
        "receipt.request",
        lambda: verify_content(
            "receipt.request", need(receipt), need(receipt).request, exchange.request, check.key, Tag.REQUEST
        ),
        subject=subject,
    )
    trail.check(
        "receipt.forwarded",
        lambda: verify_forwarded(need(receipt), exchange.request, check.key),
        subject=subject,
    )
    trail.check(
        "receipt.response",
        lambda: verify_content(
            "receipt.response",
            need(receipt),
            need(receipt).response,
            exchange.response,
            check.key,
            Tag.RESPONSE,
        ),
        subject=subject,
    )
    if isinstance(receipt, Failed):
        return receipt
    return VerifiedExchange(receipt, need(leaf))


def verify_receipt(receipt: Receipt, leaf: VerifiedLeaf, session: VerifiedSession, context: Context) -> None:
    """Step 10: the receipt names this session, by id and by leaf, and comes after it.

    Raises:
        Untrusted: `receipt.session.issuer`, `.id`, `.leaf`, `.order`, `.time`.
    """
    opened = session.statement
    _verify_member("receipt", (receipt.issuer, receipt.session, receipt.session_leaf), leaf, session)
    skew = context.policy.clock_skew_s
    if not opened.issued_at - skew <= receipt.issued_at <= context.at + skew:
        raise Untrusted("receipt.session.time", "made before its session, or after the time given")


def verify_close(close: Close, leaf: VerifiedLeaf, session: VerifiedSession, context: Context) -> None:
    """Step 11: the close names this session, by id and by leaf, and comes after it.

    Raises:
        Untrusted: `close.session.issuer`, `.id`, `.leaf`, `.order`, `.time`.
    """
    _verify_member("close", (close.issuer, close.session, close.session_leaf), leaf, session)
    skew = context.policy.clock_skew_s
    if not session.statement.issued_at - skew <= close.issued_at <= context.at + skew:
        raise Untrusted("close.session.time", "made before its session, or after the time given")


def verify_sequence(exchanges: Sequence[VerifiedExchange]) -> str:
    """Step 10: every number and every place in the log once; returns the numbers in words.

    Raises:
        Untrusted: `receipt.sequence.number`, `.twice`.
    """
    numbers = sorted(exchange.receipt.seq for exchange in exchanges)
    if numbers[0] < 1:
        raise Untrusted("receipt.sequence.number", "exchanges are numbered from 1")
    if len(set(numbers)) != len(numbers):
        raise Untrusted("receipt.sequence.twice", "two receipts have one number")
    if len({exchange.leaf.receipt.leaf_index for exchange in exchanges}) != len(exchanges):
        raise Untrusted("receipt.sequence.twice", "one receipt is given twice")
    missing = numbers[-1] - len(numbers)
    return f"{len(numbers)} of at least {numbers[-1]}" if missing else f"1 to {numbers[-1]}"


def verify_content(
    step: str, receipt: Receipt, stated: Content | None, content: bytes | None, key: bytes | Failed, tag: Tag
) -> None:
    """Step 10: the receipt commits to exactly these bytes.

    Raises:
        Untrusted: `<step>.size`, `<step>.mismatch`.
        NotMade: `<step>.silent` when the receipt commits to nothing, `<step>.absent` when the bytes are not here.
    """
    if stated is None:
        raise NotMade(
            f"{step}.silent", f"the receipt commits to no bytes: {receipt.reason or 'no reason given'}"
        )
    if content is None:
        raise NotMade(f"{step}.absent", "the bytes are not here to be compared")
    session = unb64u(receipt.session)
    _verify_commitment(step, stated, content, need(key), tag, session, receipt.seq)


def verify_forwarded(receipt: Receipt, request: bytes | None, key: bytes | Failed) -> None:
    """Step 10: a request that was passed on unchanged commits to the same bytes.

    Raises:
        Untrusted: `receipt.forwarded.size`, `.mismatch`.
        NotMade: `receipt.forwarded.absent`.
    """
    if receipt.forwarded is None:
        raise NotApplicable("nothing was forwarded")
    if receipt.rewritten:
        raise NotApplicable(
            f"the gateway rewrote {', '.join(receipt.rewritten)}; only it knows the bytes it sent"
        )
    if request is None:
        raise NotMade("receipt.forwarded.absent", "the request's bytes are not here to be compared")
    session = unb64u(receipt.session)
    _verify_commitment(
        "receipt.forwarded", receipt.forwarded, request, need(key), Tag.FORWARDED, session, receipt.seq
    )


def verify_opening(session: SessionStatement, key: bytes | Failed, requests: Sequence[bytes]) -> None:
    """Step 9: an implicit session names the request that opened it.

    Raises:
        Untrusted: `session.opening.missing`, `.mismatch`.
        NotMade: `session.opening.absent`.
    """
    if session.opening is None:
        if session.nonce is None:
            raise Untrusted(
                "session.opening.missing", "a session without a nonce must name its opening request"
            )
        raise NotApplicable("the session was opened by a nonce, not by a request")
    if not requests:
        raise NotMade("session.opening.absent", "the opening request's bytes are not here to be compared")
    known = need(key)
    for request in requests:
        digest = hashlib.sha256(request).digest()
        commitment = commit(known, Tag.OPENING, OPENING_SESSION, 0, len(request), digest)
        if hmac.compare_digest(commitment, session.opening.commitment):
            return
    raise Untrusted("session.opening.mismatch", "none of the requests here opened the session")


def verify_running(
    close: Close, leaf: VerifiedLeaf, session: VerifiedSession, exchanges: Sequence[VerifiedExchange]
) -> str:
    """Step 11: the receipts here, in the log's order, are all that the session has.

    Raises:
        Untrusted: `close.running.order`, `.count`, `.mismatch`.
        NotMade: `close.running.partial` when receipts are not here, `.gap` when numbers were used that have no receipt.
    """
    ordered = sorted(exchanges, key=lambda exchange: exchange.leaf.receipt.leaf_index)
    if len(ordered) < close.count:
        raise NotMade("close.running.partial", f"{len(ordered)} of {close.count} receipts are here")
    if len(ordered) > close.count:
        raise Untrusted(
            "close.running.count", f"{len(ordered)} receipts are here, the session had {close.count}"
        )
    if ordered and ordered[-1].leaf.receipt.leaf_index >= leaf.receipt.leaf_index:
        raise Untrusted("close.running.order", "a receipt does not precede the close in the log")
    running = session.leaf.leaf
    for exchange in ordered:
        running = running_next(running, exchange.leaf.leaf)
    if not hmac.compare_digest(running, close.running):
        raise Untrusted("close.running.mismatch", "the receipts here are not those that the session had")
    last = max((exchange.receipt.seq for exchange in ordered), default=0)
    if last != close.last_seq:
        raise Untrusted("close.running.last", f"the last number is {last}, the close says {close.last_seq}")
    if close.last_seq > close.count:
        raise NotMade(
            "close.running.gap", f"{close.last_seq - close.count} numbers were used and have no receipt"
        )
    return f"{close.count} receipts, closed: {close.reason}; scratch {close.scratch}, says the server"


def _verify_member(
    kind: str, stated: tuple[str, str, bytes], leaf: VerifiedLeaf, session: VerifiedSession
) -> None:
    issuer, identifier, session_leaf = stated
    if issuer != session.statement.issuer:
        raise Untrusted(f"{kind}.session.issuer", "another instance's")
    if identifier != session.statement.session:
        raise Untrusted(f"{kind}.session.id", "another session's")
    if not hmac.compare_digest(session_leaf, session.leaf.leaf):
        raise Untrusted(f"{kind}.session.leaf", "of a session with this id but another statement")
    if leaf.receipt.leaf_index <= session.leaf.receipt.leaf_index:
        raise Untrusted(f"{kind}.session.order", "it precedes its session in the log")


def _verify_commitment(
    step: str, stated: Content, content: bytes, key: bytes, tag: Tag, session: bytes, seq: int
) -> None:
    if stated.size != len(content):
        raise Untrusted(f"{step}.size", f"the receipt is about {stated.size} bytes, {len(content)} are here")
    expected = commit(key, tag, session, seq, len(content), hashlib.sha256(content).digest())
    if not hmac.compare_digest(expected, stated.commitment):
        raise Untrusted(f"{step}.mismatch", "the receipt is about other bytes of the same length")


def _describe_receipt(receipt: Receipt) -> str:
    usage = receipt.usage
    tokens = "" if usage is None else f", {usage.input_tokens} tokens in, {usage.output_tokens} out"
    reason = "" if receipt.reason is None else f" ({receipt.reason})"
    return f"{receipt.status}{reason}, {receipt.route}, {receipt.model}{tokens}"


def _describe_close(close: Close) -> str:
    return f"{close.count} receipts"
