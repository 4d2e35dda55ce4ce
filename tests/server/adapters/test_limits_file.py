"""The limits file: taken over, withdrawn, and kept as it was when it cannot be used."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from fakes.descriptors import none_free
from rlu_attestation.errors import Malformed
from rlu_server.adapters.events import Events
from rlu_server.adapters.limits_file import WatchedLimits
from rlu_server.core.limits.rules import LimitsFile


class Room:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[bytes] = []
        self.rates: list[int | None] = []
        self.limits = WatchedLimits(path, self._taken, Events(self.lines.append))

    def _taken(self, limits: LimitsFile) -> None:
        self.rates.append(limits.default.requests_per_minute)

    def put(self, rate: object) -> None:
        new = self.path.with_name("new")
        new.write_text(f"[default]\nrequests_per_minute = {rate}")
        new.replace(self.path)

    def told(self) -> list[dict[str, Any]]:
        """What was told since this was last asked, but for times and levels."""
        lines, self.lines[:] = list(map(json.loads, self.lines)), []
        return [{name: one[name] for name in one if name not in ("time", "level")} for one in lines]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "limits.toml")


def test_there_need_not_be_one(room: Room) -> None:
    room.limits.first()
    room.limits.look()
    assert (room.rates, room.told()) == ([], [])
    room.put(5)
    room.limits.look()
    room.path.unlink()
    room.limits.look()
    room.limits.look()
    assert room.rates == [5, None]
    assert room.told() == [{"event": "limits_loaded", "tenants": 0}] * 2


def test_at_the_start_it_has_to_be_readable(room: Room) -> None:
    room.put("many")
    with pytest.raises(Malformed) as malformed:
        room.limits.first()
    assert malformed.value.code == "limits.file"
    room.put(5)
    with none_free(), pytest.raises(OSError) as caught:
        room.limits.first()
    assert caught.value.errno == errno.EMFILE


def test_a_moment_without_descriptors_keeps_the_old_one_and_not_for_ever(room: Room) -> None:
    room.put(5)
    room.limits.first()
    room.told()
    room.put(6)
    with none_free():
        room.limits.look()
        room.limits.look()
    assert room.rates == [5]
    assert room.told() == [{"event": "limits_refused", "code": "unreadable", "errno": errno.EMFILE}]
    room.limits.look()
    assert room.rates == [5, 6]
    assert room.told() == [{"event": "limits_loaded", "tenants": 0}]
    room.put("many")
    room.limits.look()
    room.limits.look()
    assert room.rates == [5, 6]
    assert room.told() == [{"event": "limits_refused", "code": "limits.file"}]
