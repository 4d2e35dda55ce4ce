"""Where records go. `deliver` returns when they have arrived, and raises otherwise; it may be called with the same records again."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from rlu_attestation.errors import RluError

Record = dict[str, Any]


class SinkError(RluError):
    """Records did not arrive: `export.sink`. Nothing is lost, since they are sent again."""

    exit_code = 3


class Sink(Protocol):
    """A receiver of records."""

    def deliver(self, records: Sequence[Record]) -> None:
        """Raises SinkError."""


def lines(records: Sequence[Record]) -> bytes:
    """JSON lines."""
    return b"".join(json.dumps(record, separators=(",", ":")).encode("ascii") + b"\n" for record in records)


class StreamSink:
    """JSON lines to a stream, such as standard output. What the reader at the other end does with them is its own affair."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def deliver(self, records: Sequence[Record]) -> None:
        try:
            self._stream.write(lines(records))
            self._stream.flush()
        except OSError as error:
            raise SinkError("export.sink", f"cannot write to standard output: {error.strerror}") from error


class FileSink:
    """JSON lines to a file, on the disk before `deliver` returns; a file that is full is renamed to `.1`, `.2` …

    Args:
        max_bytes: when a file is full.
        keep: how many full ones are kept; 0: all.
    """

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep

    def deliver(self, records: Sequence[Record]) -> None:
        try:
            self._rotate()
            with self._path.open("ab") as file:
                self._end_line(file)
                file.write(lines(records))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SinkError("export.sink", f"cannot write {self._path}: {error.strerror}") from error

    def _end_line(self, file: BinaryIO) -> None:
        """A line that a crash tore off is ended, so that it does not spoil the next one."""
        if file.tell():
            with self._path.open("rb") as written:
                written.seek(-1, os.SEEK_END)
                if written.read(1) != b"\n":
                    file.write(b"\n")

    def _rotate(self) -> None:
        if not self._path.exists() or self._path.stat().st_size < self._max_bytes:
            return
        numbers = sorted(self._numbers(), reverse=True)
        for number in numbers:
            old = self._numbered(number)
            if self._keep and number >= self._keep:
                old.unlink()
            else:
                old.rename(self._numbered(number + 1))
        self._path.rename(self._numbered(1))

    def _numbers(self) -> list[int]:
        prefix = f"{self._path.name}."
        found = (
            p.name.removeprefix(prefix) for p in self._path.parent.iterdir() if p.name.startswith(prefix)
        )
        return [int(text) for text in found if text.isascii() and text.isdigit()]

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
