from __future__ import annotations

import pytest

from rlu_server.attestor.messages import Posture
from rlu_server.lock import rlu_lock
from rlu_server.workers.postures import DIFFERS, PROTECTS, worst


@pytest.mark.parametrize(
    ("name", "one", "other", "stated"),
    [
        ("read_outside", False, True, True),
        ("read_outside", False, False, False),
        ("call_filter", True, False, False),
        ("dies_with_parent", True, True, True),
        ("inherited_files", 0, 2, 2),
        ("core_limit", 0, 1, DIFFERS),
        ("core_limit", 1, 1, 1),
        ("network", "host", "none", DIFFERS),
        ("network", "none", "none", "none"),
        ("memory_locked", True, 1, DIFFERS),
    ],
)
def test_of_each_value_the_worst(
    name: str, one: bool | int | str, other: bool | int | str, stated: bool | int | str
):
    assert worst([{name: one}, {name: other}]) == worst([{name: other}, {name: one}]) == {name: stated}


def test_a_value_that_one_did_not_measure_differs():
    assert worst([{"a": True, "b": "x"}, {"b": "x"}]) == {"a": DIFFERS, "b": "x"}


def test_every_protection_that_the_lock_measures_is_known():
    unlocked: Posture = rlu_lock.probe()
    assert set(unlocked) >= PROTECTS
