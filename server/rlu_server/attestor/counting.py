"""Counts what the log holds, for the tallies in it (FORMATS section 11.6). No I/O, clock or hidden randomness.

Kinds and statuses are counted from what is kept beside the leaves, some at a time, after their head was signed: nothing is done for it
in the path of a receipt. What is not kept there (a session's profile, statements that were made, refusals) is noted as it happens.

Where what is kept beside the leaves is damaged, no more tallies are made, and everything else goes on; a report then says what is not
counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.log.tally import MAX_CODES, MAX_PROFILES, MAX_TALLY, OfProfile, Stated, Tally, is_code
from rlu_attestation.mentions import CanaryMention, LicenceMention
from rlu_server.attestor import records
from rlu_server.attestor.composition import Stamp
from rlu_server.attestor.facts import Key
from rlu_server.attestor.tiles import STATUSES, TiledTree

AT_ONCE = 262_144
"""Leaves that are counted between two looks at the clock: some milliseconds."""


@dataclass(slots=True)
class Noted:
    """What no leaf says; a tally takes it away when it is in the log."""

    refused: Counter[str] = field(default_factory=Counter)
    drift: Counter[str] = field(default_factory=Counter)
    renewed: Counter[bytes] = field(default_factory=Counter)
    asked: Counter[bytes] = field(default_factory=Counter)

    def less(self, tally: Tally) -> None:
        """What came after the tally was made stays."""
        self.refused -= Counter(tally.refused)
        self.drift -= Counter(tally.drift)
        self.renewed -= Counter({one.profile: one.renewed for one in tally.profiles})
        self.asked -= Counter({one.profile: one.asked for one in tally.profiles})


class Counting:
    """What was counted since the last tally of one log.

    Attributes:
        pending: a tally waits for its head.
        damaged: code of what is wrong with what is kept beside the leaves; None: nothing.
        successor: the instance that opens sessions since this one's key stepped down.
    """

    def __init__(self, tree: TiledTree) -> None:
        self.pending = False
        self.damaged: str | None = None
        self.successor: str | None = None
        self._tree = tree
        self._number = 0
        self._first = 0
        self._since: int | None = None
        self._counted = 0
        self._kinds: Counter[str] = Counter()
        self._sessions: Counter[bytes] = Counter()
        self._noted = Noted()
        self._stated: dict[bytes, Stated] = {}
        self._canary: CanaryMention | None = None
        self._licence: LicenceMention | None = None
        self._key: Callable[[], Key] | None = None
        self._policy: bytes | None = None
        self._began = 0

    def begin(self, key: Callable[[], Key], now: int, policy: bytes | None) -> None:
        """From now on tallies are made.

        Args:
            key: what statements say of the key.
            policy: digest of the policy of continuous re-attestation.
        """
        self._key, self._began, self._policy = key, now, policy

    # --- what happens ---

    def opened(self, profile: bytes) -> None:
        """A session is in the log."""
        self._sessions[profile] += 1

    def attested(self, claims: InstanceClaims, profile: bytes) -> None:
        """A statement was made."""
        (self._noted.renewed if claims.nonce is None else self._noted.asked)[profile] += 1
        self._stated[profile] = Stated.of(claims)
        self._canary, self._licence = claims.canary, claims.licence

    def refused(self, code: str) -> None:
        """A session was not opened."""
        _note(self._noted.refused, code)

    def drifted(self, code: str) -> None:
        """Continuous re-attestation found something."""
        _note(self._noted.drift, code)

    # --- tallies ---

    def due(self, now: int, interval_s: int, signed_size: int) -> bool:
        """Is a tally to be made? Counts some of the leaves under the latest head."""
        if self._key is None or self.pending:
            return False
        try:
            self._advance(min(signed_size, self._counted + AT_ONCE))
        except RluError as error:
            self._give_up(error)
            return False
        last = self._began if self._since is None else self._since
        return now >= last + interval_s and self._counted + AT_ONCE >= signed_size

    def last_is_due(self, signed_size: int) -> bool:
        """Is one to be made before the attestor ends, because sessions or receipts are not counted yet?"""
        return self._key is not None and not self.pending and signed_size > self._first

    def tally(self, stamp: Stamp, index: int, opening: Iterable[bytes]) -> Tally | None:
        """The tally whose leaf gets this index; nothing has changed until `logged`. None if the leaves cannot be counted.

        Args:
            opening: profiles of the sessions that are logged with it, before it.
        """
        assert self._key is not None
        try:
            return self._tally(self._key(), stamp, index, opening)
        except RluError as error:
            self._give_up(error)
            return None

    def _tally(self, key: Key, stamp: Stamp, index: int, opening: Iterable[bytes]) -> Tally:
        kinds = self._kinds + _counts(self._tree, self._counted, index)
        sessions = self._sessions + Counter(opening)
        noted = self._noted
        profiles = sorted({*sessions, *noted.renewed, *noted.asked})[:MAX_PROFILES]
        made = Tally(
            issuer=stamp.issuer,
            issued_at=max(stamp.now, self._since or 0),
            blind=stamp.blind,
            number=self._number + 1,
            first=self._first,
            next=index,
            since=self._since,
            start_count=key.start_count,
            key_created=key.created,
            key_hardware=key.hardware,
            predecessor=key.predecessor,
            sessions=kinds["session"],
            profiles=tuple(
                OfProfile(one, sessions[one], noted.renewed[one], noted.asked[one], self._stated.get(one))
                for one in profiles
            ),
            receipts={status: kinds[status] for status in STATUSES[1:]},
            closes=kinds["close"],
            gaps=kinds["gap"],
            refused=dict(noted.refused),
            drift=dict(noted.drift),
            policy=self._policy,
            canary=self._canary,
            licence=self._licence,
            successor=self.successor,
        )
        return made if len(made.encode()) <= MAX_TALLY else _without_names(made)

    def logged(self, tally: Tally) -> None:
        """A tally is in the log: what it counted is not counted again."""
        self._noted.less(tally)
        self.replayed(tally)
        self.pending = False

    def replayed(self, tally: Tally) -> None:
        """A tally was read from the log."""
        self._number, self._since = tally.number, tally.issued_at
        self._first = self._counted = tally.next + 1
        self._kinds.clear()
        self._sessions.clear()
        for one in tally.profiles:
            if one.stated is not None:
                self._stated[one.profile] = one.stated

    # --- across segments ---

    def snapshot(self) -> records.CountedRecord:
        """What the next segment has to say of the tallies before it."""
        return records.CountedRecord(
            first=self._first,
            iat=self._since,
            number=self._number,
            sessions={b64u(profile): count for profile, count in self._sessions.items()},
        )

    def resume(self, record: records.CountedRecord) -> None:
        """Go on from a snapshot."""
        self._number, self._since = record.number, record.iat
        self._first = self._counted = record.first
        self._sessions = Counter({unb64u(profile): count for profile, count in record.sessions.items()})

    def _give_up(self, error: RluError) -> None:
        """Numbers that contradict each other are not signed, and whoever opens sessions does not suffer for it."""
        self._key, self.pending, self.damaged = None, False, error.code

    def _advance(self, size: int) -> None:
        if size > self._counted:
            self._kinds += _counts(self._tree, self._counted, size)
            self._counted = size


def _counts(tree: TiledTree, start: int, end: int) -> Counter[str]:
    """Leaves of each kind but receipts, and receipts by their status."""
    found: Counter[str] = Counter()
    for at in range(start, end, AT_ONCE):
        found += tree.counts(at, min(at + AT_ONCE, end))
    return found


def _note(counter: Counter[str], code: str) -> None:
    fits = is_code(code) and (code in counter or len(counter) < MAX_CODES - 1)
    counter[code if fits else "other"] += 1


def _without_names(tally: Tally) -> Tally:
    """Names that an operator made longer than an entry may be are left out; the profile digests stand for them."""
    return replace(tally, profiles=tuple(replace(one, stated=None) for one in tally.profiles))
