"""Opened weights of a sealed model: in memory while engines load them, and wiped afterwards.

    decide    held from the decision to start until `begin` takes that over
    hold      the first one runs the job that asks the broker and opens the files (`broker.unlocking`)
    let_go    the last one overwrites and deletes the weights, unless the settings keep them

Each start of an engine holds them, and so does the start of the server as a whole, so that several engines load what was opened once. An
engine that is started again later, after the weights were wiped, makes the job run again. Small files (configuration, tokenizer) stay:
engines may read them while they serve.

What a process still has mapped when it is wiped is deleted and not overwritten beneath it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import RluError
from rlu_server.broker.asking import check
from rlu_server.broker.errors import SealBroken, Unfit
from rlu_server.broker.sealed_files import is_sealed, read_header
from rlu_server.lock.profiles import User
from rlu_server.models.manifest import File, Manifest
from rlu_server.settings import Settings
from rlu_server.supervisor.errors import Misconfigured, ModelRefused, ServeError, StartFailed, Unavailable
from rlu_server.supervisor.runtime import Runtime, overwrite, wipe

WEIGHTS = (".safetensors", ".gguf")
PAGE = 4096
SLACK = 64 << 20
"""Memory beyond the files' own bytes that has to be free."""
JOB = (sys.executable, "-m", "rlu_server.broker.unlocking")
Told = Callable[[str, dict[str, str | int]], None]

__all__ = ["Weights", "is_sealed"]


