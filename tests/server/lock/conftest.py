from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from locked import Room


@pytest.fixture
def rooms() -> Iterator[Callable[..., Room]]:
    made: list[Room] = []

    def make(name: str = "engine", user: int | None = None) -> Room:
        room = Room(name, user)
        made.append(room)
        return room

    yield make
    for room in made:
        shutil.rmtree(room.scratch, ignore_errors=True)
        shutil.rmtree(room.snippets, ignore_errors=True)


@pytest.fixture
def room(rooms: Callable[..., Room]) -> Room:
    """The engine's lock."""
    return rooms("engine")
