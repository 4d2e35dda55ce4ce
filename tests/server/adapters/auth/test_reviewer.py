"""What those who wait are told; asking a relay is tested with whole gateways."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from rlu_server.adapters import relay_client
from rlu_server.adapters.auth.reviewer import Reviewer
from rlu_server.adapters.events import Events
from waiting import until


async def test_whoever_waits_is_told_even_after_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """All requests with one token wait for one answer: without it, that token would be dead."""

    async def broken(*_: Any) -> bytes:
        raise ArithmeticError("a bug")

    monkeypatch.setattr(relay_client, "post", broken)
    told: list[bytes | None] = []
    written: list[dict[str, Any]] = []
    reviewer = Reviewer("unix:/nowhere", 60.0, Events(lambda line: written.append(json.loads(line))))
    reviewer.ask(b"{}", told.append)
    await until(lambda: told and written)
    assert told == [None]
    assert [event["event"] for event in written] == ["internal_error"]
    await reviewer.close()


async def test_too_slow_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()

    async def silent(*_: Any) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError("unreachable")

    monkeypatch.setattr(relay_client, "post", silent)
    told: list[bytes | None] = []
    reviewer = Reviewer("unix:/nowhere", 0.01, Events(lambda line: None))
    reviewer.ask(b"{}", told.append)
    await until(lambda: told)
    await asyncio.wait_for(ended.wait(), 60)
    assert told == [None]
    await reviewer.close()
