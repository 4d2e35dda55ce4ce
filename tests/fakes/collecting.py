"""From a collector to an item: statements share a tree, and each gets its own item, as the attestor does it."""

from __future__ import annotations

from rlu_attestation.merkle import Tree, leaf_hash
from rlu_server.attestor.collect.collector import Collector
from rlu_server.attestor.platform import BindingProof

BINDINGS = tuple(bytes([number]) * 32 for number in (0xB1, 0xB2, 0xB3))


def tree_of(bindings: tuple[bytes, ...] = BINDINGS) -> Tree:
    tree = Tree()
    for binding in bindings:
        tree.append(leaf_hash(binding))
    return tree


def items(collector: Collector, bindings: tuple[bytes, ...] = BINDINGS) -> list[bytes]:
    """One collection, one item for each binding."""
    tree = tree_of(bindings)
    evidence = collector.collect(tree.root())
    return [evidence(BindingProof.of(tree, index)) for index in range(tree.size)]
