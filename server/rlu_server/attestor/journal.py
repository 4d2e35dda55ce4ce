"""The attestation log's files, appended a batch at a time (records.py says what a line is).

    <state>/log/log.jsonl             the segment that is written to
    <state>/log/<ueid>.000001.jsonl   segments of this instance that are finished
    <state>/log/<ueid>/*.bin          its sealed leaves (tiles.py)
    <state>/log/starting              one byte for each start that was tried since the last that got as far as a signed head

A log belongs to one instance key. When the key is another one than last time, the old segment is moved to `<state>/log/<ueid>.jsonl`, and
the new log names its final head as predecessor (design section 3, point 6). Finished segments are not read again but for what a gateway
may ask after a crash; they may be moved elsewhere. The sealed leaves may not: proofs are made from them.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.instance import Predecessor
from rlu_server.attestor import records
from rlu_server.attestor.errors import LogCorrupt, NotReady
from rlu_server.attestor.secret import sync_directory
from rlu_server.attestor.tiles import Sealing

FILE_NAME = "log.jsonl"
STARTING = "starting"
LOCK = ".lock"
RECENT_BYTES = 16 * 1024 * 1024
"""How much of the end of the segment before this one is read at a start: more than the receipts that can be asked for again."""


class Journal:
    """An open log, locked against a second attestor.

    Args:
        held: the directory is locked already (`locked`), for longer than this log is open.

    Attributes:
        predecessor: the instance before this one.
        sealed: leaves in earlier segments.
        tiles: where the sealed leaves are.
        batches: what the segment held when it was opened, to be read once.
    """

    def __init__(self, directory: Path, issuer: str, jwk: dict[str, str], *, held: bool = False) -> None:
        """Open or begin the log of an instance.

        Raises:
            NotReady: another attestor has it, or this instance had one before and was followed by another.
            LogCorrupt: the file is not a log that this program can have written.
        """
        self._lock: int | None = None if held else _lock(directory)
        self._path = directory / FILE_NAME
        self._starting = directory / STARTING
        _undo_half_succession(self._path, issuer)
        if retired(self._path, issuer).exists():
            if self._lock is not None:
                os.close(self._lock)
            raise NotReady(
                "log.retired",
                "this key's log was closed when another key took over; a key does not come back: move the key file away",
            )
        predecessor = _retire_other(self._path, issuer)
        if not self._path.exists():
            self._starting.unlink(missing_ok=True)
            _begin(self._path, records.first_line(issuer, jwk, predecessor, records.SegmentRecord(1, 0)))
        self.predecessor = self._attach(issuer)

    def _attach(self, issuer: str) -> Predecessor | None:
        """Open the file at `_path`; gives the predecessor that its first line names."""
        self.tiles = retired(self._path, issuer).with_suffix("")
        data = _map(self._path)
        first = data.find(b"\n") + 1
        self._header = records.read_first(data[:first])
        self.sealed = self._header.segment.size
        self._descriptor = _opened(self._path)
        self._undo_half_cut()
        self._whole = self._named = True
        self._size = first
        self.batches: Iterator[records.Batch] = records.read_batches(data, first)
        self._torn = len(data)
        return _predecessor(self._header)

    @classmethod
    def _beside(cls, directory: Path, path: Path, issuer: str, lock: int | None) -> Journal:
        """A second log of one attestor, whose lock is held already."""
        journal = cls.__new__(cls)
        journal._path, journal._starting, journal._lock = path, directory / STARTING, lock
        journal.predecessor = journal._attach(issuer)
        return journal

    def succeed(self, issuer: str, jwk: dict[str, str], head: bytes) -> Journal:
        """Step down: a new instance's log begins, and this one goes on as that of an earlier instance, until its sessions have ended.

        A crash at any point leaves the one or the other. Segments are not finished here any more.

        Args:
            head: the latest signed head of this log, which the new one names.

        Raises:
            OSError: the disk is full or broken; nothing has changed.
        """
        directory, mine = self._path.parent, self._header.iss
        new = self._path.with_name(f".{FILE_NAME}.new")
        new.unlink(missing_ok=True)
        named = records.PredecessorRecord(b64u(head), mine)
        _begin(new, records.first_line(issuer, jwk, named, records.SegmentRecord(1, 0)))
        # Opened before it has its name: once names have changed, nothing may fail any more.
        following = Journal._beside(directory, new, issuer, None)
        try:
            os.link(self._path, retired(self._path, mine))
            os.replace(new, self._path)
        except OSError:
            following.close()
            _undo_half_succession(self._path, mine)
            raise
        following._path, self._path = self._path, retired(self._path, mine)
        following._named = False
        with contextlib.suppress(OSError):  # before its first batch, then
            following._keep_name()
        following._lock, self._lock = self._lock, None
        return following

    def resume(self, issuer: str) -> Journal | None:
        """The log of an earlier instance, to be gone on with, as `succeed` left it; None if there is none."""
        path = retired(self._path, issuer)
        return Journal._beside(self._path.parent, path, issuer, None) if path.exists() else None

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
        self._keep_name()
        self._cut_off()
        written = 0
        self._whole = False
        try:
            while written < len(lines):
                written += os.write(self._descriptor, memoryview(lines)[written:])
            os.fdatasync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):  # before the next batch, then
                self._cut_off()
            raise
        self._whole = True
        self._size += len(lines)

    def _cut_off(self) -> None:
        """What a batch left that was not written to its end."""
        if not self._whole:
            os.ftruncate(self._descriptor, self._size)
            self._whole = True

    def _keep_name(self) -> None:
        """After a power cut the file has the name that it was given: nothing is released from one that has not."""
        if not self._named:
            sync_directory(self._path.parent)
            self._named = True

    def rotate(self, sealing: Sealing, lines: bytes) -> None:
        """Finish the segment and begin the next one with the given lines. A crash at any point leaves one or the other.

        Raises:
            OSError: the disk is full or broken; the segment goes on.
        """
        sealing.write(self.tiles)
        number = self._header.segment.number
        segment = records.SegmentRecord(number + 1, sealing.size)
        header = records.LogRecord(
            iss=self._header.iss,
            jwk=self._header.jwk,
            version=self._header.version,
            predecessor=self._header.predecessor,
            segment=segment,
        )
        first = records.first_line(header.iss, header.jwk, header.predecessor, segment)
        new = self._path.with_name(f".{FILE_NAME}.new")
        new.unlink(missing_ok=True)
        _begin(new, first + lines)
        descriptor = _opened(new)  # before it has its name: afterwards there is no way back
        try:
            ended = self._finished(number)
            ended.unlink(missing_ok=True)  # of a cut that did not get to its end
            os.link(self._path, ended)  # in the same directory: the lock lets nothing be linked into another
            os.replace(new, self._path)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):  # before the next cut, then
                self._undo_half_cut()
            raise
        before, self._descriptor = self._descriptor, descriptor
        self._header, self.sealed, self._size = header, sealing.size, len(first) + len(lines)
        self._named = False
        with contextlib.suppress(OSError):  # before the next batch, then
            os.close(before)
            self._keep_name()

    def _undo_half_cut(self) -> None:
        """A cut that did not get to its end may have left the segment in use with a second name: that of a finished one."""
        ended = self._finished(self._header.segment.number)
        if ended.exists() and os.path.samefile(self._path, ended):
            ended.unlink()

    def recent(self) -> list[records.ReceiptRecord]:
        """Receipts at the end of the segment before this one, as far as it is still there."""
        try:
            with self._finished(self._header.segment.number - 1).open("rb") as file:
                file.seek(max(os.fstat(file.fileno()).st_size - RECENT_BYTES, 0))
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [record for record in map(records.parse, lines) if isinstance(record, records.ReceiptRecord)]

    def try_start(self) -> int:
        """Note, before the counter of starts is raised, that it will be; returns how often since the last start that succeeded."""
        descriptor = os.open(self._starting, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b".")
            os.fsync(descriptor)
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def started(self) -> None:
        """The counter's value is in the log."""
        os.truncate(self._starting, 0)

    def close(self) -> None:
        """Close the file and let another attestor have it."""
        os.close(self._descriptor)
        if self._lock is not None:
            os.close(self._lock)

    def _finished(self, number: int) -> Path:
        return finished(self.tiles, number)


