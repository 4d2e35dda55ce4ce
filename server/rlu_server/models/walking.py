"""What is below a model's directory, and stamps by which a later change shows.

Every regular file counts, hidden ones too, but for `model.sig` at the top, which signs the others. Refused: links that lead out of the
directory, nowhere, or to a directory twice; special files; names that are not UTF-8. Several names of one file are several files, a sparse
file is what reading it gives, empty directories do not count.

A stamp is what the kernel changes when a file is written, replaced, renamed or linked, and lets nobody set: device, inode, size and the
time of the last change (ctime). Two equal stamps say that nobody wrote in between, as far as that file system and its clock can be trusted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rlu_server.models.errors import ManifestError, NoModel

MAX_FILES = 100_000
SIGNATURE = "model.sig"
"""Name of the signature, beside `config.json`; not part of what is signed."""

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size, and times of the last writing and the last change in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Found:
    """One regular file."""

    path: str
    """Relative to the model's directory, with `/`."""
    real: Path
    """The same without links."""
    size: int
    linked: bool
    """A symbolic link leads to it."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Everything below a directory at one moment."""

    root: Path
    files: tuple[Found, ...]
    """Sorted by the UTF-8 bytes of their paths."""
    stamps: Mapping[str, Stamp]
    """Of files and directories, by path; the empty one is the directory itself. A link that changes shows in its directory's."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def walk(directory: Path, signature: str = SIGNATURE) -> Tree:
    """List a model's directory.

    Args:
        signature: name of the signature at the top, which does not count.

    Raises:
        NoModel: `model.directory`, `model.empty`.
        ManifestError: `model.link`, `model.special_file`, `model.name`, `model.too_many_files`.
        OSError: it cannot be read.
    """
    if not directory.is_dir():
        raise NoModel("model.directory", f"{directory} is no directory; give the directory of a model")
    root = directory.resolve(strict=True)
    found: list[Found] = []
    stamps = {"": stamp(root.stat())}
    pending = [("", root)]
    visited = {root}
    while pending:
        prefix, folder = pending.pop()
        for name in os.listdir(folder):
            path = f"{prefix}{name}"
            if path == signature:
                continue
            _utf8(path)
            linked = (folder / name).is_symlink()
            real = _inside(root, folder / name, path)
            status = real.stat()
            stamps[path] = stamp(status)
            if stat.S_ISREG(status.st_mode):
                found.append(Found(path, real, status.st_size, linked))
            elif not stat.S_ISDIR(status.st_mode):
                raise ManifestError("model.special_file", f"{path} is no regular file; remove it")
            elif real in visited:
                raise ManifestError(
                    "model.link", f"{path} leads to a directory twice; replace the link by a copy"
                )
            else:
                visited.add(real)
                pending.append((f"{path}/", real))
        if len(found) > MAX_FILES:
            raise ManifestError(
                "model.too_many_files",
                f"{directory} holds more than {MAX_FILES} files; give the directory of one model",
            )
    if not found:
        raise NoModel("model.empty", f"{directory} holds no files; give the directory of a model")
    return Tree(root, tuple(sorted(found, key=lambda file: file.path.encode())), stamps)


def stamp(status: os.stat_result) -> Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _utf8(path: str) -> None:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ManifestError("model.name", f"the name {path!r} is not UTF-8; rename the file") from error


def _inside(root: Path, path: Path, name: str) -> Path:
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ManifestError(
            "model.link", f"{name} is a link that leads nowhere; download the model again"
        ) from error
    if not real.is_relative_to(root):
        raise ManifestError(
            "model.link",
            f"{name} is a link that leaves the model's directory; replace it by a copy of its target",
        )
    return real
