"""From tallies to figures. Whoever makes a report and whoever verifies it compute the same ones, and they must be equal.

A tally belongs to the period in which it was made: its time is not before the period's beginning, and before its end. What happened between
the tally before and the beginning therefore counts for this period, and what happened after the last one for the next; periods that follow
each other share nothing and leave nothing out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rlu_attestation.boundary.report import Figure
from rlu_attestation.cose import SignedHead
from rlu_attestation.encoding import b64u
from rlu_attestation.log.tally import Stated, Tally

PROVEN, LOGGED, ASSERTED = "proven", "logged", "asserted"
TITLES = {
    "entries": "Entries of the log that were counted",
    "entries.uncounted": "Entries of the log after the last tally",
    "sessions": "Sessions opened",
    "receipts": "Responses with a receipt",
    "closes": "Sessions closed",
    "gaps": "Statements that entries were not exported in time",
    "key.sessions": "Sessions opened under a key",
    "rotations": "Changes of the key",
    "starts": "Times that the counter of starts was raised: starts of the attestor, changes of the key",
    "statements.renewed": "Re-attestations: instance statements with fresh evidence, made on schedule",
    "statements.asked": "Instance statements made for somebody's nonce",
    "drift": "Findings of continuous re-attestation",
    "sessions.refused": "Sessions that the attestor refused to open",
    "policy": "Tallies made under a policy of re-attestation",
    "policy.changes": "Changes of the policy of re-attestation",
    "canary": "Tallies that name a report of a canary test",
    "licence": "Tallies that name a licence",
    "egress.journal": "Lines in the journal of what left",
    "egress.attempts": "Attempts to send something out",
    "egress.delivered": "Attempts that were answered with success",
    "egress.sent": "Bytes of content handed over to be sent",
    "egress.received": "Bytes of content received",
}
"""Every figure there is, in words."""


@dataclass(frozen=True, slots=True)
class Log:
    """An instance's tallies, read, and the head that they are under."""

    issuer: str
    head: SignedHead
    tallies: tuple[Tally, ...]

    def within(self, begin: int, end: int) -> Iterator[Tally]:
        """The tallies of a period."""
        return (tally for tally in self.tallies if begin <= tally.issued_at < end)

    @property
    def uncounted(self) -> int:
        """Entries that no tally here counts, after the last one."""
        return self.head.tree_size - (self.tallies[-1].next + 1 if self.tallies else 0)


@dataclass(slots=True)
class _Sum:
    value: int = 0
    runs: list[tuple[int, int, int]] = field(default_factory=list)

    def add(self, value: int, instance: int, number: int) -> None:
        self.value += value
        if self.runs and self.runs[-1][0] == instance and self.runs[-1][2] == number - 1:
            self.runs[-1] = (instance, self.runs[-1][1], number)
        elif not self.runs or self.runs[-1] != (instance, self.runs[-1][1], number):
            self.runs.append((instance, number, number))


_Key = tuple[str, tuple[tuple[str, str], ...]]
_ALWAYS: tuple[_Key, ...] = tuple(
    (name, ())
    for name in (
        "entries",
        "sessions",
        "closes",
        "gaps",
        "rotations",
        "starts",
        "statements.renewed",
        "statements.asked",
        "policy.changes",
    )
)
"""What is there although it is zero."""


def compute(logs: Sequence[Log], begin: int, end: int) -> tuple[Figure, ...]:
    """All figures but the asserted ones, in one order.

    Args:
        logs: oldest instance first.
    """
    sums: dict[_Key, _Sum] = defaultdict(_Sum)
    for key in _ALWAYS:
        sums[key] = _Sum()
    stated = {
        one.profile: one.stated
        for log in logs
        for tally in log.tallies
        for one in tally.profiles
        if one.stated is not None
    }
    before: Tally | None = None
    for place, log in enumerate(logs):
        for tally in log.tallies:
            if begin <= tally.issued_at < end:
                for key, value in (*_of(tally, stated), *_since(before, tally)):
                    sums[key].add(value, place, tally.number)
            before = tally
    figures = [
        Figure(name, of, found.value, PROVEN if name == "entries" else LOGGED, tuple(found.runs))
        for (name, of), found in sums.items()
    ]
    figures += _uncounted(logs, end)
    return tuple(sorted(figures, key=lambda figure: (list(TITLES).index(figure.name), figure.of)))


def asserted(name: str, value: int, **of: str) -> Figure:
    """A figure that only the report's signature stands for."""
    return Figure(name, tuple(sorted(of.items())), value, ASSERTED)


def _of(tally: Tally, stated: dict[bytes, Stated]) -> Iterator[tuple[_Key, int]]:
    """What one tally adds by itself; nothing that is zero, unless it is there always."""
    yield ("entries", ()), tally.next - tally.first
    yield from _some("sessions", tally.sessions)
    for one in tally.profiles:
        yield from _some("sessions", one.sessions, **_where(one.profile, stated))
        yield from _some("statements.renewed", one.renewed)
        yield from _some("statements.asked", one.asked)
    unknown = tally.sessions - sum(one.sessions for one in tally.profiles)
    yield from _some("sessions", unknown, profile="unknown")
    yield (
        (
            "key.sessions",
            (
                ("created", str(tally.key_created)),
                ("hardware", tally.key_hardware),
                ("instance", tally.issuer),
            ),
        ),
        tally.sessions,
    )
    for status, count in sorted(tally.receipts.items()):
        yield from _some("receipts", count, status=status)
    yield from _some("closes", tally.closes)
    yield from _some("gaps", tally.gaps)
    for code, count in sorted(tally.refused.items()):
        yield from _some("sessions.refused", count, code=code)
    for code, count in sorted(tally.drift.items()):
        yield from _some("drift", count, code=code)
    yield from _some("policy", 1, sha256="none" if tally.policy is None else tally.policy.hex())
    if tally.canary is not None:
        known = tally.canary
        yield from _some(
            "canary", 1, digest=b64u(known.digest), reported=str(known.issued_at), result=known.result
        )
    if tally.licence is not None:
        yield from _some("licence", 1, digest=b64u(tally.licence.digest), ends=str(tally.licence.expires_at))


def _since(before: Tally | None, tally: Tally) -> Iterator[tuple[_Key, int]]:
    """What one tally adds by being another than the one before it."""
    if tally.number == 1 and tally.predecessor is not None:
        yield from _some("rotations", 1)
    if before is None:
        return
    yield from _some("starts", max(tally.start_count - before.start_count, 0))
    if tally.policy != before.policy:
        yield from _some("policy.changes", 1)


def _some(name: str, value: int, **of: str) -> Iterator[tuple[_Key, int]]:
    if value:
        yield (name, tuple(sorted(of.items()))), value


def _where(profile: bytes, stated: dict[bytes, Stated]) -> dict[str, str]:
    known = stated.get(profile)
    if known is None:
        return {"profile": b64u(profile)}
    return {
        "boundary": known.boundary,
        "hardware": known.hardware,
        "models": ", ".join(known.models),
        "region": known.region,
        "site": known.site,
    }


def _uncounted(logs: Iterable[Log], end: int) -> list[Figure]:
    return [
        Figure("entries.uncounted", (("instance", log.issuer),), log.uncounted, PROVEN)
        for log in logs
        if log.uncounted and not any(tally.issued_at >= end for tally in log.tallies)
    ]
