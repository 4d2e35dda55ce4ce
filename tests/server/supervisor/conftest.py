from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import deployment
import pod as pods
import sealed

from fakes.broker_room import BrokerRoom


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    deployment.stand_in(monkeypatch)


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BrokerRoom]:
    with sealed.room_in(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def pod() -> Iterator[pods.Pod]:
    with pods.directories() as (directory, volumes), pods.pod_in(directory, volumes) as made:
        yield made
