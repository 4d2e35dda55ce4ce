"""Where an instance key is kept: in a file, at the persistent handle of the settings, or at one that a rotation chose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class KeyAt:
    """A key that a rotation put at a persistent handle: this very one must be there."""

    handle: int
    ueid: str


@dataclass(frozen=True, slots=True)
class FreeHandle:
    """The first of some persistent handles that is free, for a key that is to be made.

    Attributes:
        count: how many, from `first` on.
        note: told which key goes where, before it is there; what it raises keeps the key out.
    """

    first: int
    count: int
    note: Callable[[KeyAt], None]


Place = Path | int | KeyAt | FreeHandle
"""A file or a handle by its number: the key there, made if there is none."""
