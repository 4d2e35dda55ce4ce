"""Steps 8 and 9: the session, and the log as far as it is shown. Nothing of a statement is read before the log is known to hold it."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from rlu_attestation import commitment, cose
from rlu_attestation.bundle import Logged
from rlu_attestation.cose import SignedHead
from rlu_attestation.errors import Untrusted
from rlu_attestation.merkle import leaf_hash
from rlu_attestation.statements import SessionStatement
from rlu_attestation.verifier.context import (
    Context,
    SignedStatement,
    VerifiedLeaf,
    VerifiedSession,
)
from rlu_attestation.verifier.instance import verify_nonce, verify_window
from rlu_attestation.verifier.trail import Failed, NotApplicable, NotMade, Trail, need


def check_session(
    trail: Trail, context: Context, signed: SignedStatement | Failed, logged: Logged
) -> VerifiedSession | Failed:
    """Run the steps of the session statement itself; gives a `Failed` unless it is signed and well-formed."""
    leaf = trail.check("session.inclusion", lambda: verify_leaf(need(signed), logged, context), describe_leaf)
    parsed = trail.check("session.statement", lambda: SessionStatement.parse(need(leaf).statement), _describe)
    trail.check("session.instance", lambda: verify_origin(need(parsed), need(signed)))
    trail.check("session.time", lambda: verify_times(need(parsed), context))
    trail.check("session.nonce", lambda: verify_nonce(need(parsed).nonce, context, "session"), str)
    trail.check("session.channel", lambda: verify_channel(need(parsed), need(signed)))
    if isinstance(parsed, Failed):
        return parsed
    return VerifiedSession(parsed, need(leaf))


def check_commitment_key(trail: Trail, context: Context, session: VerifiedSession | Failed) -> bytes | Failed:
    """The commitment key, or a `Failed` when there is none or it is not this session's."""
    return trail.check(
        "session.commitment_key",
        lambda: verify_commitment_key(need(session).statement, context.bundle.commitment_key),
    )


def verify_leaf(signed: SignedStatement, logged: Logged, context: Context) -> VerifiedLeaf:
    """The instance signed a head of a log that holds this statement.

    Raises:
        Malformed: the receipt's encoding or path.
        Untrusted: `….kid`, `.issuer`, `.future`, `.invalid`, each below the step's id.
    """
    receipt = cose.parse_inclusion(logged.receipt)
    verify_signer(signed, receipt.kid, receipt.issuer, receipt.iat, context)
    leaf = leaf_hash(logged.statement)
    root = receipt.verify(signed.key, leaf)
    return VerifiedLeaf(logged.statement, leaf, receipt, root)


def verify_head(signed: SignedStatement, encoded: bytes | None, largest: int, context: Context) -> SignedHead:
    """The instance signed this head, and it is no older than what the receipts show.

    Raises:
        Malformed: its encoding.
        Untrusted: `log.head.kid`, `.issuer`, `.future`, `.invalid`, `.stale`.
    """
    if encoded is None:
        raise NotApplicable("the bundle holds no head")
    head = cose.parse_head(encoded)
    verify_signer(signed, head.kid, head.issuer, head.iat, context)
    head.verify(signed.key)
    if head.tree_size < largest:
        raise Untrusted(
            "log.head.stale", f"the head covers {head.tree_size} leaves, a receipt is under {largest}"
        )
    return head


def verify_history(leaves: list[VerifiedLeaf], heads: Iterable[SignedHead]) -> int:
    """One tree size has one root, and one place in the log one leaf; returns how many signed heads were compared.

    Raises:
        Untrusted: `log.heads.fork`.
    """
    roots: dict[int, bytes] = {}
    for head in heads:
        if roots.setdefault(head.tree_size, head.root) != head.root:
            raise Untrusted(
                "log.heads.fork", "two signed heads of one size differ: the log has two histories"
            )
    places: dict[int, bytes] = {}
    for leaf in leaves:
        if roots.setdefault(leaf.receipt.tree_size, leaf.root) != leaf.root:
            raise Untrusted(
                "log.heads.fork", "two signed heads of one size differ: the log has two histories"
            )
        if places.setdefault(leaf.receipt.leaf_index, leaf.leaf) != leaf.leaf:
            raise Untrusted(
                "log.heads.fork", "two statements have one place in the log: it has two histories"
            )
    return len(roots)


def verify_origin(session: SessionStatement, signed: SignedStatement) -> None:
    """The session was opened by this instance, in the state that was attested.

    Raises:
        Untrusted: `session.instance.issuer`, `.profile`.
    """
    if session.issuer != signed.claims.issuer:
        raise Untrusted("session.instance.issuer", "another instance opened the session")
    if not hmac.compare_digest(session.instance, signed.profile):
        raise Untrusted(
            "session.instance.profile", "the instance was in another state when it opened the session"
        )


def verify_times(session: SessionStatement, context: Context) -> None:
    """Raises Untrusted: `session.time.window`, `.future`, `.expired`."""
    verify_window("session.time", session.issued_at, session.expires_at, context)


def verify_channel(session: SessionStatement, signed: SignedStatement) -> None:
    """Raises Untrusted: `session.channel.mismatch`."""
    if session.channel != signed.claims.tls:
        raise Untrusted("session.channel.mismatch", "the session was opened for another TLS key")


def verify_commitment_key(session: SessionStatement, key: bytes | None) -> bytes:
    """The key is the one that the session statement commits to.

    Raises:
        Untrusted: `session.commitment_key.mismatch`.
        NotMade: `session.commitment_key.absent`.
    """
    if key is None:
        raise NotMade(
            "session.commitment_key.absent", "without the commitment key no content can be compared"
        )
    if not hmac.compare_digest(commitment.key_digest(key), session.commitment_key):
        raise Untrusted("session.commitment_key.mismatch", "this is another session's commitment key")
    return key


def verify_signer(signed: SignedStatement, kid: bytes, issuer: str, iat: int, context: Context) -> None:
    """What a head or receipt says of its signer is true of this instance.

    Raises:
        Untrusted: `log.kid`, `.issuer`, `.future`, each below the step's id.
    """
    if not hmac.compare_digest(kid, signed.kid):
        raise Untrusted("log.kid", "signed by another key than the instance's")
    if issuer != signed.claims.issuer:
        raise Untrusted("log.issuer", "the log of another instance")
    if iat > context.at + context.policy.clock_skew_s:
        raise Untrusted("log.future", f"signed {iat - context.at} s after the time given")


def describe_leaf(leaf: VerifiedLeaf) -> str:
    return f"leaf {leaf.receipt.leaf_index} of {leaf.receipt.tree_size}"


def _describe(session: SessionStatement) -> str:
    return f"session {session.session}"
