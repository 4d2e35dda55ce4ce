"""Which of several replicas a conversation's requests go to.

Rendezvous hashing with bounded loads: every replica gets a score for the conversation, the highest wins, so that a conversation stays where
its prefix is cached, and a replica that comes or goes moves only the conversations that it gains or had. A replica that has much more in
flight than its share is passed over for the next in the conversation's own order: a cold cache costs less than a queue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

SLACK = 8
"""Requests in flight up to which a replica is never passed over: so few cost nobody a wait."""
EXCESS_PERCENT = 150
"""Of the mean load of the replicas, what one of them may have before its conversations spill."""


def ranked(key: bytes, names: Iterable[str]) -> list[str]:
    """The replicas in the order in which a conversation prefers them. It depends on nothing but the key and the names."""
    return sorted(names, key=lambda name: (_score(key, name), name), reverse=True)


def place(key: bytes, loads: Mapping[str, int]) -> str:
    """The replica for the next request of a conversation.

    Args:
        loads: requests in flight of each replica that can take one; not empty.
    """
    if len(loads) == 1:
        return next(iter(loads))
    # With the request that is to be placed; rounded up, so that the bound is never below the mean and somebody is always within it.
    bound = max(SLACK, -(-EXCESS_PERCENT * (sum(loads.values()) + 1) // (100 * len(loads))))
    return next(name for name in ranked(key, loads) if loads[name] < bound)


def _score(key: bytes, name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8"), digest_size=8, key=key[:64]).digest()
