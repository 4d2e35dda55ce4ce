"""The attestation log's file: `<state>/log/log.jsonl`, appended a batch at a time (records.py says what a line is).

A log belongs to one instance key. When the key is another one than last time, the old log is moved to `<state>/log/<its key's ueid>.jsonl`
and the new one names its final head as predecessor (design section 3, point 6).
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from rlu_attestation.encoding import unb64u
from rlu_attestation.instance import Predecessor
from rlu_server.attestor import records
from rlu_server.attestor.errors import LogCorrupt, NotReady
from rlu_server.attestor.secret import sync_directory

FILE_NAME = "log.jsonl"


class Journal:
    """An open log, locked against a second attestor.

    Attributes:
        predecessor: the instance before this one.
        batches: what the file held when it was opened, to be read once.
    """

    def __init__(self, directory: Path, issuer: str) -> None:
        """Open or begin the log of an instance.

        Raises:
            NotReady: another attestor has it, or this instance had one before and was followed by another.
            LogCorrupt: the file is not a log that this program can have written.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = directory / FILE_NAME
        self._lock = _lock(directory)
        if _retired(self._path, issuer).exists():
            os.close(self._lock)
            raise NotReady(
                "log.retired",
                "this key's log was closed when another key took over; a key does not come back: move the key file away",
            )
        predecessor = _retire_other(self._path, issuer)
        if not self._path.exists():
            _begin(self._path, issuer, predecessor)
        data = _map(self._path)
        first = data.find(b"\n") + 1
        header = records.read_first(data[:first])
        self.predecessor = _predecessor(header)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._size = first
        self.batches: Iterator[records.Batch] = records.read_batches(data, first)
        self._torn = len(data)

    def accept(self, last: records.Batch | None) -> bool:
        """Keep the file up to the end of a batch, or only its first line, and cut off what a crash left behind it.

        Returns:
            True if there was something.
        """
        if last is not None:
            self._size = last.end
        torn = self._torn > self._size
        if torn:
            os.ftruncate(self._descriptor, self._size)
            os.fdatasync(self._descriptor)
        return torn

    def append(self, lines: bytes) -> None:
        """Write a batch and wait until it is on the disk; all or nothing.

        Raises:
            OSError: the disk is full or broken; the file is as before.
        """
        written = 0
        try:
            while written < len(lines):
                written += os.write(self._descriptor, memoryview(lines)[written:])
            os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(lines)

    def close(self) -> None:
        """Close the file and let another attestor have it."""
        os.close(self._descriptor)
        os.close(self._lock)


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _lock(directory: Path) -> int:
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise NotReady("log.in_use", f"another attestor uses {directory}") from error
    return descriptor


def _begin(path: Path, issuer: str, predecessor: records.PredecessorRecord | None) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(records.first_line(issuer, predecessor))
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)


def _retire_other(path: Path, issuer: str) -> records.PredecessorRecord | None:
    """Move another instance's log aside; returns what the new log is to say of it."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        header_line = file.readline()
    if not header_line.endswith(b"\n"):  # a crash while the very first line was written
        path.unlink()
        return None
    data, first = _map(path), len(header_line)
    header = records.read_first(data[:first])
    if header.iss == issuer:
        return None
    last: records.HeadRecord | None = None
    for batch in records.read_batches(data, first):
        last = batch.head
    os.rename(path, _retired(path, header.iss))
    sync_directory(path.parent)
    return None if last is None else records.PredecessorRecord(last.head, header.iss)


def _retired(path: Path, issuer: str) -> Path:
    """Where the log of an instance goes that is no more."""
    return path.with_name(f"{issuer.rpartition(':')[2]}.jsonl")


def _predecessor(header: records.LogRecord) -> Predecessor | None:
    if header.predecessor is None:
        return None
    try:
        return Predecessor(header.predecessor.iss, unb64u(header.predecessor.head))
    except Exception as error:
        raise LogCorrupt("log.header", "the log's first line names a predecessor that is none") from error
