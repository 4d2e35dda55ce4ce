"""Hooks for `json.loads`, so that no two readers take one text for different values. Each refuses with ValueError, as broken JSON does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn


def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """`object_pairs_hook`: no member occurs twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member occurs twice")
    return found


def no_number(text: str) -> NoReturn:
    """`parse_int`, `parse_float`, `parse_constant`: no such number has a place."""
    raise ValueError("a number of a kind that has no place here")
