"""A site that gets its model from a vendor."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fakes import model_vendor
from rlu_server.models import measure
from rlu_server.outreach.letters import Crossing
from rlu_server.settings import Settings
from rlu_server.updates import opening
from rlu_server.updates.fetching import Pace
from rlu_server.updates.job import Job
from rlu_server.updates.store import Store

T0 = 1_800_000_000


@dataclass
class Site:
    """Its store, and a clock that only goes when it is told to."""

    home: Path
    settings: Settings
    now: int = T0
    crossings: list[Crossing] = field(default_factory=list)
    rolled: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return Store(self.home / "store")

    def configure(self, **update: Any) -> None:
        document = self.settings.model_dump()
        document["update"].update(update)
        self.settings = Settings.model_validate(document)

    def job(self, *, allow_downgrade: bool = False) -> Job:
        clock = self._tick
        return Job(
            self.settings,
            lambda: opening.source_of(self.settings.update, self.crossings.append, clock),
            roll=self.rolled.append,
            allow_downgrade=allow_downgrade,
            pace=Pace(self.settings.update.rate_bytes, lambda: 0.0, self.pauses.append),
            clock=clock,
        )

    def _tick(self) -> float:
        self.now += 1
        return float(self.now)

    def offer(self, number: int | None, weights: bytes = b"weights", **more: Any) -> Path:
        """A model at the source, in a directory of the vendor's."""
        name = f"{number}-{weights[:8].decode()}"
        place = self.home / "vendor" / name
        if not place.exists():
            model_vendor.make(place, number, weights, **more)
        self.configure(source=str(place))
        return place

    def served(self) -> bytes | None:
        """The digest of what a server that starts would serve."""
        current = self.home / "store" / "current"
        return measure(current).sha256 if current.exists() else None


@pytest.fixture
def site(tmp_path: Path) -> Site:
    settings = Settings.model_validate(
        {
            "state_dir": tmp_path / "state",
            "model": {
                "path": str(tmp_path / "store" / "current"),
                "name": "m",
                "signers": [model_vendor.public(tmp_path)],
            },
            "update": {"reserve_bytes": 0},
        }
    )
    return Site(tmp_path, settings)
