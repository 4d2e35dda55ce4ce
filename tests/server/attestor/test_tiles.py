"""The tree with its lower levels on disk, against the one in memory: the same roots and proofs, and no belief in files that changed."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlu_attestation.merkle import Tree
from rlu_server.attestor.errors import LogCorrupt
from rlu_server.attestor.tiles import META_SIZE, TILE, Meta, TiledTree, bucket


def leaf(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(4, "big")).digest()


def meta(number: int) -> Meta:
    return Meta("receipt", 1_800_000_000 + number, "complete", (number % 256, 1, 0))


def grown(directory: Path, *steps: int) -> TiledTree:
    """A tree that was sealed after each step."""
    tree = TiledTree()
    for step in steps:
        for _ in range(step):
            tree.put(leaf(tree.size), meta(tree.size))
        sealing = tree.sealing()
        sealing.write(directory)
        tree.seal(sealing, directory)
    return tree


def plain(size: int) -> Tree:
    tree = Tree()
    for number in range(size):
        tree.append(leaf(number))
    return tree


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(st.integers(0, 700), min_size=1, max_size=4), more=st.integers(0, 300), data=st.data())
def test_it_is_the_tree_in_memory(tmp_path: Path, steps: list[int], more: int, data: st.DataObject) -> None:
    tree = grown(tmp_path, *steps)
    sealed = tree.size
    for again in (tree, TiledTree(tmp_path, sealed) if sealed else TiledTree()):
        for _ in range(more):
            again.put(leaf(again.size), meta(again.size))
        expected = plain(again.size)
        assert again.root() == expected.root()
        size = data.draw(st.integers(0, again.size))
        assert again.root(size) == expected.root(size)
        if size:
            index = data.draw(st.integers(0, size - 1))
            assert again.leaf(index) == leaf(index)
            assert again.inclusion_path(index, size) == expected.inclusion_path(index, size)
            assert again.consistency_path(size) == expected.consistency_path(size)
            assert again.metas(index, size) == [meta(n) for n in range(index, size)]
            assert again.leaves(index, size) == b"".join(leaf(n) for n in range(index, size))


def test_only_what_is_not_sealed_is_forgotten(tmp_path: Path) -> None:
    tree = grown(tmp_path, 300)
    tree.put(leaf(300), meta(300))
    tree.truncate(300)
    assert (tree.size, tree.root()) == (300, plain(300).root())
    assert len(tree.metas(0, 300)) == 300
    tree.truncate(TILE)  # complete tiles only are out of reach
    with pytest.raises(ValueError, match="sealed"):
        tree.truncate(TILE - 1)


def test_memory_holds_the_tiles_roots_only(tmp_path: Path) -> None:
    tree = grown(tmp_path, 10 * TILE)
    assert sum(map(len, tree._levels)) < 10 * 64 + 64
    assert tree._metas == b""


@pytest.mark.parametrize("name", ["leaves.bin", "roots.bin"])
def test_files_that_were_changed_are_not_believed(tmp_path: Path, name: str) -> None:
    grown(tmp_path, 3 * TILE)
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    tree = TiledTree(tmp_path, 3 * TILE)
    with pytest.raises(LogCorrupt, match=r"log\.damaged"):
        tree.inclusion_path(5 if name == "leaves.bin" else TILE + 5)
    assert (tree.root() == plain(3 * TILE).root()) == (name == "leaves.bin")


@pytest.mark.parametrize("name", ["leaves.bin", "roots.bin", "meta.bin"])
@pytest.mark.parametrize("cut", [1, None])
def test_files_that_are_too_short_or_gone_refuse(tmp_path: Path, name: str, cut: int | None) -> None:
    grown(tmp_path, 3 * TILE + 5)
    path = tmp_path / name
    if cut is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(LogCorrupt, match=r"log\.damaged"):
        TiledTree(tmp_path, 3 * TILE + 5).metas(0, 1)


def test_what_an_unfinished_sealing_left_is_written_over(tmp_path: Path) -> None:
    tree = grown(tmp_path, 300)
    for _ in range(400):
        tree.put(leaf(tree.size + 9), meta(0))
    tree.sealing().write(tmp_path)  # and then it crashed
    again = TiledTree(tmp_path, 300)
    for _ in range(400):
        again.put(leaf(again.size), meta(again.size))
    sealing = again.sealing()
    sealing.write(tmp_path)
    again.seal(sealing, tmp_path)
    assert TiledTree(tmp_path, 700).root() == plain(700).root()


@given(
    st.sampled_from(["session", "receipt", "close", "gap", "tally"]),
    st.integers(0, 2**40 - 1),
    st.sampled_from(["", "complete", "partial", "aborted", "failed"]),
    st.tuples(*[st.integers(0, 255)] * 3),
    st.integers(0, 2**48 - 1),
)
def test_what_is_kept_beside_a_leaf_comes_back(
    kind: str, iat: int, status: str, usage: tuple[int, int, int], first: int
) -> None:
    made = Meta(kind, iat, status, usage, first)
    assert len(made.encode()) == META_SIZE
    assert Meta.decode(made.encode()) == made


@given(st.binary(max_size=20))
def test_other_bytes_raise_only_our_own(data: bytes) -> None:
    with contextlib.suppress(LogCorrupt):
        assert Meta.decode(data).encode() == data


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(0, 0), (1, 1), (256, 1), (257, 2), (512, 2), (513, 3), (1024, 3), (1025, 4), (2**53, 46)],
)
def test_buckets(tokens: int, expected: int) -> None:
    assert bucket(tokens) == expected
