"""A user for each process: `lock.uids`, as root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment import make_settings, running

from rlu_server.settings import Uids

ATTESTOR, ENGINE, GATEWAY = 54321, 54322, 54323


def owner(pid: int) -> set[int]:
    """Real, effective, saved and file system user of a process, as one set."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("Uid:"))
    return set(map(int, line.split()[1:]))


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Unlike pytest's own, one that everybody may pass through: what keeps them out is further down."""
    with tempfile.TemporaryDirectory(prefix="rlu-users-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


async def test_three_users_serve(open_directory: Path) -> None:
    settings = make_settings(open_directory)
    settings.state_dir.mkdir()
    os.chown(settings.state_dir, ATTESTOR, ATTESTOR)
    uids = Uids(attestor=ATTESTOR, engine=ENGINE, gateway=GATEWAY)
    lock = settings.lock.model_copy(update={"uids": uids})
    async with running(open_directory, settings.model_copy(update={"lock": lock})) as up:
        status, answer, headers = await up.ask()
        assert status == 200, answer
        assert (await up.call("GET", headers["rlu-receipt"]))[0] == 200

        _, attestation, _ = await up.call("GET", f"/v1/rlu/attestation?nonce={'A' * 43}")
        assert attestation["attestation"]["statement"]
        facts = up.place.facts
        postures = {role: json.loads((facts / f"{role}.json").read_text()) for role in ("attestor", "engine")}
        assert {role: (p["uid"], p["uid_shared"]) for role, p in postures.items()} == {
            "attestor": (ATTESTOR, False),
            "engine": (ENGINE, False),
        }
        services = (up.server.attestor, up.server.engine, up.server.gateway)
        pids = [service.child.pid for service in services if service.child is not None]
        assert [owner(pid) for pid in pids] == [{ATTESTOR}, {ENGINE}, {GATEWAY}]

        # Each by itself, without any lock: the modes alone keep the engine from the attestor, and both from the attestor's secret.
        runtime, state = up.place.path, settings.state_dir
        assert reaches(GATEWAY, GATEWAY, runtime / "attestor" / "attestor.sock") == "ok"
        assert reaches(GATEWAY, GATEWAY, runtime / "engine" / "engine.sock") == "ok"
        assert reaches(ENGINE, ENGINE, runtime / "attestor" / "attestor.sock") == "EACCES"
        assert reads(ENGINE, runtime / "keys" / "apikeys.json") == "EACCES"
        for user in (ENGINE, GATEWAY):
            assert reads(user, state / "attestation" / "secret") == "EACCES"


def reaches(uid: int, gid: int, path: Path) -> str:
    return as_user(uid, f"socket.socket(socket.AF_UNIX).connect({str(path)!r})")


def reads(uid: int, path: Path) -> str:
    assert path.exists()
    return as_user(uid, f"open({str(path)!r}).read()")


def as_user(uid: int, code: str) -> str:
    """What the kernel says to this user without a lock."""
    program = (
        "import errno, os, socket, sys\n"
        f"os.setgroups([]); os.setresgid({uid}, {uid}, {uid}); os.setresuid({uid}, {uid}, {uid})\n"
        f"try: {code}\n"
        "except OSError as error: print(errno.errorcode[error.errno], end='')\n"
        "else: print('ok', end='')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout
