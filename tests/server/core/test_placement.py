"""Placement as a function: it stays, it is balanced, it spills, and it moves only what has to move."""

from __future__ import annotations

import hashlib
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rlu_server.core.placement import SLACK, place, ranked

keys = st.binary(min_size=1, max_size=64)
fleets = st.lists(st.text("abcdef0123456789", min_size=1, max_size=8), min_size=2, max_size=9, unique=True)


def conversation(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


@given(keys, fleets)
def test_a_conversation_stays_while_all_have_little_to_do(key: bytes, names: list[str]) -> None:
    idle = dict.fromkeys(names, 0)
    home = place(key, idle)
    assert home == ranked(key, names)[0]
    assert home == place(key, dict.fromkeys(reversed(names), SLACK - 1))


@given(keys, fleets, st.data())
def test_a_replica_that_goes_moves_only_its_own(key: bytes, names: list[str], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(names))
    before = ranked(key, names)
    after = ranked(key, [name for name in names if name != gone])
    assert after == [name for name in before if name != gone]


@given(
    keys,
    st.dictionaries(st.text("abc012", min_size=1, max_size=4), st.integers(0, 500), min_size=1, max_size=9),
)
def test_nobody_gets_much_more_than_its_share(key: bytes, loads: dict[str, int]) -> None:
    chosen = place(key, loads)
    assert chosen in loads
    if len(loads) > 1:
        mean = (sum(loads.values()) + 1) / len(loads)
        assert loads[chosen] < max(SLACK, 1.5 * mean + 1)
        # Who was passed over was passed over for a reason.
        for name in ranked(key, loads):
            if name == chosen:
                break
            assert loads[name] >= SLACK
            assert loads[name] >= 1.5 * mean


def test_conversations_are_spread() -> None:
    names = ["engine", "engine2", "engine3", "engine4"]
    homes = Counter(place(conversation(n), dict.fromkeys(names, 0)) for n in range(4000))
    assert set(homes) == set(names)
    assert max(homes.values()) < 1.15 * min(homes.values())


def test_a_busy_home_is_passed_over_for_the_conversations_second_choice() -> None:
    names = ["a", "b", "c"]
    first, second, _ = ranked(b"k", names)
    assert place(b"k", {**dict.fromkeys(names, 0), first: SLACK - 1}) == first
    assert place(b"k", {**dict.fromkeys(names, 0), first: SLACK}) == second
    assert place(b"k", dict.fromkeys(names, 100)) == first, "equally busy is no reason to move"


def test_a_thousand_at_once_of_one_conversation_do_not_queue_at_one_replica() -> None:
    loads = dict.fromkeys(("a", "b", "c", "d"), 0)
    for _ in range(1000):
        loads[place(b"one", loads)] += 1
    assert max(loads.values()) <= 1.5 * 1001 / 4 + 1
    assert sum(load > 200 for load in loads.values()) >= 3
