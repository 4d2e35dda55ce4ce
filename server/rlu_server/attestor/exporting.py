"""How far the export of the log has come, and what happens when it falls behind (FORMATS section 11.4).

The log itself is the buffer: nothing is kept for the export beside it. When more leaves than `limit` wait, the operator's choice holds:
`refuse` opens no more sessions (what is open goes on), `gap` gives the waiting leaves up and says so in an entry of the log.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Literal

from rlu_attestation.errors import RluError
from rlu_server.attestor.errors import AttestorError, NotReady
from rlu_server.attestor.secret import write_private
from rlu_server.attestor.sessions import Entry, PendingGap

FILE_NAME = "exported.json"
WhenBehind = Literal["refuse", "gap"]


class Exporting:
    """The export's cursor.

    Args:
        directory: that of the log.
        limit: leaves that may wait; 0: nothing depends on an export.

    Attributes:
        exported: leaves that arrived, or that were given up.
        gone: False; the next look at the clock asks again.
        floor: leaves before the latest gap's end; they are not handed out for the export any more.
    """

    gone = False

    def __init__(self, directory: Path, issuer: str, limit: int, when_behind: WhenBehind) -> None:
        self._path = directory / FILE_NAME
        self._issuer = issuer
        self._limit = limit
        self._when_behind = when_behind
        self._announced = False
        self._storing = threading.Lock()
        self.exported = _read(self._path, issuer)
        self.floor = 0

    def check(self, size: int) -> None:
        """May a session be opened?

        Raises:
            AttestorError: `export_behind`.
        """
        if self._when_behind == "refuse" and self._behind(size):
            raise AttestorError("export_behind", f"{size - self.exported} log entries wait to be exported")

    def due(self, size: int) -> PendingGap | None:
        """The entry that gives up what waits, if that is now to be made."""
        if self._when_behind != "gap" or self._announced or not self._behind(size):
            return None
        self._announced = True
        return PendingGap(self, self.exported)

    def acknowledge(self, size: int, signed: int) -> None:
        """Everything before `size` has arrived. Going back is no error: an exporter may start again from an old cursor.

        Raises:
            AttestorError: `not_in_log`.
        """
        if size > signed:
            raise AttestorError("not_in_log", "the log has not that many entries")
        self.exported = max(self.exported, size)

    def store(self) -> None:
        """Write the cursor; blocks. One that was lost only makes the log look less exported than it is."""
        with self._storing:  # two exporters that acknowledge at once would write one file together
            text = json.dumps({"iss": self._issuer, "size": self.exported}, sort_keys=True)
            write_private(self._path, text.encode("ascii") + b"\n")

    def committed(self, entry: Entry) -> None:
        """The gap is in the log."""
        self._announced = False
        self.exported = self.floor = max(self.exported, entry.index)

    def failed(self, error: RluError) -> None:
        """It is not; the next look at the clock tries again."""
        self._announced = False

    def _behind(self, size: int) -> bool:
        return 0 < self._limit < size - self.exported


def _read(path: Path, issuer: str) -> int:
    try:
        value = json.loads(path.read_bytes())
        size = value["size"] if value["iss"] == issuer else 0
        if not isinstance(size, int) or size < 0:
            raise ValueError
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotReady("export.cursor", f"{path} is not readable as an export cursor: remove it") from error
    return size
