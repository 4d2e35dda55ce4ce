"""Two observers of one log find out whether they were shown one history."""

from __future__ import annotations

import pytest

from fakes.log_operator import AT, Operator, known
from rlu_attestation.log.comparing import compare, compared
from rlu_attestation.log.follow import follow
from rlu_attestation.log.state import State


def observers(fork_at: int, first: int, second: int) -> tuple[Operator, State, Operator, State]:
    """Two observers with separate states; from `fork_at` on, each is shown a history of its own."""
    honest = Operator().grow(fork_at)
    one = honest.fork(fork_at).grow(first, "for one")
    two = honest.fork(fork_at).grow(second, "for the other")
    return one, known(one), two, known(two)


@pytest.mark.parametrize(("first", "second"), [(3, 3), (3, 6), (6, 3), (1, 8)])
def test_two_observers_find_a_split_view_whatever_the_operator_answers(first: int, second: int) -> None:
    one, mine, two, other = observers(8, first, second)
    # Each follows a log without a flaw.
    assert follow(mine, one.grow(1).view(mine), AT, None).findings == ()
    pair = compared(mine, other)
    assert pair is not None
    small, large = sorted((mine.latest.tree_size, other.latest.tree_size))
    assert (pair[0].tree_size, pair[1].tree_size) == (small, large)
    answers = [None]
    answers += [o.tree.consistency_path(small, large) for o in (one, two) if o.tree.size >= large]
    for path in answers:
        found = compare(mine, other, path)
        assert found is not None
        assert found.code == ("log.unproven" if path is None and small != large else "log.split_view")
        assert other.head in found.evidence


def test_two_observers_of_one_log_agree() -> None:
    operator = Operator().grow(8)
    early = known(operator)
    later = known(operator.grow(5))
    path = operator.tree.consistency_path(8, 13)
    assert compare(later, early, path) is None
    assert compare(early, later, path) is None
    assert compare(early, early, None) is None
    assert compare(later, known(Operator(operator.key)), None) is None  # nothing was in the log yet
    for bad in (path[:-1], [*path, bytes(32)], [bytes(31)]):
        found = compare(later, early, bad)
        assert found is not None
        assert found.code in ("log.unproven", "log.split_view")


def test_observers_of_other_instances() -> None:
    old = Operator().grow(8)
    early = known(old)
    old.grow(5)
    final = known(old)
    new = Operator().grow(2)
    view = new.view(claims=new.claims(predecessor=old.final()), handover=old.proof(8))
    state = follow(early, view, AT, None).state
    assert state is not None
    assert compare(state, final, None) is None
    assert compare(state, early, old.tree.consistency_path(8, 13)) is None
    fork = known(old.fork(5).grow(8, "other"))
    found = compare(state, fork, None)
    assert found is not None
    assert found.code == "log.split_view"
    stranger = compare(state, known(Operator().grow(3)), None)
    assert stranger is not None
    assert stranger.code == "log.split_view"
