"""A file that somebody else replaces, taken over whenever it changes.

What fails for a moment (no free descriptor, a file system that is away) is tried again, without another change of the file: the change may
be a revocation. Until it works, what was taken over before stays.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rlu_attestation.errors import Malformed


class Stamp(NamedTuple):
    """Of a file's state."""

    changed_ns: int
    size: int
    inode: int


_UNKNOWN = Stamp(-1, -1, -1)


def stamp(path: Path) -> Stamp | None:
    """Another one says that the file is another; None: there is none. Raises OSError."""
    try:
        found = path.stat()
    except FileNotFoundError:
        # Kubernetes replaces a link on the way to a file, and then removes where it led: whoever is in between finds nothing.
        try:
            found = path.stat()
        except FileNotFoundError:
            return None
    return Stamp(found.st_mtime_ns, found.st_size, found.st_ino)


class WatchedFile:
    """One file.

    Args:
        most: bytes that it may have; of a longer one, one byte more is read.
    """

    def __init__(self, path: Path, most: int) -> None:
        self.path = path
        self._most = most
        self._taken: Stamp | None = _UNKNOWN
        self._told: set[Stamp | None] = set()

    def look(self, load: Callable[[bytes], None], withdraw: Callable[[], None]) -> None:
        """Have `load` take over the content if it is new since the last look, and `withdraw` what it gave if the file is gone since.

        Raises:
            Malformed: of `load`; once for each change.
            OSError: it cannot be read, or of `load` and `withdraw`; once for each change, and every look tries again.
        """
        now: Stamp | None = _UNKNOWN
        try:
            now = stamp(self.path)
            if now is None and self._taken is not None:
                withdraw()
            elif now is not None and now != self._taken:
                data = self._read()
                if data is None:
                    return
                load(data)
        except Malformed:
            self._settle(now)
            raise
        except OSError:
            if now in self._told:
                return
            self._told = {now}
            raise
        self._settle(now)

    def _read(self) -> bytes | None:
        """None: it was replaced or removed just now, which the next look sees."""
        try:
            with self.path.open("rb") as file:
                return file.read(self._most + 1)
        except FileNotFoundError:
            return None

    def _settle(self, now: Stamp | None) -> None:
        self._taken = now
        self._told.clear()
