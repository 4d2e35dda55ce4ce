"""What a verifier looks at, in this order; what is false rejects, what cannot be known is said.

1  the report is signed by a key that the reader trusts for reports (`report.Report.verify`)
2  each head is signed by the key of its instance, and names it
3  each tally is an entry of that log, at the place that it says, under that head
4  the tallies of an instance follow each other without a gap, from before the period, or from the log's beginning, on
5  the instances follow each other: each names the one before, and that one's head extends the head that is named
6  the figures are those that the tallies give, all of them, and no others; asserted ones are those that can only be asserted
7  *open*: the keys are those of instances that the reader knows; nothing is left uncounted; a tally was made after the period's end
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rlu_attestation import cose, jose
from rlu_attestation.boundary.figures import ASSERTED, TITLES, Log, compute
from rlu_attestation.boundary.report import Figure, InstanceLog, Report
from rlu_attestation.errors import Malformed, RluError, Untrusted
from rlu_attestation.instance import issuer
from rlu_attestation.log.tally import Tally
from rlu_attestation.merkle import leaf_hash, root_from_consistency, root_from_inclusion

CLOCK_SLACK_S = 60
CODES = {
    "boundary.head": "a head is not signed by the instance that it is said to be of",
    "boundary.tally": "a tally is not under the head, or not at the place that it says",
    "boundary.tallies": "tallies are missing",
    "boundary.instances": "instances do not follow each other",
    "boundary.figures": "a figure is not what the tallies give",
    "boundary.time": "something is from the future",
    "boundary.open.instance": "a key was not compared with that of an instance that was verified",
    "boundary.open.uncounted": "entries that may be of the period are not counted",
    "boundary.entries": "entries that were exported are not what was counted",
    "boundary.open.entries": "entries of the period are not among the exported ones",
    "boundary.open.end": "the tallies that are here end before the period does",
}


@dataclass(frozen=True, slots=True)
class Point:
    """Something found; `code` is a key of `CODES`."""

    code: str
    detail: str

    def to_json(self) -> dict[str, str]:
        return {"code": self.code, "meaning": CODES[self.code], "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Examined:
    """A report that was looked at.

    Attributes:
        false: what rejects it.
        open: what it leaves open.
        covered: from when to when the tallies of the period count; None for the log's beginning, or when there are none.
    """

    report: Report
    logs: tuple[Log, ...]
    false: tuple[Point, ...]
    open: tuple[Point, ...]
    covered: tuple[int | None, int | None]

    @property
    def result(self) -> str:
        return "rejected" if self.false else "verified_except_open" if self.open else "verified"

    @property
    def exit_code(self) -> int:
        return 10 if self.false else 11 if self.open else 0


def check(report: Report, known: Collection[str], at: int) -> Examined:
    """Look at a report.

    Args:
        known: instances (`iss`) that the reader has verified otherwise, by their evidence.
        at: the time, in seconds since the epoch.

    Raises:
        Malformed: `boundary.claims`: a head, a tally or a path that is none.
    """
    false: list[Point] = []
    logs = []
    for instance in report.instances:
        try:
            logs.append(_read(instance, false))
        except Malformed as error:
            raise Malformed("boundary.claims", error.message) from error
    for place, log in enumerate(logs):
        false += _gaps(log, report.begin, first=place == 0)
        if log.head.iat > at + CLOCK_SLACK_S:
            false.append(Point("boundary.time", f"the head of {log.issuer} is from {log.head.iat}"))
    for before, after, instance in zip(logs, logs[1:], report.instances, strict=False):
        false += _follows(before, after, instance)
    false += _predecessor(logs[0], report.begin) + _successor(logs[-1])
    if report.issued_at > at + CLOCK_SLACK_S:
        false.append(Point("boundary.time", f"the report is from {report.issued_at}"))
    false += _figures(report, compute(logs, report.begin, report.end))
    return Examined(
        report, tuple(logs), tuple(false), tuple(_open(logs, known, report)), _covered(logs, report)
    )


def _read(instance: InstanceLog, false: list[Point]) -> Log:
    """Steps 2 and 3."""
    key = jose.public_key(instance.jwk)
    name = issuer(jose.thumbprint(instance.jwk))
    head = cose.parse_head(instance.head)
    try:
        head.verify(key)
        if head.issuer != name:
            raise Untrusted("boundary.head", "it names another instance")
    except Untrusted as error:
        false.append(Point("boundary.head", f"{name}: {error.message}"))
    tallies = []
    for counted in instance.tallies:
        tally = Tally.parse(counted.statement)
        tallies.append(tally)
        try:
            leaf = leaf_hash(counted.statement)
            under = root_from_inclusion(leaf, tally.next, head.tree_size, counted.path) == head.root
        except RluError:
            under = False
        if not under or tally.issuer != name:
            false.append(
                Point("boundary.tally", f"{name}: tally {tally.number} is no entry {tally.next} of the log")
            )
    return Log(name, head, tuple(tallies))


def _gaps(log: Log, begin: int, *, first: bool) -> list[Point]:
    """Step 4."""
    found = []
    for before, after in zip(log.tallies, log.tallies[1:], strict=False):
        follows = (before.number + 1, before.next + 1, before.issued_at)
        if (after.number, after.first, after.since) != follows:
            found.append(
                Point(
                    "boundary.tallies",
                    f"{log.issuer}: tally {after.number} does not follow tally {before.number}",
                )
            )
    start = log.tallies[0] if log.tallies else None
    if start is not None and start.number > 1 and (start.issued_at >= begin or not first):
        found.append(
            Point("boundary.tallies", f"{log.issuer}: tallies 1 to {start.number - 1} are not all here")
        )
    return found


def _follows(before: Log, after: Log, instance: InstanceLog) -> list[Point]:
    """Step 5, for two instances."""
    if not after.tallies:
        return []  # what it is, nobody has counted: it is open
    named = after.tallies[-1].predecessor
    if named is None or named.issuer != before.issuer:
        return [
            Point("boundary.instances", f"{after.issuer} does not name {before.issuer} as the one before it")
        ]
    try:
        head = cose.parse_head(named.head)
        head.verify(jose.public_key(instance.jwk))
        root = root_from_consistency(head.tree_size, head.root, before.head.tree_size, instance.extends)
    except RluError as error:
        return [Point("boundary.instances", f"{before.issuer}: {error.message}")]
    if root != before.head.root:
        return [
            Point(
                "boundary.instances",
                f"the head of {before.issuer} does not extend the one that {after.issuer} names",
            )
        ]
    return []


def _predecessor(first: Log, begin: int) -> list[Point]:
    """Step 5: is an instance before the first one missing?"""
    start = first.tallies[0] if first.tallies else None
    if start is None or start.issued_at < begin or start.predecessor is None:
        return []
    return [
        Point(
            "boundary.instances",
            f"the log of {start.predecessor.issuer} is not here, and may go into the period",
        )
    ]


def _successor(last: Log) -> list[Point]:
    """Step 5: is an instance after the last one missing?"""
    named = last.tallies[-1].successor if last.tallies else None
    return (
        []
        if named is None
        else [Point("boundary.instances", f"the log of {named} is not here, and begins in what is")]
    )


def _figures(report: Report, expected: Sequence[Figure]) -> list[Point]:
    """Step 6."""
    given = [figure for figure in report.figures if figure.source != ASSERTED]
    found = []
    for figure in report.figures:
        if figure.name not in TITLES or (figure.source == ASSERTED) != figure.name.startswith("egress."):
            found.append(Point("boundary.figures", f"{_named(figure)} cannot be {figure.source}"))
    if not any(figure.name == "egress.journal" for figure in report.figures):
        found.append(Point("boundary.figures", "egress.journal is left out: nothing is said of what left"))
    wanted = {(one.name, one.of): one for one in expected}
    for figure in given:
        right = wanted.pop((figure.name, figure.of), None)
        if right is None:
            found.append(
                Point("boundary.figures", f"{_named(figure)} is there twice, or follows from no tally")
            )
        elif figure != right:
            found.append(
                Point(
                    "boundary.figures",
                    f"{_named(figure)} is {figure.value} here; the tallies give {right.value}, or another source",
                )
            )
    found += [Point("boundary.figures", f"{_named(one)} is left out") for one in wanted.values()]
    return found


def _open(logs: Sequence[Log], known: Collection[str], report: Report) -> list[Point]:
    """Step 7."""
    found = [
        Point("boundary.open.instance", f"{log.issuer}: name it (--instance) after its evidence was verified")
        for log in logs
        if log.issuer not in known
    ]
    for log in logs:
        counted_on = any(tally.issued_at >= report.end for tally in log.tallies)
        if log.uncounted and not counted_on and log.head.iat >= report.begin:
            found.append(
                Point(
                    "boundary.open.uncounted", f"{log.issuer}: {log.uncounted} entries after the last tally"
                )
            )
    last = logs[-1].tallies[-1].issued_at if logs[-1].tallies else report.begin
    if last < report.end:
        found.append(
            Point(
                "boundary.open.end",
                f"no tally is here that was made after the period's end; the last is from {last}",
            )
        )
    return found


def _covered(logs: Sequence[Log], report: Report) -> tuple[int | None, int | None]:
    within = [tally for log in logs for tally in log.within(report.begin, report.end)]
    if not within:
        return None, None
    return within[0].since, max(tally.issued_at for tally in within)


def _named(figure: Figure) -> str:
    of = ", ".join(f"{name} {value}" for name, value in figure.of)
    return f"{figure.name}{f' ({of})' if of else ''}"
