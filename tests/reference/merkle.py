"""RFC 9162 section 2.1, written down as the definitions stand, with all leaves at hand. Slow, and sharing nothing with what it checks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def hash_leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def split(n: int) -> int:
    """The largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def root(leaves: Sequence[bytes]) -> bytes:
    """MTH over leaf hashes (section 2.1.1)."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return hash_node(root(leaves[:k]), root(leaves[k:]))


def path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH (section 2.1.3.1)."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*path(index, leaves[:k]), root(leaves[k:])]
    return [*path(index - k, leaves[k:]), root(leaves[:k])]


def proof(old: int, leaves: Sequence[bytes], whole: bool = True) -> list[bytes]:
    """PROOF (`whole`) and SUBPROOF (section 2.1.4.1)."""
    if old == len(leaves):
        return [] if whole else [root(leaves)]
    k = split(len(leaves))
    if old <= k:
        return [*proof(old, leaves[:k], whole), root(leaves[k:])]
    return [*proof(old - k, leaves[k:], False), root(leaves[:k])]


def includes(leaf: bytes, index: int, size: int, given: Sequence[bytes], expected: bytes) -> bool:
    """Whether a path proves a leaf, by recursion from the root down instead of the RFC's loop from the leaf up."""

    def climb(index: int, size: int, rest: list[bytes]) -> bytes | None:
        if size == 1:
            return leaf if not rest else None
        if not rest:
            return None
        k = split(size)
        sibling = rest[-1]
        if index < k:
            below = climb(index, k, rest[:-1])
            return None if below is None else hash_node(below, sibling)
        below = climb(index - k, size - k, rest[:-1])
        return None if below is None else hash_node(sibling, below)

    if not 0 <= index < size:
        return False
    return climb(index, size, list(given)) == expected


def extends(old: int, old_root: bytes, new: int, new_root: bytes, given: Sequence[bytes]) -> bool:
    """Whether a proof shows that the first `old` leaves of the new tree are the old one."""

    def climb(old: int, size: int, whole: bool, rest: list[bytes]) -> tuple[bytes, bytes] | None:
        """(root of the old part, root of all) of a subtree of `size` leaves, of which `old` are old."""
        if old == size:
            if whole:
                return (old_root, old_root) if not rest else None
            return (rest[0], rest[0]) if len(rest) == 1 else None
        if not rest:
            return None
        k = split(size)
        sibling = rest[-1]
        if old <= k:
            below = climb(old, k, whole, rest[:-1])
            return None if below is None else (below[0], hash_node(below[1], sibling))
        below = climb(old - k, size - k, False, rest[:-1])
        return None if below is None else (hash_node(sibling, below[0]), hash_node(sibling, below[1]))

    if not 0 < old <= new:
        return False
    return climb(old, new, True, list(given)) == (old_root, new_root)
