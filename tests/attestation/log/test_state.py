"""An observer's state: what is written is read again, and a state that contradicts itself is not believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.log_operator import AT, Operator
from reference import merkle as reference
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.log.follow import follow
from rlu_attestation.log.frontier import Frontier
from rlu_attestation.log.gap import Gap
from rlu_attestation.log.state import MAX_EARLIER, MAX_STATE, State, parse


def state(size: int = 5) -> State:
    operator = Operator().grow(size)
    found = follow(None, operator.view(entries=True), AT, None).state
    assert found is not None
    return found


def test_a_state_comes_back() -> None:
    made = state()
    assert parse(made.encode()) == made


def test_heads_that_were_seen_are_kept_up_to_a_bound() -> None:
    operator = Operator().grow(1)
    current: State | None = None
    for _ in range(MAX_EARLIER + 5):
        current = follow(current, operator.grow(1).view(current), AT, None).state
        current = follow(current, operator.view(current), AT, None).state  # the same again adds nothing
    assert current is not None
    assert len(current.earlier) == MAX_EARLIER
    assert parse(current.encode()) == current


@pytest.mark.parametrize(
    "perturb",
    [
        lambda v: v.pop("head"),
        lambda v: v.update(extra=1),
        lambda v: v.update(rlu_audit="2"),
        lambda v: v.update(head="AAAA"),
        lambda v: v.update(head=b64u(Operator().grow(5).head())),
        lambda v: v.update(earlier=[b64u(Operator().grow(2).head())]),
        lambda v: v.update(earlier={}),
        lambda v: v.update(frontier=b64u(bytes(64))),
        lambda v: v.update(frontier=b64u(bytes(65))),
        lambda v: v.update(frontier=""),
        lambda v: v.update(past=[{"iss": "x"}]),
        lambda v: v.update(start_count=-1),
        lambda v: v.update(jwk={}),
    ],
)
def test_a_state_that_was_changed_refuses(perturb: Any) -> None:
    value = json.loads(state().encode())
    perturb(value)
    with pytest.raises(Malformed, match=r"audit\.state"):
        parse(json.dumps(value).encode())


@given(st.binary(max_size=100))
def test_arbitrary_bytes_raise_only_our_own(data: bytes) -> None:
    with pytest.raises(Malformed, match=r"audit\.state"):
        parse(data)


def test_a_state_is_bounded() -> None:
    with pytest.raises(Malformed, match="longer"):
        parse(b" " * (MAX_STATE + 1))


@given(st.integers(0, 70))
def test_the_frontier_is_the_tree(size: int) -> None:
    leaves = [reference.hash_leaf(bytes([n])) for n in range(size)]
    frontier = Frontier()
    frontier.extend(b"".join(leaves))
    assert frontier.root() == reference.root(leaves)
    again = Frontier(size, frontier.nodes)
    again.append(bytes(32))
    assert again.root() == reference.root([*leaves, bytes(32)])


@pytest.mark.parametrize(("size", "nodes"), [(1, []), (3, [bytes(32)]), (-1, []), (1, [bytes(31)])])
def test_a_frontier_fits_its_size(size: int, nodes: list[bytes]) -> None:
    with pytest.raises(Malformed, match=r"audit\.state"):
        Frontier(size, nodes)


def test_half_a_leaf_is_none() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Frontier().extend(bytes(33))


def test_a_gap_statement_comes_back() -> None:
    gap = Gap(Operator().issuer, AT, 3, 9, bytes(16))
    assert Gap.parse(gap.encode()) == gap
    with pytest.raises(Malformed, match=r"statement\.claims"):
        Gap.parse(Gap(gap.issuer, AT, 9, 9, bytes(16)).encode())


@given(st.binary(max_size=60))
def test_arbitrary_gap_statements_raise_only_our_own(data: bytes) -> None:
    with pytest.raises(RluError):
        Gap.parse(data)
