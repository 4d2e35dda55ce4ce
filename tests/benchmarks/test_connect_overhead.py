"""The overhead benchmark, short: three ways to ask, every kind of request, and a table."""

from __future__ import annotations

import os

import connect_overhead


def test_the_three_ways_are_measured() -> None:
    before = os.sched_getaffinity(0)
    try:
        result = connect_overhead.run(rounds=1, requests=3)
    finally:
        os.sched_setaffinity(0, before)
    assert list(result) == [case.name for case in connect_overhead.CASES]
    for row in result.values():
        assert list(row) == ["direct", "transport", "proxy"]
        assert all(0 < one["first_ms"] <= one["total_ms"] for one in row.values())
    table = connect_overhead.table(result)
    assert table.count("×") == 2 * len(result)
