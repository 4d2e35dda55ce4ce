"""A report for a period: what it needs of which logs, proofs under each log's last head, figures, and a look at it before it is signed.

What is kept beside the leaves is not under any head. So each tally is counted again from it, and a difference stops everything: the
tally is what was signed at the time, and what lies on the disk was changed since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlu_attestation import cose
from rlu_attestation.boundary.check import Examined, check
from rlu_attestation.boundary.figures import Log, compute
from rlu_attestation.boundary.report import Counted, Figure, InstanceLog, Report
from rlu_attestation.cose import SignedHead
from rlu_attestation.errors import Untrusted
from rlu_attestation.log.tally import Tally
from rlu_server.boundary.kept import Found, Kept, chain


@dataclass(frozen=True, slots=True)
class _Part:
    """What a report has of one log."""

    kept: Kept
    head: SignedHead
    found: Sequence[Found]

    @property
    def last(self) -> Tally | None:
        return self.found[-1].tally if self.found else None


def make(log: Path, begin: int, end: int, now: int, egress: Sequence[Figure]) -> Examined:
    """A report, looked at as a verifier would who knows all of the instances.

    Args:
        log: the log directory.
        egress: asserted figures.

    Raises:
        Unusable: `boundary.log`, `boundary.segment`.
        LogCorrupt: the log is damaged.
        Untrusted: `boundary.recount`, or what a verifier would reject.
    """
    parts = _needed(chain(log), begin, end)
    for part in parts:
        _recount(part)
    logs = [Log(p.kept.ended.issuer, p.head, tuple(one.tally for one in p.found)) for p in parts]
    report = Report(
        issued_at=now,
        begin=begin,
        end=end,
        instances=tuple(
            _instance(part, after) for part, after in zip(parts, [*parts[1:], None], strict=True)
        ),
        figures=(*compute(logs, begin, end), *egress),
    )
    examined = check(report, {one.issuer for one in logs}, now)
    if examined.false:
        point = examined.false[0]
        raise Untrusted(point.code, f"the log here does not show what a report must show: {point.detail}")
    return examined


def _needed(kept: Sequence[Kept], begin: int, end: int) -> list[_Part]:
    """From the last instance that had a tally before the period, up to the one with the first tally after it."""
    parts: list[_Part] = []
    for one in reversed(kept):
        found = one.tallies(begin)
        after = next((n for n, each in enumerate(found, 1) if each.tally.issued_at >= end), len(found))
        parts.insert(0, _Part(one, cose.parse_head(one.ended.head), found[:after]))
        if found and found[0].tally.issued_at < begin:
            break
    while len(parts) > 1 and _ends_it(parts[-2], end):
        parts.pop()
    return parts


def _ends_it(part: _Part, end: int) -> bool:
    """Does this log show that no other one had begun when the period ended?"""
    return part.last is not None and part.last.issued_at >= end and part.last.successor is None


def _instance(part: _Part, after: _Part | None) -> InstanceLog:
    tree, size = part.kept.tree, part.head.tree_size
    extends: list[bytes] = []
    named = None if after is None or after.last is None else after.last.predecessor
    if named is not None:
        extends = tree.consistency_path(cose.parse_head(named.head).tree_size, size)
    tallies = tuple(
        Counted(one.statement, tuple(tree.inclusion_path(one.tally.next, size))) for one in part.found
    )
    return InstanceLog(part.kept.ended.jwk, part.kept.ended.head, tallies, tuple(extends))


def _recount(part: _Part) -> None:
    for one in part.found:
        tally = one.tally
        counts = part.kept.tree.counts(tally.first, tally.next)
        said = {"session": tally.sessions, "close": tally.closes, "gap": tally.gaps, **tally.receipts}
        if any(counts[kind] != value for kind, value in said.items()):
            raise Untrusted(
                "boundary.recount",
                f"{tally.issuer}: what is kept of entries {tally.first} to {tally.next - 1} is not what tally {tally.number} counted "
                "when they were made: the files were changed",
            )
