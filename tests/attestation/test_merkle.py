"""The tree against the naive reference, for any size and any perturbation that hypothesis finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import merkle as naive
from rlu_attestation import merkle
from rlu_attestation.errors import Malformed, RluError, Untrusted

LEAVES = [naive.hash_leaf(bytes([n])) for n in range(130)]
TREE = merkle.Tree()
for _leaf in LEAVES:
    TREE.append(_leaf)

sizes = st.integers(1, len(LEAVES))


@given(sizes, st.data())
def test_paths_are_those_of_the_definition(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))
    assert TREE.root(size) == naive.root(LEAVES[:size])
    assert TREE.inclusion_path(index, size) == naive.path(index, LEAVES[:size])
    assert TREE.consistency_path(old, size) == naive.proof(old, LEAVES[:size])


hashes = st.sampled_from([*LEAVES[:5], bytes(32)]) | st.binary(min_size=32, max_size=32)


def perturbed(path: list[bytes], data: st.DataObject) -> list[bytes]:
    path = list(path)
    for _ in range(data.draw(st.integers(0, 2))):
        place = data.draw(st.integers(0, len(path)))
        match data.draw(st.sampled_from(["insert", "remove", "replace", "swap"])):
            case "insert":
                path.insert(place, data.draw(hashes))
            case "remove" if path:
                path.pop(place % len(path))
            case "replace" if path:
                path[place % len(path)] = data.draw(hashes)
            case "swap" if path:
                path[0], path[place % len(path)] = path[place % len(path)], path[0]
    return path


@given(sizes, st.data())
def test_inclusion_agrees_with_the_reference(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    path = perturbed(TREE.inclusion_path(index, size), data)
    claimed, given_index = data.draw(st.integers(0, len(LEAVES))), data.draw(st.integers(-1, len(LEAVES)))
    size, index = (
        data.draw(st.sampled_from([size, claimed])),
        data.draw(st.sampled_from([index, given_index])),
    )
    root = TREE.root(data.draw(sizes))
    try:
        found = merkle.root_from_inclusion(LEAVES[3], index, size, path) == root
    except Malformed:
        found = False
    assert found is naive.includes(LEAVES[3], index, size, path, root)


@given(sizes, st.data())
def test_consistency_agrees_with_the_reference(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size))
    path = perturbed(TREE.consistency_path(old, size), data)
    roots = [TREE.root(data.draw(st.sampled_from([n, data.draw(sizes)]))) for n in (old, size)]
    old = data.draw(st.sampled_from([old, data.draw(st.integers(0, len(LEAVES)))]))
    try:
        merkle.verify_consistency(old, roots[0], size, roots[1], path)
    except (Malformed, Untrusted):
        found = False
    else:
        found = True
    assert found is naive.extends(old, roots[0], size, roots[1], path)


def test_leaves_can_be_dropped_again() -> None:
    tree = merkle.Tree()
    for leaf in LEAVES[:70]:
        tree.append(leaf)
    for size in (69, 64, 63, 33, 1, 0):
        tree.truncate(size)
        assert tree.size == size
        assert tree.root() == naive.root(LEAVES[:size])
    for leaf in LEAVES[:5]:
        tree.append(leaf)
    assert tree.root() == naive.root(LEAVES[:5])


@pytest.mark.parametrize("misuse", ["append", "leaf", "root", "path", "consistency", "truncate"])
def test_misuse_is_a_value_error(misuse: str) -> None:
    tree = merkle.Tree()
    tree.append(LEAVES[0])
    with pytest.raises(ValueError):
        {
            "append": lambda: tree.append(b"short"),
            "leaf": lambda: tree.leaf(1),
            "root": lambda: tree.root(2),
            "path": lambda: tree.inclusion_path(1),
            "consistency": lambda: tree.consistency_path(2),
            "truncate": lambda: tree.truncate(2),
        }[misuse]()


@given(st.lists(st.binary(max_size=40), max_size=70), st.binary(max_size=40), st.integers(), st.integers())
def test_arbitrary_paths_raise_nothing_else(path: list[bytes], leaf: bytes, index: int, size: int) -> None:
    for check in (
        lambda: merkle.root_from_inclusion(leaf, index, size, path),
        lambda: merkle.verify_consistency(index, leaf, size, leaf, path),
    ):
        try:
            check()
        except RluError:
            continue
