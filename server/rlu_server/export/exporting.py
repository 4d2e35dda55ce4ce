"""The export's loop: ask, deliver, note, acknowledge; in that order, so that nothing counts as exported that has not arrived."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rlu_server.export import cursor, records
from rlu_server.export.cursor import Cursor
from rlu_server.export.sinks import Sink


class Source(Protocol):
    """A server's log, as its exporter sees it."""

    def entries(self, start: int) -> Mapping[str, Any]: ...

    def exported(self, size: int) -> None: ...

    def head(self) -> bytes: ...


class Export:
    """One instance's export.

    Attributes:
        skipped: entries that had been given up before this export came to them.
    """

    def __init__(self, source: Source, issuer: str, sink: Sink, path: Path) -> None:
        """Raises CursorError: `export.cursor`."""
        self._source = source
        self._issuer = issuer
        self._sink = sink
        self._path = path
        known = cursor.load(path)
        self.next = known.next if known is not None and known.issuer == issuer else 0
        self.skipped = 0

    def step(self) -> int:
        """One page; gives how many entries it had. 0: nothing waits.

        Raises:
            RluError: the server, the sink or the cursor failed; the next step begins at the same entry.
        """
        page = records.page(self._source.entries(self.next), self._issuer, self.next)
        if page.records:
            sent = list(page.records)
            if page.next == page.tree_size:
                sent += self._head(page.tree_size)
            self._sink.deliver(sent)
        if page.next > self.next:
            Cursor(self._issuer, page.next).save(self._path)
            self.next = page.next
            self.skipped += page.skipped
        self._source.exported(self.next)
        return len(page.records)

    def _head(self, tree_size: int) -> list[dict[str, Any]]:
        record = records.head(self._source.head())
        # Where the log went on meanwhile, the head comes with the next page.
        return [record] if record["index"] == tree_size else []
