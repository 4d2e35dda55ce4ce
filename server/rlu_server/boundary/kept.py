"""The logs of all instances in a log directory, from the oldest to the one in use, and the tallies in them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.log.tally import Tally
from rlu_server.attestor import records
from rlu_server.attestor.journal import FILE_NAME, Retired, at_rest, finished, history
from rlu_server.attestor.tiles import TiledTree

_MARK = b'"kind":"tally"'


class Unusable(RluError):
    """The state directory has not what a report needs."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Found:
    """A tally and its bytes."""

    tally: Tally
    statement: bytes


class Kept:
    """One instance's log."""

    def __init__(self, ended: Retired) -> None:
        self.ended = ended
        self._tree: TiledTree | None = None

    @property
    def tree(self) -> TiledTree:
        """All of its leaves, up to its last head.

        Raises:
            LogCorrupt: the sealed leaves are damaged or missing.
        """
        if self._tree is None:
            self._tree = TiledTree(self.ended.tiles, self.ended.sealed)
            for record in self.ended.rest:
                self._tree.put(unb64u(record.leaf), records.meta(record))
        return self._tree

    def tallies(self, begin: int) -> list[Found]:
        """The tallies from the last one before a time on; all if there is none such. Oldest first.

        Raises:
            Unusable: `boundary.segment`: a finished segment that is needed was moved away.
        """
        found: list[Found] = []
        for segment in self._newest_first():
            for one in segment:
                found.append(one)
                if one.tally.issued_at < begin:
                    return found[::-1]
        return found[::-1]

    def _newest_first(self) -> Iterator[Iterator[Found]]:
        yield (_read(r.statement) for r in reversed(self.ended.rest) if isinstance(r, records.TallyRecord))
        for number in range(self.ended.segment - 1, 0, -1):
            path = finished(self.ended.tiles, number)
            if not path.is_file():
                raise Unusable(
                    "boundary.segment",
                    f"the finished segment {path} is needed for this period: put it back, or a copy of it",
                )
            yield _tallies_of(path)


def chain(directory: Path) -> list[Kept]:
    """The logs that lead to the one in use, oldest first.

    Raises:
        Unusable: `boundary.log`: there is none.
        LogCorrupt: a file among them is no log.
    """
    active = directory / FILE_NAME
    try:
        current = at_rest(active) if active.is_file() and active.stat().st_size else None
    except OSError as error:
        raise Unusable("boundary.log", f"cannot read {active}: {error.strerror}") from error
    if current is None:
        raise Unusable("boundary.log", f"{active} is no log with a signed head in it")
    earlier = {one.issuer: one for one in history(directory)}
    found = [current]
    while (named := found[-1].predecessor) is not None and (
        before := earlier.pop(named.issuer, None)
    ) is not None:
        found.append(before)
    return [Kept(one) for one in reversed(found)]


def _tallies_of(path: Path) -> Iterator[Found]:
    """Of a finished segment, newest first; its other lines are not looked at."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end = len(data)
        while (at := data.rfind(_MARK, 0, end)) >= 0:
            start = data.rfind(b"\n", 0, at) + 1
            record = records.parse(data[start : data.find(b"\n", at)])
            if isinstance(record, records.TallyRecord):
                yield _read(record.statement)
            end = start


def _read(statement: str) -> Found:
    data = unb64u(statement)
    return Found(Tally.parse(data), data)
