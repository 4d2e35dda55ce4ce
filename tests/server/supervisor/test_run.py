"""Signals, and what is left behind. Whole servers that are told to end are in test_server.py."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from rlu_server.supervisor import run
from rlu_server.supervisor.server import Server
from waiting import PATIENCE_S

PREPARING = """
import asyncio, os, signal, sys
from rlu_server import settings
from rlu_server.supervisor import prepare, run

def preparing(given, place, *rest):
    (place.path / "facts").mkdir()
    (place.path / "facts" / "opened").write_text("what must not stay")
    os.write(1, b"preparing\\n")
    while True:
        signal.pause()

prepare.deployment = preparing
given = settings.load(None, {}, {"runtime_dir": sys.argv[1]})
asyncio.run(run.serve(given, {}, lambda name, values: None))
"""


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory of our own."""
    path = Path(tempfile.mkdtemp(prefix="test-run-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_prepares_leaves_nothing_in_memory(memory: Path, number: int) -> None:
    """A model may have been opened by then, and hashing one takes minutes: it ends at once, and wipes."""
    command = [sys.executable, "-c", PREPARING, str(memory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"preparing\n"
            process.send_signal(number)
            status = process.wait(PATIENCE_S)
        finally:
            process.kill()
    assert status in (128 + signal.SIGTERM, -signal.SIGINT, 1)
    assert list(memory.iterdir()) == []


class Starting:
    """A server that never gets to its end."""

    def __init__(self) -> None:
        self.began, self.ended = asyncio.Event(), asyncio.Event()

    async def start(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


async def test_whoever_is_cancelled_leaves_no_start_under_way() -> None:
    """Otherwise processes are started while the server is being stopped."""
    server = Starting()
    serving = asyncio.create_task(run._serve(cast(Server, server), asyncio.Event().wait, asyncio.Event()))  # type: ignore[arg-type]
    await server.began.wait()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert serving.cancelled()
    assert server.ended.is_set()
