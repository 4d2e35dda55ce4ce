"""Ends the connections that a test made, also when it failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fakes.attestor_process import GatewaySide


@pytest.fixture(autouse=True)
async def _close_gateways() -> AsyncIterator[None]:
    yield
    for gateway in GatewaySide.opened:
        gateway.writer.transport.abort()
    await asyncio.sleep(0)
    GatewaySide.opened.clear()
