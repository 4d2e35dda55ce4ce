from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_server.adapters.measures import Measures
from rlu_server.workers.counts import Counted, add


@dataclass(slots=True)
class Spread:
    buckets: list[int] = field(default_factory=lambda: [0, 0, 0])
    sum: float = 0.0


@dataclass(slots=True)
class Counters:
    total: int = 0
    time: float = 0.0
    spread: Spread = field(default_factory=Spread)
    routes: Counter[tuple[str, int]] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    lists: dict[str, list[int]] = field(default_factory=dict)
    spreads: defaultdict[tuple[str, str], Spread] = field(default_factory=lambda: defaultdict(Spread))


steps = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(1, 5)), max_size=12)


def count(counters: Counters, what: int, which: int, much: int) -> None:
    if what == 0:
        counters.total += much
        counters.time += much / 4
    elif what == 1:
        counters.spread.buckets[which] += much
    elif what == 2:
        counters.routes["/v1/x", 200 + which] += much
    elif what == 3:
        counters.codes["abc"[which]] += much
    elif what == 4:
        counters.lists.setdefault("abc"[which], [0, 0])[0] += much
    else:
        spread = counters.spreads["abc"[which], "x"]
        spread.buckets[which] += much
        spread.sum += much / 4


@given(st.lists(st.lists(steps, min_size=1, max_size=4), min_size=1, max_size=3))
def test_what_processes_tell_in_parts_adds_up_to_what_they_counted(
    told: list[list[list[tuple[int, int, int]]]],
):
    hub, alone = Counters(), Counters()
    for parts in told:
        worker = Counters()
        counted = Counted(worker)
        for part in parts:
            for step in part:
                count(worker, *step)
                count(alone, *step)
            add(hub, msgspec.msgpack.decode(msgspec.msgpack.encode(counted.since())))
        assert counted.since() == {}
    assert hub == alone


def test_the_gateways_own_counters_are_of_this_form():
    worker, hub = Measures(), Measures()
    counted = Counted(worker)
    worker.requests["/v1/x", 200] += 2
    worker.input_tokens += 7
    add(hub, msgspec.msgpack.decode(msgspec.msgpack.encode(counted.since())))
    assert hub == worker


def test_counters_of_a_new_name_that_nobody_can_make_are_an_error():
    @dataclass
    class Plain:
        spreads: dict[str, Spread] = field(default_factory=dict)

    with pytest.raises(TypeError):
        add(Plain(), {"spreads": [["a", {"sum": 1.0}]]})
