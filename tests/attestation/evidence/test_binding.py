"""The binding member that evidence items share."""

from __future__ import annotations

from typing import Any

import pytest

from rlu_attestation import merkle
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed
from rlu_attestation.evidence.binding import SINGLE, BindingPath, parse_binding

NODE = b64u(bytes(32))


def test_a_single_statement() -> None:
    assert SINGLE.root(b"b" * 32) == merkle.leaf_hash(b"b" * 32)
    assert parse_binding(SINGLE.to_json(), "code") == SINGLE


def test_written_as_it_is_read() -> None:
    tree = merkle.Tree()
    for n in range(6):
        tree.append(merkle.leaf_hash(bytes([n]) * 32))
    for n in range(6):
        found = BindingPath(n, tuple(tree.inclusion_path(n)), 6)
        assert parse_binding(found.to_json(), "code") == found
        assert found.root(bytes([n]) * 32) == tree.root()
        assert found.root(bytes([n + 1]) * 32) != tree.root()


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"leaf_index": 0, "path": []},
        {"leaf_index": 0, "path": [], "tree_size": 1, "x": 0},
        {"leaf_index": -1, "path": [], "tree_size": 1},
        {"leaf_index": 1, "path": [], "tree_size": 1},
        {"leaf_index": 0, "path": [], "tree_size": 0},
        {"leaf_index": False, "path": [], "tree_size": 1},
        {"leaf_index": 0, "path": [], "tree_size": True},
        {"leaf_index": 0, "path": [], "tree_size": "1"},
        {"leaf_index": 0, "path": {}, "tree_size": 2},
        {"leaf_index": 0, "path": NODE, "tree_size": 2},
        {"leaf_index": 0, "path": [NODE] * 65, "tree_size": 2},
        {"leaf_index": 0, "path": ["AA"], "tree_size": 2},
    ],
)
def test_other_forms_refuse(value: Any) -> None:
    with pytest.raises(Malformed) as refused:
        parse_binding(value, "code")
    assert refused.value.code == "code"


def test_the_longest_path() -> None:
    found = parse_binding({"leaf_index": 0, "path": [NODE] * 64, "tree_size": 2**53 - 1}, "code")
    assert len(found.path) == 64


@pytest.mark.parametrize("node", [7, None, "=", NODE + "="])
def test_nodes_are_base64url(node: Any) -> None:
    with pytest.raises(Malformed) as refused:
        parse_binding({"leaf_index": 0, "path": [node], "tree_size": 2}, "code")
    assert refused.value.code == "encoding.base64url"


@pytest.mark.parametrize("found", [BindingPath(0, (), 2), BindingPath(0, (bytes(32),), 1)])
def test_a_path_that_does_not_fit_its_tree_refuses(found: BindingPath) -> None:
    with pytest.raises(Malformed) as refused:
        found.root(bytes(32))
    assert refused.value.code == "proof.inclusion"
