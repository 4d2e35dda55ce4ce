"""What every source is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from rlu_server.updates.errors import NotPossible


class Absent(NotPossible):
    """The source has no such file."""


class Stream(Protocol):
    """A file, from some byte on."""

    @property
    def start(self) -> int:
        """The byte it begins with: the one that was asked for, or 0 where a source cannot begin elsewhere."""
        ...

    def read(self, most: int) -> bytes:
        """At most so many bytes; empty at the end, or where the connection ended."""
        ...


class Source(Protocol):
    """Gives files by their path within the model. Raises RluError, with exit code 3 where another try may help."""

    def size(self, path: str) -> int:
        """Bytes. Raises Absent (`update.absent`)."""
        ...

    def open(self, path: str, start: int = 0) -> AbstractContextManager[Stream]:
        """Raises Absent (`update.absent`)."""
        ...
