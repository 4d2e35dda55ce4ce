"""The chain of keys, where a bundle shows it: each that stepped down named the next, the last of them the key of this instance."""

from __future__ import annotations

from rlu_attestation import continuity
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Untrusted
from rlu_attestation.verifier.context import Context, SignedStatement
from rlu_attestation.verifier.trail import Failed, Trail, need


def check_continuity(trail: Trail, context: Context, signed: SignedStatement | Failed) -> None:
    """Run the step, if there is something to check. Passing it says nothing about hardware."""
    if context.bundle.continuity:
        trail.check("continuity", lambda: verify_chain(need(signed), context), str)


def verify_chain(signed: SignedStatement, context: Context) -> str:
    """The statements, oldest first, lead to the instance's key, which names the last of them as its predecessor.

    Raises:
        Malformed, Untrusted: as `continuity.verify`.
        Untrusted: `continuity.successor`, `.predecessor`, `.future`.
    """
    follower = signed.kid
    for text in reversed(context.bundle.continuity):
        statement, _ = continuity.verify(text)
        if statement.successor != follower:
            raise Untrusted(
                "continuity.successor", "an earlier key named another key than the one that follows"
            )
        if statement.issued_at > context.at + context.policy.clock_skew_s:
            raise Untrusted("continuity.future", "a key stepped down after the time given")
        named = signed.claims.predecessor
        if follower == signed.kid and (named is None or named.issuer != statement.issuer):
            raise Untrusted("continuity.predecessor", "the instance names another predecessor, or none")
        follower = statement.kid
    return f"{len(context.bundle.continuity)} key(s) before this one, the first {b64u(follower)}"
