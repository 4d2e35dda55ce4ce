"""The posture of several processes that are stated as one: of each value the worst."""

from __future__ import annotations

from collections.abc import Iterable

from rlu_server.attestor.messages import Posture

PROTECTS = frozenset({"no_new_privileges", "call_filter", "dies_with_parent", "memory_locked"})
"""Booleans that say what is in force; all others say what is possible."""
COUNTS = frozenset({"environment_unlisted", "inherited_files"})
DIFFERS = "differs"
"""Stands for a value that is not the same everywhere; no policy asks for it."""


def worst(postures: Iterable[Posture]) -> Posture:
    """One posture that is true of all: what any can, what all are kept from."""
    every = list(postures)
    names = sorted({name for posture in every for name in posture})
    return {name: _worst(name, [posture.get(name, DIFFERS) for posture in every]) for name in names}


def _worst(name: str, values: list[bool | int | str]) -> bool | int | str:
    if all(isinstance(value, bool) for value in values):
        return all(values) if name in PROTECTS else any(values)
    if name in COUNTS and all(isinstance(value, int) for value in values):
        return max(int(value) for value in values)
    return values[0] if len({(type(value), value) for value in values}) == 1 else DIFFERS