class Weights:
    """One sealed model. Safe for threads; `hold` blocks for as long as opening takes.

    Args:
        sealed: its directory.
        number: of the model, among those that are served.
        user: whom engines run as; None: as we do.

    Raises at construction:
        ServeError: it cannot be opened here, whatever a broker would say.
    """

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime,
        sealed: Path,
        number: int,
        user: User | None,
    ) -> None:
        self._settings = settings
        self._sealed = sealed
        self._user = user
        self._lock = threading.Lock()
        self._holders = 0
        self._job: subprocess.Popen[str] | None = None
        self._abandoned = self._opened_before = self._decided = False
        self.on_event: Told = lambda name, values: None
        try:
            self._header = read_header(sealed)
            check(settings)
        except RluError as error:
            raise _refused(sealed, error) from error
        except OSError as error:
            raise Unavailable(f"{sealed}: {error.strerror}") from error
        self._runtime = runtime
        # Another model, as after an update, has another place; the same one has the same at every start.
        names = (f"weights{n}-{self._header.digest.hex()[:8]}" for n in itertools.count(number))
        self.place = next(place for name in names if not (place := runtime.path / name).exists())
        needed = self.manifest.size + PAGE * len(self.manifest.files) + SLACK
        runtime.separate(self.place.name, needed, huge=True)
        self.place.chmod(0o700)
        free = _free(self.place)
        if free < needed:
            self.close()
            raise _refused(
                sealed,
                Unfit(
                    "weights.memory",
                    f"opening it takes {needed >> 20} MiB of memory, and {free >> 20} MiB are free: serve on a machine with more, or "
                    "enlarge the tmpfs",
                ),
            )

    @property
    def manifest(self) -> Manifest:
        """Of the model. The job compares every file with it."""
        return self._header.manifest

    def hold(self) -> None:
        """Have the weights there until `let_go`.

        Raises:
            ServeError: the broker refused, or they could not be opened. They are not held then.
        """
        with self._lock:
            if self._holders == 0 and not self._is_open():
                self._open()
            self._holders += 1

    def decide(self) -> None:
        """`hold`, for whoever starts engines later: `begin` takes it over."""
        self.hold()
        self._decided = True

    def begin(self) -> None:
        """Hold them for a start of engines as a whole; raises as `hold`."""
        if self._decided:
            self._decided = False
        else:
            self.hold()

    def let_go(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0 and self._settings.weights.after_loading == "wipe":
                self._wipe()

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """`hold` and `let_go`, off the event loop."""
        holding = asyncio.ensure_future(asyncio.to_thread(self.hold))
        try:
            await asyncio.shield(holding)
        except asyncio.CancelledError:
            holding.add_done_callback(self._let_go_later)
            raise
        try:
            yield
        finally:
            await asyncio.shield(asyncio.to_thread(self.let_go))

    def _let_go_later(self, held: asyncio.Future[None]) -> None:
        """Whoever wanted them is gone."""
        if not held.cancelled() and held.exception() is None:
            asyncio.get_running_loop().run_in_executor(None, self.let_go)

    def abandon(self) -> None:
        """The server stops: end a job that is under way, and begin none."""
        self._abandoned = True
        job = self._job
        if job is not None:
            job.kill()

    def resume(self) -> None:
        """Engines are to be started again."""
        self._abandoned = False

    def close(self) -> None:
        """Nobody loads this model any more: leave nothing of it, and give its memory back."""
        with self._lock:
            self._runtime.drop(self.place)

    def _open(self) -> None:
        if not self._opened_before:
            wipe(self.place)
        try:
            outcome = self._run()
            if "code" in outcome:
                error = RluError(str(outcome["code"]), str(outcome["message"]))
                self.on_event("weights.refused", {"code": error.code})
                raise _refused(self._sealed, error, int(outcome["exit_code"]))
            files = tuple(File(one["path"], one["size"], unb64u(one["sha256"])) for one in outcome["files"])
            if Manifest(files) != self.manifest:
                changed = SealBroken("weights.changed", "it changed since this server was started; restart")
                raise _refused(self._sealed, changed)
            self._give_to_engine()
        except BaseException:
            self._discard()
            raise
        self._opened_before = True
        self.on_event("weights.opened", {"bytes": self.manifest.size})

    def _discard(self) -> None:
        """What a job that did not succeed left. Small files that other engines may be reading stay."""
        if not self._opened_before:
            wipe(self.place)
            return
        for path in self._weights():
            _wipe_unused(path)

    def _run(self) -> dict[str, Any]:
        order = {
            "settings": self._settings.model_dump(mode="json"),
            "sealed": str(self._sealed),
            "target": str(self.place),
        }
        if self._abandoned:
            raise StartFailed("the weights were not opened: the server is stopping")
        self._job = subprocess.Popen(
            JOB, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
        )
        if self._abandoned:
            self._job.kill()  # said between the look and the start
        try:
            answer, _ = self._job.communicate(json.dumps(order))
        except BaseException:
            self._job.kill()
            self._job.wait()
            raise
        finally:
            status, self._job = self._job.returncode, None
        if status != 0:
            raise StartFailed(f"the job that opens {self._sealed} ended with status {status}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def _give_to_engine(self) -> None:
        """Read-only for its user. Where that is ours, the lock sees to it: we could not wipe what we may not write."""
        if self._user is None:
            return
        for directory, _, names in os.walk(self.place, topdown=False):
            for path in (*(Path(directory) / name for name in names), Path(directory)):
                os.chown(path, self._user.uid, self._user.gid)
                path.chmod(0o500 if path.is_dir() else 0o400)

    def _weights(self) -> list[Path]:
        found = (self.place / file.path for file in self.manifest.files if file.path.endswith(WEIGHTS))
        return [path for path in found if path.is_file()]

    def _is_open(self) -> bool:
        return all((self.place / file.path).is_file() for file in self.manifest.files)

    def _wipe(self) -> None:
        there = self._weights()
        overwritten = sum(_wipe_unused(path) for path in there)
        self.on_event("weights.wiped", {"files": len(there), "in_use": len(there) - overwritten})


def _refused(sealed: Path, error: RluError, exit_code: int | None = None) -> ServeError:
    """By blame, as everything that ends `rlu serve`."""
    code = error.exit_code if exit_code is None else exit_code
    text = f"{sealed}: {error.message} [{error.code}]"
    if code == 2:
        return Misconfigured(text)
    if code == 3:
        return Unavailable(text)
    if code in (10, 20, 30):
        return ModelRefused(text)
    return StartFailed(text)


def _free(place: Path) -> int:
    """Bytes that can be written there: looked at before a broker is asked."""
    status = os.statvfs(place)
    return min(status.f_bavail * status.f_frsize, _available())


def _available() -> int:
    """`MemAvailable`, in bytes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) << 10
    return 0


def _wipe_unused(path: Path) -> bool:
    """Overwrite and delete a file, or only delete it where some process still has it open or mapped: then its memory is that process's.

    The kernel grants a lease for writing only where nobody else has the file (fcntl(2), F_SETLEASE).
    """
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        overwrite(handle)
    except OSError:
        return False
    finally:
        os.close(handle)
        path.unlink()
    return True


def _environment() -> dict[str, str]:
    """Ours, without what would name settings twice: the order has them all."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RLU_")}
