"""Settings of the gate, and what is read off the engines' arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlu_server.settings import SettingsError, load


@pytest.mark.parametrize(
    ("arguments", "further", "told"),
    [
        ([], None, False),
        (["--scheduling-policy", "priority"], None, True),
        (["--scheduling-policy=priority"], None, True),
        (["--scheduling-policy", "fcfs", "--seed", "priority"], None, False),
        (["--scheduling-policy", "priority"], [], False),
        (["--scheduling-policy", "priority"], ["--scheduling-policy=priority"], True),
    ],
)
def test_priorities_are_told_only_if_every_engine_takes_them(
    arguments: list[str], further: list[str] | None, told: bool
):
    overrides: dict[str, Any] = {"engine": {"arguments": arguments}}
    if further is not None:
        overrides["further_engines"] = [{"path": "/models/b", "arguments": further}]
    assert load(None, {}, overrides).engine_priorities is told


def test_the_limits_file_lies_in_the_state_directory_unless_it_is_named():
    assert load(None, {}, {"state_dir": "/s"}).limits_file == Path("/s/limits.toml")
    named = load(None, {"RLU_ADMISSION__LIMITS_FILE": "/etc/limits.toml"}, {})
    assert named.limits_file == Path("/etc/limits.toml")


@pytest.mark.parametrize(("key", "value"), [("batch_share", 0.0), ("queue_wait_s", 0), ("max_in_flight", -1)])
def test_nonsense_is_refused(key: str, value: float):
    with pytest.raises(SettingsError, match=key):
        load(None, {}, {"admission": {key: value}})
