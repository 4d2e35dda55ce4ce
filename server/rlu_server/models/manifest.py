"""Manifest of a model directory (FORMATS section 9): every file with its size and digest, and one digest over all.

Files are read once, in parallel, through a fixed buffer; the digest changes with any byte, name, addition or removal. What cannot be
measured honestly refuses: a symbolic link that leaves the directory, a special file, weights in pickle form (they are code that runs
when they are loaded), and a directory that changes while it is read.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from rlu_attestation import canonical
from rlu_attestation.encoding import b64u

BUFFER = 1 << 20
WORKERS = 8
MAX_FILES = 100_000
PICKLES = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
"""Endings under which weights are pickles; `torch.load` would run them."""
Progress = Callable[[int, int], None]
"""Called with (bytes read, bytes in all), from the thread that read them."""


class ManifestError(Exception):
    """The directory is no model that can be measured; the message names the file and what to do."""


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


def measure(directory: Path, progress: Progress | None = None) -> Manifest:
    """Measure the model in `directory`.

    Raises:
        ManifestError: the directory is missing or empty, or holds something that refuses (see above).
        OSError: a file cannot be read.
    """
    if not directory.is_dir():
        raise ManifestError(f"{directory} is no directory; give the directory of a model")
    found = _walk(directory)
    if not found:
        raise ManifestError(f"{directory} holds no files; give the directory of a model")
    total = sum(file.size for file in found)
    done = 0
    lock = Lock()

    def report(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            if progress is not None:
                progress(done, total)

    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        return Manifest(tuple(pool.map(lambda file: _read(file, report), found)))


@dataclass(frozen=True, slots=True)
class _Found:
    path: str
    real: Path
    size: int


def _walk(directory: Path) -> list[_Found]:
    """Every regular file, in manifest order."""
    root = directory.resolve(strict=True)
    found: list[_Found] = []
    pending = [("", root)]
    visited = {root}
    while pending:
        prefix, folder = pending.pop()
        for name in os.listdir(folder):
            path = f"{prefix}{name}"
            real = _inside(root, folder / name, path)
            status = real.stat()
            if stat.S_ISREG(status.st_mode):
                found.append(_Found(path, real, status.st_size))
            elif not stat.S_ISDIR(status.st_mode):
                raise ManifestError(f"{path} is no regular file; remove it")
            elif real in visited:
                raise ManifestError(f"{path} leads to a directory twice; replace the link by a copy")
            else:
                visited.add(real)
                pending.append((f"{path}/", real))
        if len(found) > MAX_FILES:
            raise ManifestError(
                f"{directory} holds more than {MAX_FILES} files; give the directory of one model"
            )
    for file in found:
        if {file.real.suffix.lower(), Path(file.path).suffix.lower()} & PICKLES:
            raise ManifestError(
                f"{file.path} is a pickle, code that runs when it is loaded; remove or convert it"
            )
    return sorted(found, key=lambda file: _utf8(file.path))


def _utf8(path: str) -> bytes:
    try:
        return path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ManifestError(f"the name {path!r} is not UTF-8; rename the file") from error


def _inside(root: Path, path: Path, name: str) -> Path:
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ManifestError(f"{name} is a link that leads nowhere; download the model again") from error
    if not real.is_relative_to(root):
        raise ManifestError(
            f"{name} is a link that leaves the model's directory; replace it by a copy of its target"
        )
    return real


def _read(found: _Found, report: Callable[[int], None]) -> File:
    digest = hashlib.sha256()
    buffer = bytearray(BUFFER)
    view = memoryview(buffer)
    length = 0
    with found.real.open("rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        while length <= found.size and (count := file.readinto(buffer)):
            digest.update(view[:count])
            length += count
            report(count)
        after = os.fstat(file.fileno())
    if (length, before.st_mtime_ns) != (found.size, after.st_mtime_ns):
        raise ManifestError(
            f"{found.path} changed while it was measured; stop what writes to it and try again"
        )
    return File(found.path, found.size, digest.digest())
