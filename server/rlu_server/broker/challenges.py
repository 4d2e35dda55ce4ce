"""The broker's nonces: each good once, and for two minutes.

A challenge carries its end and our tag over it, so that asking for many takes no memory. What is remembered is the used ones, until
their end. A broker that is started again knows none of the old ones.

    challenge = u64(end, milliseconds) ‖ 24 random bytes ‖ HMAC-SHA256(secret, the 32 bytes before)
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from threading import Lock

from rlu_server.broker.errors import BrokerUnready, NotReleased

LIFE_S = 120.0
MAX_USED = 100_000
_RANDOM = 24


class Challenges:
    """Safe for threads. Times are seconds of one monotonic clock.

    Args:
        secret: 32 random bytes of this run.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._used: OrderedDict[bytes, int] = OrderedDict()
        self._lock = Lock()

    def make(self, now: float, random: bytes) -> bytes:
        """A new one; `random` has 24 bytes."""
        if len(random) != _RANDOM:
            raise ValueError(f"a challenge takes {_RANDOM} random bytes")
        body = int((now + LIFE_S) * 1000).to_bytes(8, "big") + random
        return body + self._tag(body)

    def use(self, challenge: bytes, now: float) -> None:
        """Take one back, for ever.

        Raises:
            NotReleased: `broker.challenge.unknown`: not of this run; `.expired`; `.used`.
            BrokerUnready: `broker.busy`: too many were used just now.
        """
        body, tag = challenge[:32], challenge[32:]
        if not hmac.compare_digest(self._tag(body), tag):
            raise NotReleased(
                "broker.challenge.unknown", "this broker gave no such challenge since it was started"
            )
        end, moment = int.from_bytes(body[:8], "big"), int(now * 1000)
        if moment > end:
            raise NotReleased(
                "broker.challenge.expired", f"the challenge is older than {LIFE_S:.0f} s: ask for a new one"
            )
        with self._lock:
            while self._used and next(iter(self._used.values())) < moment:
                self._used.popitem(last=False)
            if body in self._used:
                raise NotReleased(
                    "broker.challenge.used", "this challenge was answered before: a request is good once"
                )
            if len(self._used) >= MAX_USED:
                raise BrokerUnready("broker.busy", "too many requests; try again in two minutes")
            # Used challenges leave in the order of their coming; one that ends earlier only stays a little longer.
            self._used[body] = end

    def _tag(self, body: bytes) -> bytes:
        return hmac.new(self._secret, body, hashlib.sha256).digest()
