"""The limits file, taken over whenever it changes.

One that cannot be read leaves the limits as they were, and says so. At the start there is nothing to leave: then it is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rlu_attestation.errors import Malformed
from rlu_server.adapters.events import Events
from rlu_server.core.limits.rules import MAX_FILE, LimitsFile, parse_file


class WatchedLimits:
    """Looks at one file."""

    def __init__(self, path: Path, taken: Callable[[LimitsFile], None], events: Events) -> None:
        self._path = path
        self._taken = taken
        self._events = events
        self._seen: tuple[int, int, int] | None = None

    def first(self) -> None:
        """The look at the start. Raises Malformed (`limits.file`) and OSError, when there is a file that cannot be used."""
        self._look()

    def look(self) -> None:
        """Any other look."""
        try:
            self._look()
        except OSError as error:
            self._events.emit("limits_refused", "unreadable", errno=error.errno or 0)
        except Malformed as error:
            self._events.emit("limits_refused", error.code)

    def _look(self) -> None:
        try:
            found = self._path.stat()
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen == self._seen:
                return
            self._seen = seen
            with self._path.open("rb") as file:
                limits = parse_file(file.read(MAX_FILE + 1))
        except FileNotFoundError:
            if self._seen is None:
                return
            self._seen = None
            limits = LimitsFile()
        self._taken(limits)
        self._events.emit("limits_loaded", tenants=len(limits.tenants))
