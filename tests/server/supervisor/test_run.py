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

from rlu_server import settings as configuration
from rlu_server.settings import Settings
from rlu_server.supervisor import run
from rlu_server.supervisor.errors import StartFailed
from rlu_server.supervisor.server import Server
from rlu_server.updates.store import Entry, State, Store
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


HASHING = """
import asyncio, contextlib, os, signal, sys, threading
from pathlib import Path
from types import SimpleNamespace
from rlu_server import settings
from rlu_server.models import verifying
from rlu_server.models.signing import Signers
from rlu_server.supervisor import prepare, rollout, run
from rlu_server.updates.store import Store

memory, store = Path(sys.argv[1]), Store(Path(sys.argv[2]))
first = threading.Lock()

def hash(directory, progress):
    def read(done, total):
        if first.acquire(blocking=False):
            os.write(1, b"hashing\\n")
        progress(done, total)
    verifying.measure(directory, "unsafe-optional", Signers(), read)

def at_the_start(given, *rest):
    hash(Path(given.model.path), lambda done, total: None)

async def beside_a_server():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    served = SimpleNamespace(settings=SimpleNamespace(model=SimpleNamespace(path="/")))
    rolling = rollout.Rollout(
        SimpleNamespace(deployment=served), store,
        lambda deployment, directory, opening, progress: hash(directory, progress),
        lambda *told: None, contextlib.ExitStack(),
    ).run()
    task = asyncio.create_task(rolling)
    await stop.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

if sys.argv[3] == "start":
    prepare.deployment = at_the_start
    model = {"path": str(store.root / "current"), "name": "m"}
    given = settings.load(None, {}, {"runtime_dir": str(memory), "model": model})
    asyncio.run(run.serve(given, {}, lambda name, values: None))
else:
    asyncio.run(beside_a_server())
"""


@pytest.mark.parametrize(("when", "status"), [("start", 128 + signal.SIGTERM), ("beside", 0)])
def test_a_signal_ends_hashing(memory: Path, tmp_path: Path, when: str, status: int) -> None:
    """With the next buffer, in every thread. Nobody waits for the end of such files."""
    version = tmp_path / "versions" / "000001-0123456789abcdef"
    version.mkdir(parents=True)
    for name in ("a", "b"):
        with (version / f"{name}.safetensors").open("wb") as file:
            file.truncate(1 << 40)
    (tmp_path / "current").symlink_to(version.relative_to(tmp_path))
    command = [sys.executable, "-c", HASHING, str(memory), str(tmp_path), when]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"hashing\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == status
        finally:
            process.kill()
    assert list(memory.iterdir()) == []


async def test_what_is_being_loaded_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    before, after = "000001-0123456789abcdef", "000002-0123456789abcdef"
    for version in (before, after):
        store.directory(version).mkdir(parents=True)
    store.switch(before)
    seen = []

    def preparing(given: Settings, *rest: object) -> None:
        store.switch(after)
        store.prune(0, State(history=[Entry(1, before, "applied"), Entry(2, after, "applied")]))
        seen.append((given.model.path, store.versions()))
        raise StartFailed("seen enough")

    monkeypatch.setattr(run.prepare, "deployment", preparing)
    settings = configuration.load(None, {}, {"model": {"path": str(store.root / "current"), "name": "m"}})
    with pytest.raises(StartFailed, match="seen enough"):
        await run.serve(settings, {}, lambda name, values: None)
    assert seen == [(str(store.directory(before)), {before, after})]


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
