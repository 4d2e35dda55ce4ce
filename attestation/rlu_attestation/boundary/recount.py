"""Counts a report's tallies again from entries that were exported while they were made (FORMATS section 11.4), such as a SIEM keeps.

An exported entry says of itself what it is, as the attestor told the exporter at the time. So this compares two tellings: what was handed
out entry by entry, and what was counted and signed. It finds an attestor that told two stories, and files that were changed later.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rlu_attestation.boundary.check import Examined, Point
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed
from rlu_attestation.log.tally import Tally
from rlu_attestation.merkle import leaf_hash
from rlu_attestation.statements import STATUSES

KINDS = frozenset({"session", "receipt", "close", "gap", "tally", "head"})


class _Range:
    """One tally of the period, and the entries that it counts, seen so far."""

    def __init__(self, tally: Tally, leaf: str) -> None:
        self.tally = tally
        self.counts: Counter[str] = Counter()
        self.leaf_met = False
        self._leaf = leaf
        self._seen = bytearray((tally.next - tally.first + 7) // 8)

    def take(self, index: int, record: Mapping[str, Any]) -> bool:
        """False for an entry that is another one than was signed."""
        if index == self.tally.next:
            self.leaf_met = True
            return record.get("kind") == "tally" and record.get("leaf") == self._leaf
        place, bit = divmod(index - self.tally.first, 8)
        if not self._seen[place] & 1 << bit:  # delivery is at least once
            self._seen[place] |= 1 << bit
            kind = str(record["kind"])
            self.counts[str(record["status"]) if kind == "receipt" else kind] += 1
        return True

    @property
    def missing(self) -> int:
        """Entries that were not among those given."""
        return self.tally.next - self.tally.first - self.counts.total() + (not self.leaf_met)

    @property
    def agrees(self) -> bool:
        tally = self.tally
        said = Counter(
            {"session": tally.sessions, "close": tally.closes, "gap": tally.gaps, **tally.receipts}
        )
        return self.counts == said


class Recount:
    """Takes entries in any order, repeated ones too."""

    def __init__(self, examined: Examined) -> None:
        self._examined = examined
        self._ranges: dict[str, list[_Range]] = {}
        self._ends: dict[str, list[int]] = {}
        self._changed: list[str] = []
        report = examined.report
        for instance, log in zip(report.instances, examined.logs, strict=True):
            statements = {
                tally.number: counted.statement
                for tally, counted in zip(log.tallies, instance.tallies, strict=True)
            }
            ranges = [
                _Range(tally, b64u(leaf_hash(statements[tally.number])))
                for tally in log.within(report.begin, report.end)
            ]
            self._ranges[log.issuer] = ranges
            self._ends[log.issuer] = [one.tally.next for one in ranges]

    def take(self, record: object) -> None:
        """One exported record.

        Raises:
            Malformed: `boundary.entries.encoding`.
        """
        if not isinstance(record, dict) or record.get("kind") not in KINDS or record.get("rlu_log") != "1":
            raise Malformed("boundary.entries.encoding", "a line is no exported entry of a log")
        issuer, index = record.get("iss"), record.get("index")
        fits = record["kind"] != "receipt" or record.get("status") in STATUSES
        if not isinstance(issuer, str) or type(index) is not int or not fits:
            raise Malformed("boundary.entries.encoding", "a line is no exported entry of a log")
        if record["kind"] == "head" or issuer not in self._ranges:
            return
        place = bisect_right(self._ends[issuer], index - 1)
        if place == len(self._ends[issuer]) or index < self._ranges[issuer][place].tally.first:
            return
        if not self._ranges[issuer][place].take(index, record):
            self._changed.append(f"{issuer}: entry {index}")

    def examined(self) -> Examined:
        """The report as it is seen with these entries."""
        false = [
            Point("boundary.entries", f"{one} is not the tally that was signed") for one in self._changed
        ]
        left = []
        for issuer, ranges in self._ranges.items():
            for one in ranges:
                where = f"{issuer}: entries {one.tally.first} to {one.tally.next}"
                if one.missing:
                    left.append(
                        Point("boundary.open.entries", f"{where}: {one.missing} are not among those given")
                    )
                elif not one.agrees:
                    false.append(
                        Point("boundary.entries", f"{where} are not what tally {one.tally.number} counted")
                    )
        found = self._examined
        return replace(found, false=(*found.false, *false), open=(*found.open, *left))
