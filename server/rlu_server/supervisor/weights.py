"""Opened weights of a sealed model: in memory while engines load them (`holding.py`), and wiped afterwards.

The job that asks the broker and opens the files is `broker.unlocking`. Small files (configuration, tokenizer) stay: engines may read them
while they serve.

What a process still has mapped when it is wiped is deleted and not overwritten beneath it.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import RluError
from rlu_server.broker.asking import check
from rlu_server.broker.errors import SealBroken, Unfit
from rlu_server.broker.sealed_files import is_sealed, read_header
from rlu_server.broker.sealing import Header
from rlu_server.lock.profiles import User
from rlu_server.models.manifest import File, Manifest
from rlu_server.settings import Settings
from rlu_server.supervisor.errors import ServeError, StartFailed, Unavailable, of_exit_code
from rlu_server.supervisor.holding import Holding
from rlu_server.supervisor.runtime import Runtime, overwrite, wipe

WEIGHTS = (".safetensors", ".gguf")
PAGE = 4096
SLACK = 64 << 20
"""Memory beyond the files' own bytes that has to be free."""
JOB = (sys.executable, "-m", "rlu_server.broker.unlocking")
SHARED = "weights"
"""The directory of opened weights that other containers read."""

__all__ = ["Weights", "is_sealed"]


class Weights(Holding):
    """One sealed model, opened by a job of ours.

    Args:
        sealed: its directory.
        number: of the model, among those that are served.
        user: whom engines run as; None: as we do.
        shared: engines are in another container, with our group; it sees `SHARED` read-only.

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
        *,
        shared: bool = False,
    ) -> None:
        self._settings = settings
        self._sealed = sealed
        self._user = user
        self._shared = shared
        self._job: subprocess.Popen[str] | None = None
        self._opened_before = False
        try:
            header = read_header(sealed)
            check(settings)
        except RluError as error:
            raise refused(sealed, error) from error
        except OSError as error:
            raise Unavailable(f"{sealed}: {error.strerror}") from error
        self._runtime = runtime
        # Another model, as after an update, has another place; the same one has the same at every start.
        names = (name_of(header, n) for n in itertools.count(number))
        base = runtime.path / SHARED if shared else runtime.path
        super().__init__(
            next(place for name in names if not (place := base / name).exists()),
            header.manifest,
            keep=settings.weights.after_loading == "keep",
        )
        needed = self.manifest.size + PAGE * len(self.manifest.files) + SLACK
        if shared:
            self.place.mkdir()
        else:
            runtime.separate(self.place.name, needed, huge=True)
        self.place.chmod(0o700)
        free = _free(self.place)
        if free < needed:
            self.close()
            raise refused(
                sealed,
                Unfit(
                    "weights.memory",
                    f"opening it takes {needed >> 20} MiB of memory, and {free >> 20} MiB are free: serve on a machine with more, or "
                    "enlarge the tmpfs",
                ),
            )

    def abandon(self) -> None:
        super().abandon()
        job = self._job
        if job is not None:
            job.kill()

    def close(self) -> None:
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
                raise refused(self._sealed, error, int(outcome["exit_code"]))
            files = tuple(File(one["path"], one["size"], unb64u(one["sha256"])) for one in outcome["files"])
            if Manifest(files) != self.manifest:
                changed = SealBroken("weights.changed", "it changed since this server was started; restart")
                raise refused(self._sealed, changed)
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
        if self._user is None and not self._shared:
            return
        for directory, _, names in os.walk(self.place, topdown=False):
            for path in (*(Path(directory) / name for name in names), Path(directory)):
                if self._user is None:
                    path.chmod(0o2750 if path.is_dir() else 0o640)
                    continue
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


def name_of(header: Header, number: int) -> str:
    """Of the directory of a model, among those that are served."""
    return f"weights{number}-{header.digest.hex()[:8]}"


def refused(sealed: Path, error: RluError, exit_code: int | None = None) -> ServeError:
    """By blame, as everything that ends `rlu serve`."""
    code = error.exit_code if exit_code is None else exit_code
    return of_exit_code(code)(f"{sealed}: {error.message} [{error.code}]")


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
