"""Buckets, against arithmetic done by hand and against a plain integral of what passed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_server.core.limits.bucket import MAX_DEBT_MINUTES, Bucket


def test_a_minute_s_worth_at_once_and_then_as_it_fills():
    bucket = Bucket(60, 100.0)
    assert bucket.wait_s(60, 100.0) == 0
    bucket.take(60, 100.0)
    assert bucket.wait_s(1, 100.0) == pytest.approx(1.0)
    assert bucket.wait_s(30, 110.0) == pytest.approx(20.0)
    assert bucket.full_in_s(110.0) == pytest.approx(50.0)
    assert bucket.level(1000.0) == 60


def test_more_than_a_minute_s_worth_needs_a_full_bucket():
    bucket = Bucket(60, 0.0)
    assert bucket.wait_s(1000, 0.0) == 0
    bucket.take(1, 0.0)
    assert bucket.wait_s(1000, 0.0) == pytest.approx(1.0)


def test_debts_are_paid_and_bounded():
    bucket = Bucket(60, 0.0)
    bucket.take(100, 0.0)
    assert bucket.wait_s(1, 0.0) == pytest.approx(41.0)
    bucket.take(10**9, 0.0)
    assert bucket.wait_s(1, 0.0) == pytest.approx(MAX_DEBT_MINUTES * 60 + 1)


def test_what_is_given_back_does_not_overflow():
    bucket = Bucket(60, 0.0)
    bucket.take(-5, 0.0)
    assert bucket.level(0.0) == 60


def test_another_limit_keeps_what_was_used():
    bucket = Bucket(60, 0.0)
    bucket.take(50, 0.0)
    bucket.resize(100, 0.0)
    assert bucket.level(0.0) == 50
    bucket.resize(20, 0.0)
    assert bucket.level(0.0) == -30


@given(
    st.integers(1, 10_000),
    st.lists(st.tuples(st.floats(0, 50), st.integers(1, 200)), max_size=60),
)
def test_never_more_than_the_limit_and_a_minute_s_worth(limit: int, tries: list[tuple[float, int]]):
    bucket, now, passed = Bucket(limit, 0.0), 0.0, 0
    for pause, amount in tries:
        now += pause
        if amount <= limit and not bucket.wait_s(amount, now):
            bucket.take(amount, now)
            passed += amount
        assert passed <= limit * (1 + now / 60) + 1e-3


@given(st.integers(1, 1000), st.integers(1, 2000), st.integers(1, 2000))
def test_waiting_as_told_is_enough(limit: int, taken: int, wanted: int):
    bucket = Bucket(limit, 0.0)
    bucket.take(taken, 0.0)
    wait = bucket.wait_s(wanted, 0.0)
    if wait > 0.01:
        assert bucket.wait_s(wanted, wait * 0.99 - 0.001) > 0
    assert bucket.wait_s(wanted, wait) == 0
