"""Comparing observers of a log: were two of them shown one history?"""

from __future__ import annotations

from collections.abc import Sequence

from rlu_attestation import cose
from rlu_attestation.cose import SignedHead
from rlu_attestation.errors import Malformed, Untrusted
from rlu_attestation.log.finding import Finding
from rlu_attestation.log.state import State
from rlu_attestation.merkle import verify_consistency


def compare(state: State, other: State, path: Sequence[bytes] | None) -> Finding | None:
    """Were two observers shown one log?

    Args:
        state: one observer's, after a look at the server.
        other: another's.
        path: proof of consistency (RFC 9162 section 2.1.4.1) between the sizes that `compared` gives, as the server of `state` made it.
    """
    evidence = (state.head, other.head)
    pair = compared(state, other)
    if pair is None:
        detail = f"the other observer follows {other.issuer}, which is not in this log's past"
        return Finding("log.split_view", detail, evidence)
    small, large = pair
    if small.tree_size == large.tree_size:
        if small.root == large.root:
            return None
        return Finding("log.split_view", f"two signed heads over {small.tree_size} entries differ", evidence)
    if small.tree_size == 0:
        return None
    sizes = f"from {small.tree_size} to {large.tree_size} entries"
    if path is None:
        return Finding("log.unproven", f"no proof was given {sizes}", evidence)
    try:
        verify_consistency(small.tree_size, small.root, large.tree_size, large.root, path)
    except Untrusted:
        return Finding("log.split_view", f"the proof does not lead {sizes}: two logs were signed", evidence)
    except Malformed:
        return Finding("log.unproven", f"the proof {sizes} cannot be read", evidence)
    return None


def compared(state: State, other: State) -> tuple[SignedHead, SignedHead] | None:
    """The two heads by which observers are compared, the smaller first; None if they follow unrelated instances."""
    mine = state.latest
    if other.issuer != state.issuer:
        heads = [cose.parse_head(p.head) for p in state.past if p.issuer == other.issuer]
        if not heads:
            return None
        mine = heads[-1]
    if mine.tree_size <= other.latest.tree_size:
        return mine, other.latest
    return other.latest, mine
