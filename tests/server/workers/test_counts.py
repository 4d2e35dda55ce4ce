from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from rlu_server.adapters.measures import Measures
from rlu_server.workers.counts import Counted, add

steps = st.lists(
    st.tuples(st.sampled_from(["route", "status", "total", "time"]), st.integers(0, 3), st.integers(1, 5)),
    max_size=12,
)


def count(measures: Measures, what: str, which: int, much: int) -> None:
    if what == "route":
        measures.requests["/v1/x", 200 + which] += much
    elif what == "status":
        measures.receipts["abc"[min(which, 2)]] += much
    elif what == "total":
        measures.input_tokens += much
    else:
        measures.took_to_first_byte(10.0**-which * much)


@given(st.lists(steps, min_size=1, max_size=4), st.lists(steps, min_size=1, max_size=4))
def test_what_two_processes_tell_in_parts_adds_up_to_what_they_counted(
    one: list[list[tuple[str, int, int]]], other: list[list[tuple[str, int, int]]]
):
    hub, alone = Measures(), Measures()
    for parts in (one, other):
        worker = Measures()
        counted = Counted(worker)
        for part in parts:
            for step in part:
                count(worker, *step)
                count(alone, *step)
            add(hub, msgspec.msgpack.decode(msgspec.msgpack.encode(counted.since())))
        assert counted.since() == {}
    assert (hub.requests, hub.receipts, hub.input_tokens, hub.first_byte) == (
        alone.requests,
        alone.receipts,
        alone.input_tokens,
        alone.first_byte,
    )
    assert abs(hub.first_byte_sum_s - alone.first_byte_sum_s) < 1e-6
