"""The attestor looks at the licence: whether sessions may be opened, what statements say of it, and who is told before it ends.

Every `LOOK_S` seconds the files are read again, so a licence that was installed counts within seconds, and the standing is judged by the
latest time known: the clock, the log's latest head, and the mark (`licence/mark.py`). Open sessions are never touched: a licence that ends
ends nothing that has begun. Without `[licence] file` none of this runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from rlu_attestation.errors import RluError
from rlu_attestation.mentions import LicenceMention
from rlu_server.attestor.errors import AttestorError
from rlu_server.attestor.events import Event, EventLog
from rlu_server.attestor.messages import LicenceCondition
from rlu_server.licence.mark import Mark
from rlu_server.licence.place import Found, Place
from rlu_server.licence.standing import Standing, judge

LOOK_S = 2.0
BEHIND_S = 120
"""A clock that is so much behind the latest time known was set back; less is what clocks do."""
INVALID = "licence_invalid"
_EVENTS = {
    "valid": Event.LICENCE_VALID,
    "grace": Event.LICENCE_GRACE,
    "expired": Event.LICENCE_EXPIRED,
    "not_yet": Event.LICENCE_NOT_YET,
}
_MESSAGES = {
    "licence_expired": "the licence has ended, and its grace period is over",
    "licence_not_yet": "the licence is not in force yet",
    INVALID: "there is no licence that a known vendor signed",
}


class Telling(msgspec.Struct, frozen=True):
    """What was told last."""

    state: str
    warning: int | None


class Licensing:
    """One attestor's licence.

    Attributes:
        standing: as of the last look; None: there is no licence that verifies.
        mention: what instance statements say.
    """

    def __init__(self, place: Place, mark: Mark, clock: Callable[[], int], events: EventLog) -> None:
        self._place = place
        self._mark = mark
        self._clock = clock
        self._events = events
        self._told: Telling | None = None
        self._set_back = False
        self.standing: Standing | None = None
        self.mention: LicenceMention | None = None
        if mark.broken:
            events.emit(Event.LICENCE_TIME, "licence.mark")

    @property
    def refusal(self) -> str | None:
        """The code with which sessions are refused."""
        standing = self.standing  # the thread that looks may change it
        return INVALID if standing is None else standing.refusal

    def check(self) -> None:
        """May a session be opened?

        Raises:
            AttestorError: `licence_expired`, `licence_not_yet`, `licence_invalid`.
        """
        refusal = self.refusal
        if refusal is not None:
            raise AttestorError(refusal, _MESSAGES[refusal])

    def condition(self) -> LicenceCondition:
        """For the operator's metrics."""
        standing = self.standing
        if standing is None:
            return LicenceCondition(ends_in_s=None, refuses_in_s=None, refusing=True)
        at = max(self._clock(), self._mark.at)
        return LicenceCondition(
            ends_in_s=standing.ends_at - at,
            refuses_in_s=standing.refuses_at - at,
            refusing=standing.refusal is not None,
        )

    async def run(self, head_at: Callable[[], int]) -> None:
        """Look until cancelled.

        Args:
            head_at: time of the latest signed head.
        """
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.look, head_at())  # the mark is written to the disk

    def look(self, head_at: int) -> None:
        """Read everything, and judge it."""
        at = self._latest(head_at)
        try:
            found = self._place.find()
        except RluError as error:
            self.standing = self.mention = None
            self._tell(Telling(error.code, None), Event.LICENCE_INVALID, error.code)
            return
        self._judge(found, at)

    def _judge(self, found: Found, at: int) -> None:
        standing = judge(found.licence, found.answer, at)
        self.standing = standing
        self.mention = LicenceMention(found.digest, found.licence.expires_at)
        self._tell(Telling(standing.state, standing.warning), _EVENTS[standing.state], None)

    def _tell(self, now: Telling, event: Event, code: str | None) -> None:
        before, self._told = self._told, now
        if before == now:
            return
        if now.warning is not None:
            self._events.emit(Event.LICENCE_ENDING, count=now.warning)
        else:
            self._events.emit(event, code)

    def _latest(self, head_at: int) -> int:
        now = self._clock()
        known = max(head_at, self._mark.at)
        set_back = now < known - BEHIND_S
        if set_back and not self._set_back:
            self._events.emit(Event.LICENCE_TIME, "clock.set_back")
        self._set_back = set_back
        try:
            return self._mark.advance(max(now, head_at))
        except OSError as error:
            self._events.emit(Event.LICENCE_TIME, f"errno.{error.errno}")
            return max(now, known)
