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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What measures comes late: by then, the other process of `make test` has ended. Only the end-to-end tests come later."""
    items.sort(key=lambda item: item.path.parent.name == "benchmarks")


pytest_plugins = ["absent_inputs", "fixtures_cluster", "fixtures_tpm", "fixtures_models"]
