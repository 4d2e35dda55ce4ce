"""The chart, rendered by Helm's own engine. What was rendered once is kept for the run: a rendering takes about a second."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from absent_inputs import absent

ROOT = Path(__file__).resolve().parents[2]
Render = Callable[..., Any]


def module(name: str, folder: Path) -> ModuleType:
    """A file as a module: neither scripts/ nor this folder is a package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


shapes = module("configurations", Path(__file__).parent)


def merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm merges values: maps key by key, all else replaced."""
    result = copy.deepcopy(base)
    for key, value in changes.items():
        inner = result.get(key)
        both = isinstance(value, Mapping) and isinstance(inner, dict)
        result[key] = merged(inner, value) if both else copy.deepcopy(value)
    return result


@pytest.fixture(scope="session")
def charts() -> ModuleType:
    """scripts/render_chart.py, with the module beside it that it imports."""
    module("discovery_server", ROOT / "scripts")
    return module("render_chart", ROOT / "scripts")


@pytest.fixture(scope="session")
def readme() -> ModuleType:
    """scripts/chart_readme.py."""
    return module("chart_readme", ROOT / "scripts")


@pytest.fixture(scope="session")
def object_checks() -> ModuleType:
    """tests/helm/test_objects.py, whose checks hold for every rendering."""
    return module("test_objects", Path(__file__).parent)


@pytest.fixture(scope="session")
def preset_values(charts: ModuleType) -> dict[str, dict[str, Any]]:
    return {name: yaml.safe_load(path.read_text("utf-8")) for name, path in charts.presets().items()}


@pytest.fixture(scope="session")
def rendered(charts: ModuleType, preset_values: dict[str, dict[str, Any]]) -> Render:
    """rendered(preset, changes, **how) → what Helm made of it."""
    if importlib.util.find_spec("helm_sdkpy") is None:
        absent("helm", "helm_sdkpy is not installed")
    known: dict[str, Any] = {}

    def render(preset: str = "h200x8", changes: Mapping[str, Any] | None = None, **how: Any) -> Any:
        name = json.dumps([preset, changes, how], sort_keys=True)
        if name not in known:
            known[name] = charts.render(merged(preset_values[preset], changes or {}), **how)
        return known[name]

    return render


@pytest.fixture(scope="session")
def one_of(rendered: Render) -> Render:
    """one_of(name) → that configuration, rendered for the oldest Kubernetes that it works on."""

    def render(name: str) -> Any:
        preset, changes = shapes.CONFIGURATIONS[name]
        return rendered(preset, changes, kubernetes=f"1.{shapes.NEEDS.get(name, 29)}.0")

    return render


@pytest.fixture(scope="session", params=list(shapes.CONFIGURATIONS))
def configuration(request: pytest.FixtureRequest, one_of: Render) -> Any:
    """Each configuration in turn."""
    return one_of(request.param)


@pytest.fixture(scope="session")
def configurations(one_of: Render) -> list[Any]:
    """All of them."""
    return [one_of(name) for name in shapes.CONFIGURATIONS]
