"""Counters of one process as what was added since, so that another can add it to its own. Any flat dataclass of counters will do.

Values: numbers, lists of numbers, and mappings from names, or tuples of names and numbers, to numbers or such lists.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import fields
from typing import Any


class Counted:
    """Remembers what of some counters was told."""

    def __init__(self, counters: Any) -> None:
        self._counters = counters
        self._told: dict[str, Any] = {
            f.name: copy.deepcopy(getattr(counters, f.name)) for f in fields(counters)
        }

    def since(self) -> dict[str, Any]:
        """What was added since the last time: only what changed; mappings as pairs."""
        found: dict[str, Any] = {}
        for name, told in self._told.items():
            now = getattr(self._counters, name)
            added = _added(now, told)
            if added:
                found[name] = added
                self._told[name] = copy.deepcopy(now)
        return found


def add(counters: Any, added: Mapping[str, Any]) -> None:
    """Add what another process counted."""
    for name, value in added.items():
        now = getattr(counters, name)
        if isinstance(now, list):
            _add_to_list(now, value)
        elif isinstance(now, dict):
            _add_to_mapping(now, value)
        else:
            setattr(counters, name, now + value)


def _added(now: Any, told: Any) -> Any:
    if isinstance(now, list):
        more = [a - b for a, b in zip(now, told or [0] * len(now), strict=True)]
        return more if any(more) else None
    if isinstance(now, dict):
        pairs = [(key, _added(value, told.get(key))) for key, value in now.items()]
        return [[key, value] for key, value in pairs if value]
    return now - (told or 0)


def _add_to_mapping(now: dict[Any, Any], pairs: list[tuple[Any, Any]]) -> None:
    for name, value in pairs:
        key = tuple(name) if isinstance(name, list) else name
        if isinstance(value, list) and key in now:
            _add_to_list(now[key], value)
        else:
            now[key] = value if isinstance(value, list) else now.get(key, 0) + value


def _add_to_list(now: list[Any], more: list[Any]) -> None:
    for index, value in enumerate(more):
        now[index] += value
