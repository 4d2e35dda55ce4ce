"""The export's loop: ask, deliver, note, acknowledge; in that order, so that nothing counts as exported that has not arrived."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rlu_attestation.errors import Malformed
from rlu_server.export import cursor, records
from rlu_server.export.cursor import Cursor
from rlu_server.export.sinks import Sink


class Source(Protocol):
    """A server's log, as its exporter sees it. `issuer` names an earlier instance; None from it: there is no such log, or it is shorter."""

    def entries(self, start: int, issuer: str | None = None) -> Mapping[str, Any] | None: ...

    def exported(self, size: int) -> None: ...

    def head(self) -> bytes: ...


class Export:
    """One server's export. Where the instance became another one, the former one's log is brought to its end first.

    Attributes:
        next: the entry to go on from.
        skipped: entries that had been given up before this export came to them.
        lost: the former instance and its first entry that is no more to be had.
    """

    def __init__(self, source: Source, issuer: str, sink: Sink, path: Path) -> None:
        """Raises CursorError: `export.cursor`."""
        self._source = source
        self._issuer = issuer
        self._sink = sink
        self._path = path
        known = cursor.load(path)
        self._former = known if known is not None and known.issuer != issuer else None
        self.next = known.next if known is not None and known.issuer == issuer else 0
        self.skipped = 0
        self.lost: Cursor | None = None

    def step(self) -> bool:
        """One page; False: nothing waits.

        Raises:
            RluError: the server, the sink or the cursor failed; the next step begins at the same entry.
        """
        if self._former is not None:
            return self._finish(self._former)
        value = self._source.entries(self.next)
        if value is None:
            raise Malformed(
                "export.cursor_ahead", "the cursor is ahead of the log; audit the log: it has shrunk"
            )
        page = records.page(value, self._issuer, self.next)
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
        return bool(page.records)

    def _finish(self, former: Cursor) -> bool:
        """A page of the instance before."""
        value = self._source.entries(former.next, former.issuer)
        if value is None:
            self.lost = former
        else:
            page = records.page(value, former.issuer, former.next)
            if page.records:
                self._sink.deliver(page.records)
                self._former = Cursor(former.issuer, page.next)
                self._former.save(self._path)
                return True
        Cursor(self._issuer, 0).save(self._path)
        self._former = None
        return True

    def _head(self, tree_size: int) -> list[dict[str, Any]]:
        record = records.head(self._source.head())
        # Where the log went on meanwhile, the head comes with the next page.
        return [record] if record["index"] == tree_size else []
