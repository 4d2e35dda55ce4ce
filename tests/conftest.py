"""Fixtures that every room's tests share. The costly ones are made once a run, and only when a test asks."""

from __future__ import annotations

import pytest

# Before anything imports them: a failing assertion there is explained like one in a test.
pytest.register_assert_rewrite("e2e")

pytest_plugins = ["absent_inputs", "fixtures_tpm", "fixtures_models"]
