"""The right edge of a log's tree: enough to add leaves and compute roots, and nothing more (at most 64 hashes).

These are the roots of the complete subtrees that make up the tree, largest first: as many as the size has one bits.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlu_attestation.errors import Malformed
from rlu_attestation.merkle import EMPTY_ROOT, HASH_SIZE, node_hash


class Frontier:
    """A tree that only grows.

    Args:
        size: how many leaves it has.
        nodes: roots of its complete subtrees, largest first.

    Raises:
        Malformed: `audit.state`: there are not as many nodes as a tree of that size has.
    """

    def __init__(self, size: int = 0, nodes: Sequence[bytes] = ()) -> None:
        if size < 0 or len(nodes) != size.bit_count() or any(len(n) != HASH_SIZE for n in nodes):
            raise Malformed("audit.state", "the frontier is not that of a tree of this size")
        self.size = size
        self._nodes = list(nodes)

    @property
    def nodes(self) -> tuple[bytes, ...]:
        return tuple(self._nodes)

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash."""
        node, position = leaf, self.size
        while position & 1:
            node = node_hash(self._nodes.pop(), node)
            position >>= 1
        self._nodes.append(node)
        self.size += 1

    def extend(self, leaves: bytes) -> None:
        """Add leaf hashes, 32 bytes each."""
        if len(leaves) % HASH_SIZE:
            raise ValueError("leaf hashes have 32 bytes")
        for at in range(0, len(leaves), HASH_SIZE):
            self.append(leaves[at : at + HASH_SIZE])

    def root(self) -> bytes:
        """Root over all leaves."""
        if not self._nodes:
            return EMPTY_ROOT
        node = self._nodes[-1]
        for left in reversed(self._nodes[:-1]):
            node = node_hash(left, node)
        return node
