"""The RFC 9162 Merkle tree with SHA-256: hashes, proofs, and an append-only tree that makes them.

`Tree` keeps the hash of every complete subtree, level by level, so that a root or a proof over any earlier size costs O(log n) hashes
(two 32-byte hashes of memory a leaf). Verification needs none of it: `root_from_inclusion` and `verify_consistency` follow sections
2.1.3.2 and 2.1.4.2. Proof lengths are exact; a path that is too short or too long refuses.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from rlu_attestation.errors import Malformed, Untrusted

HASH_SIZE = 32
MAX_PATH = 64
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves (RFC 9162 section 2.1.1)."""


def leaf_hash(data: bytes) -> bytes:
    """H(0x00 ‖ data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """H(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """An append-only tree over leaf hashes."""

    def __init__(self) -> None:
        self._levels: list[bytearray] = [bytearray()]

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0]) // HASH_SIZE

    def append(self, leaf: bytes) -> int:
        """Add a 32-byte leaf hash; returns its index."""
        if len(leaf) != HASH_SIZE:
            raise ValueError("a leaf hash has 32 bytes")
        index = self.size
        level, node, position = 0, leaf, index
        self._levels[0] += node
        while position & 1:
            node = node_hash(self._node(level, position - 1), node)
            level, position = level + 1, position >> 1
            if level == len(self._levels):
                self._levels.append(bytearray())
            self._levels[level] += node
        return index

    def truncate(self, size: int) -> None:
        """Forget the leaves from `size` on: for a writer whose head over them was never signed."""
        size = self._checked(size)
        for level, nodes in enumerate(self._levels):
            del nodes[(size >> level) * HASH_SIZE :]

    def leaf(self, index: int) -> bytes:
        """The leaf hash at an index."""
        if not 0 <= index < self.size:
            raise ValueError("no such leaf")
        return self._node(0, index)

    def root(self, size: int | None = None) -> bytes:
        """Root of the first `size` leaves; all of them by default."""
        size = self._checked(size)
        return self._range_root(0, size) if size else EMPTY_ROOT

    def inclusion_path(self, index: int, size: int | None = None) -> list[bytes]:
        """Audit path of a leaf in the tree of the first `size` leaves (section 2.1.3.1), leaf's sibling first."""
        size = self._checked(size)
        if not 0 <= index < size:
            raise ValueError("no such leaf in a tree of this size")
        path: list[bytes] = []
        start, end = 0, size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                path.append(self._range_root(middle, end))
                end = middle
            else:
                path.append(self._range_root(start, middle))
                start = middle
        path.reverse()
        return path

    def consistency_path(self, old_size: int, new_size: int | None = None) -> list[bytes]:
        """Proof that the tree of `old_size` leaves is a prefix of that of `new_size` (section 2.1.4.1)."""
        new_size = self._checked(new_size)
        if not 0 < old_size <= new_size:
            raise ValueError("the old size is between 1 and the new size")
        path: list[bytes] = []
        start, end, whole = 0, new_size, True
        while old_size != end:
            middle = start + _split(end - start)
            if old_size <= middle:
                path.append(self._range_root(middle, end))
                end = middle
            else:
                path.append(self._range_root(start, middle))
                start, whole = middle, False
        if not whole:
            path.append(self._range_root(start, end))
        path.reverse()
        return path

    def _checked(self, size: int | None) -> int:
        size = self.size if size is None else size
        if not 0 <= size <= self.size:
            raise ValueError("the tree has fewer leaves")
        return size

    def _node(self, level: int, position: int) -> bytes:
        return bytes(self._levels[level][position * HASH_SIZE : (position + 1) * HASH_SIZE])

    def _range_root(self, start: int, end: int) -> bytes:
        width = end - start
        if width & (width - 1) == 0:
            level = width.bit_length() - 1
            return self._node(level, start >> level)
        middle = start + _split(width)
        return node_hash(self._range_root(start, middle), self._range_root(middle, end))


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that an audit path leads to (section 2.1.3.2); the caller compares it with a signed one.

    Raises:
        Malformed: index outside the tree, wrong path length, or a hash that is not 32 bytes.
    """
    _check_hashes([leaf, *path])
    if not 0 <= index < size:
        raise Malformed("proof.inclusion", "the leaf index is outside the tree")
    position, last, node = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise Malformed("proof.inclusion", "the path is too long")
        if position & 1 or position == last:
            node = node_hash(sibling, node)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise Malformed("proof.inclusion", "the path is too short")
    return node


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> None:
    """Check that one tree extends another (section 2.1.4.2).

    Raises:
        Malformed: impossible sizes or path.
        Untrusted: the proof does not connect the two roots.
    """
    _check_hashes([new_root])
    _same(root_from_consistency(old_size, old_root, new_size, path), new_root)


def root_from_consistency(old_size: int, old_root: bytes, new_size: int, path: Sequence[bytes]) -> bytes:
    """The new root that a consistency proof leads to from a known old one; the caller compares it with a signed one.

    Raises:
        Malformed: impossible sizes or path.
        Untrusted: the proof is not one about the old root.
    """
    _check_hashes([old_root, *path])
    if not 0 < old_size <= new_size:
        raise Malformed("proof.consistency", "the old size must be between 1 and the new size")
    if old_size == new_size:
        if path:
            raise Malformed("proof.consistency", "trees of one size have an empty proof")
        return old_root
    rest = list(path)
    if old_size & (old_size - 1) == 0:
        rest.insert(0, old_root)
    if not rest:
        raise Malformed("proof.consistency", "the path is too short")
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = rest[0]
    for sibling in rest[1:]:
        if last == 0:
            raise Malformed("proof.consistency", "the path is too long")
        if position & 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise Malformed("proof.consistency", "the path is too short")
    _same(old, old_root)
    return new


def _split(width: int) -> int:
    """Largest power of two smaller than width."""
    return 1 << ((width - 1).bit_length() - 1)


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if len(hashes) > MAX_PATH + 2 or any(len(h) != HASH_SIZE for h in hashes):
        raise Malformed("proof.hash", "hashes have 32 bytes, and a path at most 64 of them")


def _same(computed: bytes, given: bytes) -> None:
    if not hmac.compare_digest(computed, given):
        raise Untrusted("proof.consistency", "the proof does not lead to the given root")
