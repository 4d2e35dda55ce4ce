"""From a source into staging: one file after the other, each resumed where it stopped, each held against its signed digest.

What was written before a kill or a power failure is read again and hashed, so nothing has to be trusted or noted: a part that does not
become the file that was signed is thrown away, and fetched once more from its beginning. A file that was fetched in one go and is another
than was signed refuses the update. What is here already, in the model that is served or under another name, is copied, not fetched.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from rlu_server.outreach.http import Unreachable
from rlu_server.updates.errors import UpdateRefused
from rlu_server.updates.sources.source import Source

BUFFER = 1 << 20
TRIES = 5
"""In a row without a byte."""
FIRST_PAUSE_S = 1.0

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Bytes had, bytes in all."""


class Pace:
    """Holds a rate: whoever took bytes waits until they were due. No credit is saved up while nothing comes.

    Args:
        rate: bytes a second; 0: as fast as it goes.
    """

    def __init__(
        self,
        rate: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self.sleep = sleep
        self._due = clock()

    @property
    def portion(self) -> int:
        """Bytes to read at once, so that a low rate is not kept by long pauses."""
        return BUFFER if self._rate == 0 else max(1024, min(BUFFER, self._rate // 10))

    def took(self, count: int) -> None:
        if self._rate == 0:
            return
        now = self._clock()
        self._due = max(self._due, now) + count / self._rate
        self.sleep(self._due - now)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file of the model."""

    path: str
    sha256: bytes
    size: int


class Fetching:
    """Fills one staging directory.

    Args:
        here: files by digest that are on this machine already; a copy that turns out different is fetched.
    """

    def __init__(
        self, source: Source, staged: Path, here: Mapping[bytes, Path], pace: Pace, progress: Progress | None
    ) -> None:
        self._source = source
        self._parts = staged / "parts"
        self._model = staged / "model"
        self._here = dict(here)
        self._pace = pace
        self._progress = progress
        self._done = 0
        self._total = 0

    def missing(self, wanted: list[Wanted]) -> int:
        """Bytes that are still to be written."""
        return sum(max(one.size - _size(self._part(one)), 0) for one in wanted if not self._whole(one))

    def fetch(self, wanted: list[Wanted]) -> None:
        """All of them.

        Raises:
            UpdateRefused: `update.tampered`.
            RluError: what the source raises; `relay.unreachable` after several tries.
            OSError: a file cannot be written.
        """
        self._total = sum(one.size for one in wanted)
        for one in wanted:
            place = self._model / one.path
            if self._whole(one):
                self._advance(one.size)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                if not self._copy(one):
                    self._get(one)
                os.replace(self._part(one), place)
            self._here.setdefault(one.sha256, place)

    def _whole(self, one: Wanted) -> bool:
        """Is it there? It had the right digest when it was put there, and is hashed again when all are."""
        place = self._model / one.path
        return place.is_file() and _size(place) == one.size

    def _part(self, one: Wanted) -> Path:
        return self._parts / one.sha256.hex()

    def _copy(self, one: Wanted) -> bool:
        known = self._here.get(one.sha256)
        if known is None or _size(known) != one.size:
            return False
        whole = hashlib.sha256()
        with known.open("rb", buffering=0) as source, self._part(one).open("wb", buffering=0) as target:
            while data := source.read(BUFFER):
                whole.update(data)
                target.write(data)
            os.fsync(target.fileno())
        if whole.digest() != one.sha256:
            return False
        self._advance(one.size)
        return True

    def _get(self, one: Wanted) -> None:
        part = self._part(one)
        before, failures, pause = self._done, 0, FIRST_PAUSE_S
        while True:
            had = _size(part) if _size(part) <= one.size else 0
            try:
                good = self._try(one, part, had)
            except Unreachable:
                if _size(part) > had:
                    failures, pause = 0, FIRST_PAUSE_S
                failures += 1
                if failures >= TRIES:
                    raise
                self._done = before
                self._pace.sleep(pause)
                pause *= 2
                continue
            if good:
                return
            part.unlink()
            self._done = before
            if not had:
                raise UpdateRefused(
                    "update.tampered",
                    f"{one.path} is not the file that was signed; nothing was changed. Ask who runs the source",
                )

    def _try(self, one: Wanted, part: Path, had: int) -> bool:
        """Whether the file is whole and as signed. What was read stays in `part`."""
        whole = hashlib.sha256()
        with part.open("a+b", buffering=0) as file:
            file.truncate(had)
            file.seek(0)
            while data := file.read(BUFFER):
                whole.update(data)
            self._advance(had)
            if had < one.size or one.size == 0:
                with self._source.open(one.path, had) as stream:
                    if stream.start != had:
                        self._advance(-had)
                        had, whole = 0, hashlib.sha256()
                        file.truncate(0)
                    while data := stream.read(self._pace.portion):
                        had += len(data)
                        if had > one.size:
                            return False
                        file.write(data)
                        whole.update(data)
                        self._advance(len(data))
                        self._pace.took(len(data))
            os.fsync(file.fileno())
        return had == one.size and whole.digest() == one.sha256

    def _advance(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)


def sizes(source: Source, paths: Iterable[str], pace: Pace) -> dict[str, int]:
    """How large files are. Raises RluError: what the source raises."""
    return {path: _patiently(partial(source.size, path), pace) for path in paths}


def read_small(source: Source, path: str, most: int, pace: Pace) -> bytes:
    """A file that is looked at before the rest is fetched.

    Raises:
        UpdateRefused: `update.too_long`.
        RluError: what the source raises.
    """

    def whole() -> bytes:
        found = bytearray()
        with source.open(path) as stream:
            while data := stream.read(BUFFER):
                found += data
                if len(found) > most:
                    raise UpdateRefused("update.too_long", f"{path} is longer than {most} bytes")
        return bytes(found)

    return _patiently(whole, pace)


def _patiently(work: Callable[[], T], pace: Pace) -> T:
    for number in range(TRIES - 1):
        try:
            return work()
        except Unreachable:
            pace.sleep(FIRST_PAUSE_S * 2**number)
    return work()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
