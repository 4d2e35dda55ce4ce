"""How an evidence item binds an instance statement: the root of a tree over the bindings of all that share it (FORMATS section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed
from rlu_attestation.merkle import HASH_SIZE, MAX_PATH, leaf_hash, root_from_inclusion

_KEYS = frozenset({"leaf_index", "path", "tree_size"})


@dataclass(frozen=True, slots=True)
class BindingPath:
    """Where this statement's binding sits in the tree whose root the hardware signed."""

    leaf_index: int
    path: tuple[bytes, ...]
    tree_size: int

    def root(self, binding: bytes) -> bytes:
        """The 32-byte root that a statement's binding leads to.

        Raises:
            Malformed: the path does not fit the tree (`proof.inclusion`, `proof.hash`).
        """
        return root_from_inclusion(leaf_hash(binding), self.leaf_index, self.tree_size, self.path)

    def to_json(self) -> dict[str, object]:
        """The `binding` member of an evidence item."""
        path: Sequence[str] = [b64u(node) for node in self.path]
        return {"leaf_index": self.leaf_index, "path": list(path), "tree_size": self.tree_size}


SINGLE = BindingPath(0, (), 1)
"""Of a statement that shares its evidence with no other."""


def parse_binding(value: object, code: str) -> BindingPath:
    """Read the `binding` member of an evidence item.

    Args:
        value: what the JSON holds.
        code: stable code of every refusal of the item's form.

    Raises:
        Malformed: `code`, or `encoding.base64url`.
    """
    if not isinstance(value, dict) or value.keys() != _KEYS:
        raise Malformed(code, "binding must have exactly the keys leaf_index, path, tree_size")
    index, size, nodes = value["leaf_index"], value["tree_size"], value["path"]
    if type(index) is not int or type(size) is not int or not 0 <= index < size:
        raise Malformed(code, "leaf_index must lie inside tree_size")
    if not isinstance(nodes, list) or len(nodes) > MAX_PATH:
        raise Malformed(code, f"a path is an array of at most {MAX_PATH}")
    path = tuple(unb64u(node) for node in nodes)
    if any(len(node) != HASH_SIZE for node in path):
        raise Malformed(code, f"the nodes of a path have {HASH_SIZE} bytes")
    return BindingPath(index, path, size)
