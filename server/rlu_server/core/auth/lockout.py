"""Slows guessing down: after some wrong credentials an address waits, each time twice as long.

Three things it must not do. *Lock out a key by its id alone*: ids are not secret, so whoever knows one could take its holder's access away;
what is counted is the address that guessed. *Lock out neighbours*: behind one address are many people, so a credential that was good there
before is still let in while its address waits (it is compared as a whole, so a guess at a neighbour's key waits like any other).
*Grow*: addresses and good credentials are bounded, oldest out first. What is refused while waiting is not checked and not counted, so
that a client which tries again and again does not lengthen its own wait.
"""

from __future__ import annotations

import math

CAPACITY = 65_536
FIRST_S = 2.0


class Lockout:
    """The addresses that guessed wrong.

    Args:
        after: wrong credentials before the first wait; 0: never wait.
        longest_s: the longest wait, and how long a wrong one is remembered.
    """

    __slots__ = ("_after", "_capacity", "_good", "_longest_s", "_wrong")

    def __init__(self, after: int, longest_s: float, capacity: int = CAPACITY) -> None:
        self._after = after
        self._longest_s = longest_s
        self._capacity = capacity
        self._wrong: dict[str, tuple[int, float, int]] = {}
        """Address: how many, until when it waits (if it ever did), and which was the last."""
        self._good: dict[tuple[str, bytes], None] = {}

    def waits(self, address: str, now: float) -> int:
        """Seconds that this address has to wait, rounded up; 0: none."""
        found = self._wrong.get(address)
        if found is None or found[1] <= now:
            return 0
        return max(1, math.ceil(found[1] - now))

    def knows(self, address: str, digest: bytes) -> bool:
        """Was this very credential good from this address before?"""
        return (address, digest) in self._good

    def good(self, address: str, digest: bytes) -> None:
        known = (address, digest)
        if known not in self._good:
            if len(self._good) >= self._capacity:
                del self._good[next(iter(self._good))]
            self._good[known] = None

    def wrong(self, address: str, which: int, now: float) -> bool:
        """Note a wrong credential; whether the address waits from now on.

        Args:
            which: tells credentials apart. The same one again is an agent that repeats itself, not a guess.
        """
        if not self._after or not address:
            return False
        count, until, last = self._wrong.pop(address, (0, now, 0))
        if now - until > self._longest_s:
            count = 0
        fresh = which != last or not count
        count += fresh
        over = count - self._after
        wait = min(self._longest_s, FIRST_S * 2.0 ** min(over, 32)) if over >= 0 and fresh else 0.0
        if len(self._wrong) >= self._capacity:
            del self._wrong[next(iter(self._wrong))]
        self._wrong[address] = (count, now + wait, which)
        return wait > 0
