"""A ready gateway for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from fakes.rig import Rig

BOOK = {
    "default": {"events": 4},
    "scripts": {
        "slow": {"events": 200, "interval_ms": 20},
        "late": {"events": 2, "first_ms": 400},
        "long": {"events": 12000, "payload_bytes": 1000},
        "split": {"events": 20, "split_bytes": 3},
        "joined": {"events": 40, "join_events": 7},
        "cached": {"events": 3, "input_tokens": 20, "cached_tokens": 16},
        "status": {"fault": {"kind": "status", "status": 500}},
        "stall": {"events": 50, "fault": {"kind": "stall", "after": 3}},
        "close": {"events": 50, "interval_ms": 40, "fault": {"kind": "close", "after": 3}},
        "error_event": {"events": 50, "fault": {"kind": "error_event", "after": 3}},
        "garbage": {"fault": {"kind": "garbage_head"}},
        "reset": {"fault": {"kind": "reset"}},
    },
}


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    """The loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def overrides() -> dict[str, object]:
    """Gateway settings of a test module; redefine there."""
    return {}


@pytest.fixture
async def rig(tmp_path: Path, overrides: dict[str, object]) -> AsyncIterator[Rig]:
    async with Rig(tmp_path, overrides, BOOK) as rig:
        yield rig
