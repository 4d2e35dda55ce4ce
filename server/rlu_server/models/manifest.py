"""Manifest of a model directory (FORMATS section 9): every file with its size and digest, and one digest over all.

Files are read once, in parallel, through a fixed buffer; the digest changes with any byte, name, addition or removal. What cannot be
measured honestly refuses: see `walking` for the files, `contents` for what would run when it is loaded. A file that changes while it is
read refuses too.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock

from rlu_attestation import canonical
from rlu_attestation.encoding import b64u
from rlu_server.models import contents
from rlu_server.models.errors import ManifestError
from rlu_server.models.walking import Found, Stamp, Tree, stamp, walk

BUFFER = 1 << 20
MAX_WORKERS = 32
SETTLED_NS = 20_000_000
"""File systems stamp changes with a clock that stands still for some milliseconds; a file that was just written is read later than that."""
Progress = Callable[[int, int], None]
"""Called with (bytes read, bytes in all), from the thread that read them. What it raises ends the reading of all files."""


@dataclass(frozen=True, slots=True)
class File:
    path: str
    """Relative, with `/`."""
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    files: tuple[File, ...]
    """Sorted by the UTF-8 bytes of their paths."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def encode(self) -> bytes:
        """The canonical JSON of FORMATS section 9."""
        files = [{"path": file.path, "sha256": b64u(file.sha256), "size": file.size} for file in self.files]
        return canonical.encode({"files": files, "rlu_manifest": "1"})

    @property
    def sha256(self) -> bytes:
        """What the instance statement says in `manifest_sha256`."""
        return hashlib.sha256(self.encode()).digest()


def workers() -> int:
    """Threads that hash: more than the cores this process may use, so that storage is always asked for more while cores hash."""
    return min(MAX_WORKERS, 2 * len(os.sched_getaffinity(0)) + 2)


def measure(directory: Path, progress: Progress | None = None) -> Manifest:
    """Measure the model in `directory`.

    Raises:
        ManifestError: what `walk`, `contents.refuse` and `digest` refuse.
        OSError: a file cannot be read.
    """
    tree = walk(directory)
    contents.refuse(tree.files)
    return digest(tree, progress)


def digest(tree: Tree, progress: Progress | None = None, threads: int | None = None) -> Manifest:
    """Read every file. An error, or a signal that raises one here, ends all threads with their next buffer.

    Raises:
        ManifestError: `model.changed`.
        OSError: a file cannot be read.
    """
    total = tree.size
    done = 0
    lock = Lock()
    ended = Event()

    def report(count: int) -> None:
        nonlocal done
        if ended.is_set():
            raise _Ended
        with lock:
            done += count
            if progress is not None:
                progress(done, total)

    # The largest first, so that the last thread does not begin with it when the others are through.
    by_size = sorted(tree.files, key=lambda file: -file.size)
    with ThreadPoolExecutor(max_workers=threads or workers()) as pool:
        try:
            read = list(pool.map(lambda file: _read(file, tree.stamps[file.path], report), by_size))
        except BaseException:
            ended.set()  # leaving the pool waits for its threads, and a file may take minutes
            raise
    return Manifest(tuple(sorted(read, key=lambda file: file.path.encode())))


class _Ended(Exception):
    """Nobody wants the digest any more."""


def _read(found: Found, expected: Stamp, report: Callable[[int], None]) -> File:
    whole = hashlib.sha256()
    buffer = bytearray(min(BUFFER, found.size + 1))
    view = memoryview(buffer)
    length = 0
    unsettled = expected[4] + SETTLED_NS - time.time_ns()
    if 0 < unsettled <= SETTLED_NS:
        time.sleep(unsettled / 1e9)
    with found.real.open("rb", buffering=0) as file:
        before = stamp(os.fstat(file.fileno()))
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while length <= found.size and (count := file.readinto(buffer)):
            whole.update(view[:count])
            length += count
            report(count)
        after = stamp(os.fstat(file.fileno()))
    if not (length == found.size and before == after == expected):
        raise ManifestError(
            "model.changed",
            f"{found.path} changed while it was measured; stop what writes to it and try again",
        )
    return File(found.path, found.size, whole.digest())
