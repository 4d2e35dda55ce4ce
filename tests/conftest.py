"""Fixtures that every room's tests share. The costly ones are made once a run, and only when a test asks."""

from __future__ import annotations

pytest_plugins = ["absent_inputs", "fixtures_tpm", "fixtures_models"]
