"""How many requests may be at the engine at once.

The engine takes whatever it is given and lets what it cannot run wait in a line of its own, first come first served: there one tenant's
burst is in front of everybody. So it is given only a little more than it can run (`backlog`, so that it never idles between two looks),
and the line is ours. What it can run is not known beforehand (model, lengths, memory): the window doubles while requests wait here and
none waits there, and falls to what the engine runs, plus the backlog, as soon as its own line is longer. When its KV cache is full,
every further request would push out another, so there is no backlog then.
"""

from __future__ import annotations

import msgspec

INITIAL = 256
"""vLLM runs at least so many at once, memory permitting."""
MAX = 1 << 20
KV_FULL = 0.95


class Load(msgspec.Struct, frozen=True):
    """What the engine says about itself; of several, sums, and the fullest cache (0 to 1)."""

    running: int
    waiting: int
    kv_usage: float


class Window:
    """Attributes:
    size: so many requests may be at the engine.
    """

    __slots__ = ("_backlog", "_most", "size")

    def __init__(self, most: int | None, backlog: int) -> None:
        self._most = MAX if most is None else most
        self._backlog = backlog
        self.size = min(INITIAL, self._most)

    def observe(self, load: Load, queued: int, given: int) -> None:
        """The engine was asked.

        Args:
            queued: how many wait here.
            given: how many were let through and are not over. An engine that knows of few of them has not seen the last burst yet.
        """
        spare = 0 if load.kv_usage >= KV_FULL else self._backlog
        if load.waiting > spare:
            self._set(load.running + spare)
        elif queued and not load.waiting and 2 * load.running >= given and load.kv_usage < KV_FULL:
            self._set(2 * max(self.size, load.running))

    def unknown(self) -> None:
        """The engine does not say: only the operator's own bound is left."""
        self._set(MAX)

    def _set(self, size: int) -> None:
        self.size = min(max(size, 1), self._most)