@dataclass(frozen=True, slots=True)
class Retired:
    """An instance that another one followed: its final head, and where its leaves are."""

    issuer: str
    jwk: dict[str, str]
    head: bytes
    size: int
    tiles: Path
    sealed: int
    rest: tuple[records.LeafRecord, ...]
    """The lines of the leaves after the sealed ones."""
    segment: int = 1
    predecessor: Predecessor | None = None


def at_rest(path: Path) -> Retired | None:
    """The last segment of an instance's log; None if it has no head.

    Raises:
        LogCorrupt: it cannot be one.
    """
    data = _map(path)
    first = data.find(b"\n") + 1
    header = records.read_first(data[:first])
    rest: list[records.LeafRecord] = []
    last: records.HeadRecord | None = None
    for batch in records.read_batches(data, first):
        last = batch.head
        rest += [r for r in batch.leaves if not isinstance(r, records.Preamble)]
    if last is None:
        return None
    return Retired(
        header.iss,
        header.jwk,
        unb64u(last.head),
        last.size,
        retired(path, header.iss).with_suffix(""),
        header.segment.size,
        tuple(rest),
        header.segment.number,
        _predecessor(header),
    )


def finished(tiles: Path, number: int) -> Path:
    """Where a finished segment is, unless it was moved elsewhere."""
    return tiles.with_name(f"{tiles.name}.{number:06}.jsonl")


def history(directory: Path) -> list[Retired]:
    """The instances before this one, oldest names first.

    Raises:
        LogCorrupt: a file that cannot be the log of one.
    """
    found = []
    for path in sorted(directory.glob("*.jsonl")):
        if path.name == FILE_NAME or "." in path.stem:  # the one in use, or a finished segment
            continue
        ended = at_rest(path)
        if ended is not None:
            found.append(ended)
    return found


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep every other attestor out of a state directory, of which this is the log's.

    Raises:
        NotReady: another attestor has it.
    """
    held = _lock(directory)
    try:
        yield
    finally:
        os.close(held)


def retired(path: Path, issuer: str) -> Path:
    """Where the last segment of an instance goes that is no more; without the ending, where its sealed leaves are."""
    return path.with_name(f"{issuer.rpartition(':')[2]}.jsonl")


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _lock(directory: Path) -> int:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise NotReady("log.in_use", f"another attestor uses {directory}") from error
    return descriptor


def _begin(path: Path, lines: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(lines)
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
    _undo_half_succession(path, header.iss)
    os.rename(path, retired(path, header.iss))
    sync_directory(path.parent)
    return None if last is None else records.PredecessorRecord(last.head, header.iss)


def _undo_half_succession(path: Path, issuer: str) -> None:
    """A crash in `succeed` may have left a log with two names."""
    other = retired(path, issuer)
    if path.exists() and other.exists() and os.path.samefile(path, other):
        other.unlink()


def _predecessor(header: records.LogRecord) -> Predecessor | None:
    if header.predecessor is None:
        return None
    try:
        return Predecessor(header.predecessor.iss, unb64u(header.predecessor.head))
    except Exception as error:
        raise LogCorrupt("log.header", "the log's first line names a predecessor that is none") from error
