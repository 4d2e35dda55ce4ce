"""Fixtures that every room's tests share. The costly ones are made once a run, and only when a test asks."""

from __future__ import annotations

import hypothesis
import pytest

# Before anything imports them: a failing assertion there is explained like one in a test.
pytest.register_assert_rewrite("e2e")

# How long an example takes, or its making, says how busy the machine is, not whether the code is right. And a commit is right or it is
# not: the examples are the same in every run of it. What nobody thought of is looked for by `make fuzz`.
hypothesis.settings.register_profile(
    "rlu", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("rlu")

pytest_plugins = ["absent_inputs", "fixtures_cluster", "fixtures_tpm", "fixtures_models"]
