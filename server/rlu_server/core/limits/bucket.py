"""So much a minute: a bucket that holds one minute's worth and fills again evenly.

Whoever was idle may use a whole minute's worth at once, so in the worst minute twice the limit passes. What a request used in truth is
settled afterwards, and may take the level below zero: then the next request waits until the debt is paid. More than `MAX_DEBT_MINUTES`
are not owed, so that one enormous request does not shut its tenant out for hours.
"""

from __future__ import annotations

MAX_DEBT_MINUTES = 10.0
_ROUNDING = 1e-6


class Bucket:
    """Times are seconds of a clock that does not go back."""

    __slots__ = ("_at", "_level", "per_minute")

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at = now

    def level(self, now: float) -> float:
        """What may be taken now; negative while there is a debt."""
        if now > self._at:
            filled = self._level + (now - self._at) * self.per_minute / 60.0
            self._level = min(filled, float(self.per_minute))
            self._at = now
        return self._level

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` can be taken; 0 when it can be now. More than a minute's worth counts as a minute's worth."""
        missing = min(amount, self.per_minute) - self.level(now)
        return 0.0 if missing <= _ROUNDING else missing * 60.0 / self.per_minute

    def full_in_s(self, now: float) -> float:
        return (self.per_minute - self.level(now)) * 60.0 / self.per_minute

    def take(self, amount: float, now: float) -> None:
        """Take, also what is not there. A negative amount is given back."""
        most_owed = -MAX_DEBT_MINUTES * self.per_minute
        self._level = min(max(self.level(now) - amount, most_owed), float(self.per_minute))

    def resize(self, per_minute: int, now: float) -> None:
        """Another limit from now on; what was used stays used."""
        used = self.per_minute - self.level(now)
        self.per_minute = per_minute
        self._level = max(per_minute - used, -MAX_DEBT_MINUTES * per_minute)
