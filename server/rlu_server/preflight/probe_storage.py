"""How fast weights can be read: a bounded sequential read of the largest file, past the page cache where the file system allows that."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

from rlu_server.models.checkpoint import weight_files
from rlu_server.preflight.facts import Storage

PIECE = 8 * 2**20
MOST = 2 * 2**30
LONGEST_S = 10.0


def storage(
    place: Path,
    *,
    most: int = MOST,
    longest_s: float = LONGEST_S,
    clock: Callable[[], float] = time.monotonic,
) -> Storage:
    """Read up to `most` bytes, for about `longest_s` seconds, of a file or of a directory's largest weight file."""
    try:
        files = (weight_files(place) or _files(place)) if place.is_dir() else [place]
        sizes = [(file.stat().st_size, file) for file in files]
        if not sizes or max(sizes)[0] == 0:
            return Storage(problem="there is nothing to read")
        read, seconds, direct = _read(max(sizes)[1], most, longest_s, clock)
    except OSError as error:
        return Storage(problem=error.strerror or "it cannot be read")
    return Storage(read=read, seconds=seconds, direct=direct, total=sum(size for size, _ in sizes))


def _files(place: Path) -> list[Path]:
    return [file for file in sorted(place.iterdir()) if file.is_file()]


def _read(file: Path, most: int, longest_s: float, clock: Callable[[], float]) -> tuple[int, float, bool]:
    descriptor, direct = _open(file)
    try:
        # Anonymous memory is aligned to pages, as a direct read needs.
        with mmap.mmap(-1, PIECE) as buffer:
            start, read = clock(), 0
            while read < most and (got := os.readv(descriptor, [buffer])):
                read += got
                # The last piece of a direct read may end off the device's blocks.
                if clock() - start >= longest_s or got < PIECE:
                    break
            return read, clock() - start, direct
    finally:
        os.close(descriptor)


def _open(file: Path) -> tuple[int, bool]:
    """The file, and whether the page cache is out of the way."""
    try:
        return os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT), True
    except OSError:
        # A file system such as tmpfs of older kernels has no direct reads.
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return descriptor, False
