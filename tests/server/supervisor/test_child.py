from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from rlu_server.supervisor.child import Child
from waiting import PATIENCE_S, until

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def python(code: str) -> Child:
    return Child([sys.executable, "-I", "-c", code], ENVIRONMENT)


async def test_status() -> None:
    assert await asyncio.wait_for(python("raise SystemExit(7)").exited, PATIENCE_S) == 7
    assert await asyncio.wait_for(python("import os; os.abort()").exited, PATIENCE_S) == -signal.SIGABRT


async def test_stops_politely() -> None:
    child = python("import time; time.sleep(600)")
    assert await child.stop(PATIENCE_S) == -signal.SIGTERM
    child.signal(signal.SIGTERM)  # long gone: no effect, no error
    child.kill()


async def test_kills_what_does_not_stop(tmp_path: Path) -> None:
    note = tmp_path / "deaf"
    child = python(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"open({str(note)!r}, 'w').close(); time.sleep(600)"
    )
    await until(note.exists)
    assert await child.stop(0.2) == -signal.SIGKILL


async def test_the_group_goes_with_its_leader(tmp_path: Path) -> None:
    """The leader dies by itself; its children must not stay."""
    note = tmp_path / "pid"
    code = (
        "import os, subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(note)!r}, 'w').write(str(p.pid))\n"
        "os._exit(3)\n"
    )
    assert await asyncio.wait_for(python(code).exited, PATIENCE_S) == 3
    orphan = int(note.read_text())

    def gone() -> bool:
        try:
            return Path(f"/proc/{orphan}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            return True

    try:
        await until(gone, lambda: "the leader's child lives on")
    except AssertionError:
        os.kill(orphan, signal.SIGKILL)
        raise


async def test_no_descriptors_leak() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await asyncio.wait_for(python("pass").exited, PATIENCE_S)
    assert len(os.listdir("/proc/self/fd")) <= before
