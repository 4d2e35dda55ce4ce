"""Backup and restore of what must not be lost and has no content: the logs with their heads, and revocations.

    <state>/log/           the logs of this and of earlier instances
    <state>/revocations/   revocation lists, where there are any
    <state>/attestation/continuity/   what each key said of the one after it, where keys were rotated

A backup is one tar file; `manifest.json`, its last member, has the digest of every other. It can be made while the attestor runs: the
segment that is written to is cut off behind its last head, and everything else only grows. Keys are not in it: they do not leave their
hardware, and the attestor's secret is nobody's to copy.

An old backup is no way back. Heads beyond it may be in others' hands, and a log that went on from it would be a second history under one
key. The attestor notices at its next start (`log.restored`), and whoever follows the log notices too (`log.shrunk`, `log.fork`).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed, RluError, Untrusted
from rlu_server.attestor import records
from rlu_server.attestor.journal import FILE_NAME, LOCK
from rlu_server.attestor.secret import sync_directory

PARTS = ("log", "revocations", "attestation/continuity")
MANIFEST = "manifest.json"
MAX_MANIFEST = 16 * 1024 * 1024
PIECE = 1 << 20


class BackupError(RluError):
    """What was asked cannot be done as things are."""

    exit_code = 2


def create(state: Path, out: Path) -> dict[str, Any]:
    """Write a backup; gives its manifest.

    Raises:
        BackupError: `backup.absent`, `backup.exists`, `backup.unreadable`.
    """
    if not (state / "log" / FILE_NAME).is_file():
        raise BackupError("backup.absent", f"{state / 'log'} holds no log")
    digests: dict[str, dict[str, Any]] = {}
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
            # The segment in use first: it says how many of the sealed leaves count, and those are there by then. One that is finished
            # while this runs, or steps down for another key, is in the backup already.
            active = state / "log" / FILE_NAME
            with active.open("rb") as opened:
                later = _not_before(opened.readline())
                digests[active.relative_to(state).as_posix()] = _add(tar, state, active, opened)
            for path in _files(state):
                if path != active and not later(path.name):
                    with path.open("rb") as opened:
                        digests[path.relative_to(state).as_posix()] = _add(tar, state, path, opened)
            manifest = {"rlu_backup": "1", "files": digests}
            data = json.dumps(manifest, indent=1, sort_keys=True).encode("ascii")
            tar.addfile(_member(MANIFEST, len(data)), io.BytesIO(data))
            file.flush()
            os.fsync(descriptor)
    except FileExistsError as error:
        raise BackupError("backup.exists", f"{out} is already there") from error
    except OSError as error:
        raise BackupError(
            "backup.unreadable", f"cannot back up {error.filename or out}: {error.strerror}"
        ) from error
    return manifest


def restore(backup: Path, state: Path) -> dict[str, Any]:
    """Put a backup's files below a state directory that has none; gives the manifest.

    Raises:
        BackupError: `restore.not_empty`, `backup.unreadable`.
        Malformed: `backup.encoding`: not a backup, or cut off.
        Untrusted: `backup.digest`: a file is not the one that was backed up.
    """
    for part in PARTS:
        # An attestor that did not start leaves a lock, and no log.
        if (state / part).exists() and any(path.name != LOCK for path in (state / part).iterdir()):
            raise BackupError(
                "restore.not_empty",
                f"{state / part} is not empty: move what is there away; it may be newer than the backup",
            )
    staging = state / f".restoring.{os.getpid()}"
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        staging.mkdir(mode=0o700)
        try:
            manifest = _unpack(backup, staging)
            for part in PARTS:
                if (staging / part).exists():
                    if (state / part).exists():
                        (state / part / LOCK).unlink(missing_ok=True)
                        (state / part).rmdir()
                    (state / part).parent.mkdir(mode=0o700, exist_ok=True)
                    os.rename(staging / part, state / part)
            sync_directory(state)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except tarfile.TarError as error:
        raise Malformed("backup.encoding", f"{backup} is not a backup, or is cut off") from error
    except OSError as error:
        raise BackupError(
            "backup.unreadable", f"cannot restore {error.filename or backup}: {error.strerror}"
        ) from error
    return manifest


def _files(state: Path) -> Iterator[Path]:
    for part in PARTS:
        for path in sorted((state / part).rglob("*")):
            # Names with a dot are locks, and files that are not finished.
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                yield path


def _not_before(first: bytes) -> Callable[[str], bool]:
    """Tells, by its name, a segment that was not finished, or had not stepped down, when the one with this first line was in use."""
    header = records.read_first(first)
    prefix = f"{header.iss.rpartition(':')[2]}."

    def later(name: str) -> bool:
        if name == f"{prefix}jsonl":
            return True  # the same log, under its other name
        number = name.removeprefix(prefix).removesuffix(".jsonl")
        return name.startswith(prefix) and number.isdigit() and int(number) >= header.segment.number

    return later


def _add(tar: tarfile.TarFile, state: Path, path: Path, file: BinaryIO) -> dict[str, Any]:
    file.seek(0)
    size = _complete(file) if path.name == FILE_NAME else os.fstat(file.fileno()).st_size
    file.seek(0)
    reader = _Digesting(file)
    tar.addfile(_member(path.relative_to(state).as_posix(), size), reader)
    return {"sha256": b64u(reader.digest.digest()), "size": size}


def _complete(file: BinaryIO) -> int:
    """How much of the segment in use is complete: up to and with its last head."""
    data = file.read()
    at = len(data)
    while at:
        start = data.rfind(b"\n", 0, at - 1) + 1
        line = data[start:at]
        if line.endswith(b"\n") and isinstance(records.parse(line), records.HeadRecord | records.LogRecord):
            return at
        at = start
    return 0


class _Digesting(io.RawIOBase):
    """Reads a file once for two: the archive and the digest."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _unpack(backup: Path, staging: Path) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    manifest: dict[str, Any] | None = None
    with tarfile.open(backup, "r:") as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isreg() else None
            if stream is None or manifest is not None:
                raise Malformed("backup.encoding", "the backup holds something that is not a file of it")
            if member.name == MANIFEST:
                manifest = _manifest(stream.read(MAX_MANIFEST + 1))
            else:
                found[member.name] = _write(staging / _safe(member.name), stream)
    if manifest is None:
        raise Malformed("backup.encoding", f"{backup} is cut off: it has no manifest")
    if manifest["files"] != found:
        changed = sorted(
            name for name in {*found, *manifest["files"]} if manifest["files"].get(name) != found.get(name)
        )
        raise Untrusted("backup.digest", f"not what was backed up: {', '.join(changed[:8])}")
    return manifest


def _write(path: Path, stream: Any) -> dict[str, Any]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while piece := stream.read(PIECE):
            file.write(piece)
            digest.update(piece)
            size += len(piece)
        file.flush()
        os.fsync(descriptor)
    return {"sha256": b64u(digest.digest()), "size": size}


def _safe(name: str) -> Path:
    path = PurePosixPath(name)
    if (
        path.is_absolute()
        or ".." in path.parts
        or not any(PurePosixPath(part) in path.parents for part in PARTS)
    ):
        raise Malformed("backup.encoding", "the backup holds a file that does not belong into it")
    return Path(*path.parts)


def _manifest(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data) if len(data) <= MAX_MANIFEST else None
    except (ValueError, RecursionError):
        value = None
    if (
        not isinstance(value, dict)
        or value.get("rlu_backup") != "1"
        or not isinstance(value.get("files"), dict)
    ):
        raise Malformed("backup.encoding", "the manifest is not one")
    return value
