"""Searches whatever can be read by offset: files, devices, disk images, open descriptors, bytes in memory. Reads only.

A finding says where and in which form, never what: neither the marker nor its surroundings are printed, and a path that contains one is
shown without its last part.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rlu_server.selftest import unpack
from rlu_server.selftest.index import Index
from rlu_server.selftest.unpack import Read

CHUNK = 4 << 20
DEEPEST = 3
"""How often something compressed is unpacked that was in something compressed."""
MOST = 4096
"""Findings that are kept in all."""


@dataclass(frozen=True, slots=True)
class Hit:
    """Something was found."""

    place: str
    scenario: str
    form: str
    packing: str
    """How it was compressed, such as `gzip` or `zip/zlib`; empty: not at all."""
    where: str


@dataclass(slots=True)
class Searched:
    """What was read at one place."""

    items: int = 0
    size: int = 0
    unreadable: list[str] = field(default_factory=list)
    """Why something could not be read: reasons, and paths that are the machine's own."""
    truncated: int = 0
    """Compressed streams that held more than is unpacked."""


class Scanner:
    """Searches with one index; `hits` and `places` grow."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._seen: set[tuple[str, str, str, str, str]] = set()
        self.hits: list[Hit] = []
        self.places: dict[str, Searched] = {}

    def at(self, place: str) -> Searched:
        """The account of a place, which is begun with this."""
        return self.places.setdefault(place, Searched())

    def take(self, other: Scanner) -> None:
        """Add what another scanner found."""
        self.hits = other.hits + self.hits
        for place, theirs in other.places.items():
            ours = self.at(place)
            ours.items, ours.size = ours.items + theirs.items, ours.size + theirs.size
            ours.unreadable += theirs.unreadable
            ours.truncated += theirs.truncated

    def content(self, place: str, where: str, data: bytes) -> None:
        """Search bytes in memory."""
        self._all(place, where, lambda at, size: data[at : at + size], [(0, len(data))])

    def file(self, place: str, path: Path, known: int | None = None) -> None:
        """Search a file's name and its content, but for its holes. What is gone meanwhile is no failure.

        Args:
            known: its size, for devices, which do not tell.
        """
        account = self.at(place)
        named = os.fsencode(path.name)
        if any(True for _ in self._index.find(named + bytes(8))):
            for _, number in self._index.find(named + bytes(8)):
                self._note(place, number, "", f"the name of a file in {path.parent}")
            path = path.parent / "(its name is a finding)"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        except OSError as error:
            account.unreadable.append(f"{path}: {error.strerror}")
            return
        try:
            self.descriptor(place, str(path), descriptor, known)
        finally:
            os.close(descriptor)

    def descriptor(self, place: str, where: str, descriptor: int, known: int | None = None) -> None:
        """Search what an open descriptor reads."""
        account = self.at(place)
        status = os.fstat(descriptor)
        size = status.st_size if known is None else known
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode)):
            return
        try:
            self._all(
                place, where, lambda at, count: os.pread(descriptor, count, at), _extents(descriptor, size)
            )
        except OSError as error:
            account.unreadable.append(f"{where}: {error.strerror}")

    def _all(
        self, place: str, where: str, read: Read, extents: Iterable[tuple[int, int]], packing: str = ""
    ) -> None:
        account = self.at(place)
        if not packing:
            account.items += 1
        overlap = self._index.longest + 8
        for start, end in extents:
            tail = b""
            for at in range(start, end, CHUNK):
                data = read(at, min(CHUNK, end - at))
                if not packing:
                    account.size += len(data)
                buffer, first = tail + data, at - len(tail)
                for offset, number in self._index.find(buffer):
                    self._note(place, number, packing, where if packing else f"{where} at {first + offset}")
                if packing.count("/") < DEEPEST - 1:
                    self._unpack(place, where, read, buffer, first, packing)
                tail = buffer[-overlap:]

    def _unpack(self, place: str, where: str, read: Read, buffer: bytes, first: int, packing: str) -> None:
        for offset, kind in unpack.beginnings(buffer):
            at = first + offset
            made, more = unpack.unpacked(read, at, kind)
            if len(made) < 8:
                continue
            self.at(place).truncated += more
            inner = f"{packing}/{kind}" if packing else kind
            there = where if packing else f"{where} at {at}"
            self._all(place, there, lambda o, n, made=made: made[o : o + n], [(0, len(made))], inner)  # type: ignore[misc]

    def _note(self, place: str, number: int, packing: str, where: str) -> None:
        needle = self._index.needles[number]
        key = (place, needle.scenario, needle.form, packing, where)
        if key not in self._seen and len(self.hits) < MOST:
            self._seen.add(key)
            self.hits.append(Hit(*key))


def _extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that are not holes."""
    at = 0
    while at < size:
        try:
            begin = os.lseek(descriptor, at, os.SEEK_DATA)
            end = os.lseek(descriptor, begin, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            begin, end = at, size  # a file system or device that knows of no holes
        yield begin, min(end, size)
        at = end


def changed_files(
    root: Path,
    since: float,
    skip: Callable[[str], bool],
    account: Searched,
    devices: frozenset[int] | None = None,
) -> Iterator[Path]:
    """Files below a directory whose content or place changed after a time, without following links or leaving its file system.

    Args:
        since: seconds since the epoch; 0 for all files.
        devices: file systems that may be entered; None: the root's own.
    """
    try:
        allowed = devices or frozenset((os.lstat(root).st_dev,))
    except OSError:
        return
    pending = [str(root)]
    while pending:
        directory = pending.pop()
        if skip(directory):
            continue
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    if stat.S_ISDIR(status.st_mode):
                        if status.st_dev in allowed:
                            pending.append(entry.path)
                    elif stat.S_ISREG(status.st_mode) and status.st_ctime >= since and not skip(entry.path):
                        yield Path(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            account.unreadable.append(f"{directory}: {error.strerror}")
