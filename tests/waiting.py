"""Waiting for what has to happen: for the state itself, never for a time in which it ought to have come about.

A machine under load stops any process at any line for seconds. So a test waits for states and events, and with patience: the limit
is there to end a test that would otherwise hang, and says nothing about speed.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

PATIENCE_S = 60.0
LOOK_S = 0.01


def _nothing() -> str:
    return "it did not come about"


async def until(condition: Callable[[], object], why: Callable[[], object] = _nothing) -> None:
    """Look, in turn with everything else in this loop, until something is so; fail with `why` when it never is."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, why()
        await asyncio.sleep(LOOK_S)


async def turns(number: int = 30) -> None:
    """Let happen what is ready in this loop: for what goes through sockets to somebody in this process, who is stopped when we are."""
    for _ in range(number):
        await asyncio.sleep(0)


def wait_until(condition: Callable[[], object], why: Callable[[], object] = _nothing) -> None:
    """`until`, where there is no loop."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(LOOK_S)


def refused(address: tuple[str, int]) -> bool:
    """Whether nobody listens there, or not any more: whoever was still in the queue when the listener closed is reset."""
    try:
        socket.create_connection(address, PATIENCE_S).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False
