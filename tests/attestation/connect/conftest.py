"""A server to connect to, and its user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.connected import ConnectedServer
from fakes.connected_clients import User
from rlu_attestation.connect import closing


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a receipt at the end of a run."""
    monkeypatch.setattr(closing, "CLOSING_WAIT_S", 0.05)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ConnectedServer]:
    with ConnectedServer(tmp_path) as running:
        yield running


@pytest.fixture(params=[False, True], ids=["threads", "asyncio"])
def user(request: pytest.FixtureRequest, server: ConnectedServer) -> Iterator[User]:
    with User(server, request.param) as using:
        yield using
