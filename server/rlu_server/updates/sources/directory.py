"""A directory on this machine: a mounted share, or a disk that was carried in."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rlu_server.updates.errors import NotPossible
from rlu_server.updates.sources.source import Absent


@dataclass(frozen=True, slots=True)
class _Opened:
    file: BinaryIO
    start: int

    def read(self, most: int) -> bytes:
        return self.file.read(most)


@dataclass(frozen=True, slots=True)
class DirectorySource:
    root: Path

    def size(self, path: str) -> int:
        with self._reading(path) as file:
            return os.fstat(file.fileno()).st_size

    @contextlib.contextmanager
    def open(self, path: str, start: int = 0) -> Iterator[_Opened]:
        with self._reading(path) as file:
            file.seek(start)
            yield _Opened(file, start)

    @contextlib.contextmanager
    def _reading(self, path: str) -> Iterator[BinaryIO]:
        place = self.root / path
        try:
            # A pipe in place of a file would hold the job for ever.
            if place.exists() and not place.is_file():
                raise Absent("update.absent", f"{place} is no file")
            file = place.open("rb", buffering=0)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Absent("update.absent", f"there is no {place}") from error
        except OSError as error:
            raise NotPossible("update.source_unreadable", f"{place}: {error.strerror}") from error
        with file:
            yield file
