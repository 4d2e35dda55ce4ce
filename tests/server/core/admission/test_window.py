"""The window, and a small engine whose real capacity it has to find."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlu_server.core.admission.window import INITIAL, MAX, Load, Window


def test_it_grows_only_while_somebody_waits_here():
    window = Window(None, 8)
    window.observe(Load(INITIAL, 0, 0.1), queued=0, given=40)
    assert window.size == INITIAL
    window.observe(Load(INITIAL, 3, 0.1), queued=5, given=40)
    assert window.size == INITIAL
    window.observe(Load(INITIAL, 0, 0.1), queued=5, given=40)
    assert window.size == 2 * INITIAL


def test_gauges_that_have_not_seen_the_last_burst_do_not_count_as_room():
    window = Window(None, 8)
    window.observe(Load(0, 0, 0.0), queued=9, given=INITIAL)
    assert window.size == INITIAL
    window.observe(Load(INITIAL // 2, 0, 0.0), queued=9, given=INITIAL)
    assert window.size == 2 * INITIAL


def test_it_falls_to_what_the_engine_runs():
    window = Window(None, 8)
    window.observe(Load(40, 100, 0.5), queued=0, given=40)
    assert window.size == 48


def test_a_full_cache_leaves_no_backlog_and_no_growth():
    window = Window(None, 8)
    window.observe(Load(40, 1, 0.99), queued=9, given=40)
    assert window.size == 40
    window.observe(Load(40, 0, 0.99), queued=9, given=40)
    assert window.size == 40
    window.observe(Load(40, 0, 0.5), queued=9, given=40)
    assert window.size == 80


def test_the_operator_s_bound_holds():
    window = Window(2, 8)
    assert window.size == 2
    window.observe(Load(2, 0, 0.0), queued=9, given=40)
    assert window.size == 2
    window.unknown()
    assert window.size == 2


def test_an_engine_that_says_nothing_is_not_bounded():
    window = Window(None, 8)
    window.unknown()
    assert window.size == MAX


def test_an_engine_that_runs_nothing_yet_gets_something():
    window = Window(None, 8)
    window.observe(Load(0, 500, 1.0), queued=0, given=40)
    assert window.size == 1


@given(st.integers(1, 3000), st.integers(0, 64))
def test_it_finds_what_the_engine_can_run(capacity: int, backlog: int):
    """With endless demand and one look a step, the engine is soon kept busy, and its own line stays short."""
    window = Window(None, backlog)
    at_engine = 0
    for step in range(300):
        at_engine = max(at_engine - max(capacity // 10, 1), 0)  # some finish
        at_engine = max(at_engine, min(window.size, MAX))
        running = min(at_engine, capacity)
        waiting = at_engine - running
        if step > 280:
            assert running >= min(capacity, INITIAL // 2) * 0.5
            assert waiting <= capacity + backlog
        window.observe(Load(running, waiting, 0.5), queued=10, given=at_engine)
