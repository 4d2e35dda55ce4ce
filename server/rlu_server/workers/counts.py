"""Counters of one process as what was added since, so that another can add it to its own.

Counters are a dataclass of numbers, lists of numbers, further such dataclasses, and mappings from names, or tuples of names and numbers, to
any of these. Where a mapping's values are dataclasses, it must be a `defaultdict`, since only that can make one for a new name.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any


class Counted:
    """Remembers what of some counters was told."""

    def __init__(self, counters: Any) -> None:
        self._counters = counters
        self._told = copy.deepcopy(counters)

    def since(self) -> dict[str, Any]:
        """What was added since the last time, as plain values: only what changed; mappings as pairs."""
        found: dict[str, Any] = {}
        for field in fields(self._counters):
            now = getattr(self._counters, field.name)
            added = _added(now, getattr(self._told, field.name))
            if added:
                found[field.name] = added
                setattr(self._told, field.name, copy.deepcopy(now))
        return found


def add(counters: Any, added: Mapping[str, Any]) -> None:
    """Add what another process counted."""
    for name, value in added.items():
        setattr(counters, name, _sum(getattr(counters, name), value))


def _added(now: Any, told: Any) -> Any:
    """What to tell; something false if there is nothing. `told` is None for what was not told yet."""
    if isinstance(now, list):
        more = [a - b for a, b in zip(now, told or [0] * len(now), strict=True)]
        return more if any(more) else None
    if isinstance(now, dict):
        pairs = [(key, _added(value, None if told is None else told.get(key))) for key, value in now.items()]
        return [[key, value] for key, value in pairs if value]
    if is_dataclass(now):
        each = {f.name: _added(getattr(now, f.name), getattr(told, f.name, None)) for f in fields(now)}
        return {name: value for name, value in each.items() if value}
    return now - (told or 0)


def _sum(now: Any, more: Any) -> Any:
    if isinstance(now, list):
        now[:] = [a + b for a, b in zip(now, more, strict=True)]
        return now
    if isinstance(now, dict):
        for name, value in more:
            key = tuple(name) if isinstance(name, list) else name
            if key in now or isinstance(now, defaultdict):
                now[key] = _sum(now[key], value)
            elif isinstance(value, dict):
                raise TypeError("only a defaultdict can take counters of a new name")
            else:
                now[key] = value
        return now
    if is_dataclass(now):
        add(now, more)
        return now
    return now + more
