"""When a licence is in force, second by second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.vendor import AT, DAY, Vendor
from rlu_server.licence.document import Answer
from rlu_server.licence.standing import AHEAD_S, judge

LICENCE = Vendor().licence()
END, REFUSES = LICENCE.expires_at, LICENCE.expires_at + LICENCE.grace_s
WITHDRAWN = Answer(LICENCE.id, "withdrawn", AT + 10 * DAY, bytes(32))


@pytest.mark.parametrize(
    ("at", "state", "refusal"),
    [
        (0, "not_yet", "licence_not_yet"),
        (AT - AHEAD_S - 1, "not_yet", "licence_not_yet"),
        (AT - AHEAD_S, "valid", None),
        (END - 1, "valid", None),
        (END, "grace", None),
        (REFUSES - 1, "grace", None),
        (REFUSES, "expired", "licence_expired"),
        (REFUSES + 10_000 * DAY, "expired", "licence_expired"),
    ],
)
def test_states(at: int, state: str, refusal: str | None) -> None:
    found = judge(LICENCE, None, at)
    assert (found.state, found.refusal, found.ends_at, found.refuses_at) == (state, refusal, END, REFUSES)


@pytest.mark.parametrize(
    ("left", "warning"),
    [
        (30 * DAY + 1, None),
        (30 * DAY, 30),
        (14 * DAY + 1, 30),
        (14 * DAY, 14),
        (7 * DAY, 7),
        (DAY + 1, 7),
        (DAY, 1),
        (1, 1),
        (0, None),
        (-1, None),
    ],
)
def test_warnings(left: int, warning: int | None) -> None:
    assert judge(LICENCE, None, END - left).warning == warning


def test_without_grace() -> None:
    licence = Vendor().licence(grace_s=0)
    assert judge(licence, None, END - 1).state == "valid"
    assert judge(licence, None, END).state == "expired"


def test_withdrawn() -> None:
    """It ends then, and the grace period begins."""
    at = WITHDRAWN.issued_at
    assert judge(LICENCE, WITHDRAWN, at - 1).state == "valid"
    assert judge(LICENCE, WITHDRAWN, at).state == "grace"
    assert judge(LICENCE, WITHDRAWN, at + LICENCE.grace_s).refusal == "licence_expired"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(LICENCE.id, "good", AT, bytes(32)),
        Answer("another", "withdrawn", AT, bytes(32)),
        Answer(LICENCE.id, "withdrawn", END + 1, bytes(32)),
    ],
)
def test_answers_that_change_nothing(answer: Answer) -> None:
    for at in (AT, END - 1, END, REFUSES):
        assert judge(LICENCE, answer, at) == judge(LICENCE, None, at)


@given(st.integers(AT, REFUSES + DAY), st.integers(0, 200 * DAY), st.booleans())
def test_time_never_brings_a_licence_back(at: int, later: int, withdrawn: bool) -> None:
    answer = WITHDRAWN if withdrawn else None
    order = ("valid", "grace", "expired")
    first, second = judge(LICENCE, answer, at), judge(LICENCE, answer, at + later)
    assert order.index(first.state) <= order.index(second.state)
