"""The limits file, taken over whenever it changes.

One that cannot be read leaves the limits as they were, and says so. At the start there is nothing to leave: then it is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rlu_attestation.errors import Malformed
from rlu_server.adapters.events import Events
from rlu_server.core.limits.rules import MAX_FILE, LimitsFile, parse_file
from rlu_server.watched import WatchedFile


class WatchedLimits:
    """Looks at one file."""

    def __init__(self, path: Path, taken: Callable[[LimitsFile], None], events: Events) -> None:
        self._file = WatchedFile(path, MAX_FILE)
        self._taken = taken
        self._events = events
        self._some = False

    def first(self) -> None:
        """The look at the start. Raises Malformed (`limits.file`) and OSError, when there is a file that cannot be used."""
        self._file.look(self._load, self._withdraw)

    def look(self) -> None:
        """Any other look."""
        try:
            self._file.look(self._load, self._withdraw)
        except OSError as error:
            self._events.emit("limits_refused", "unreadable", errno=error.errno or 0)
        except Malformed as error:
            self._events.emit("limits_refused", error.code)

    def _load(self, data: bytes) -> None:
        self._take(parse_file(data))
        self._some = True

    def _withdraw(self) -> None:
        if self._some:
            self._take(LimitsFile())
            self._some = False

    def _take(self, limits: LimitsFile) -> None:
        self._taken(limits)
        self._events.emit("limits_loaded", tenants=len(limits.tenants))
