"""Thousands of needles in one pass over bytes. Pure.

Wherever a needle lies, one of its 8-byte windows is aligned in the buffer. So the buffer is read as 64-bit numbers, and each is looked up
in a table of the windows of all needles: a bitmap first, the sorted windows for the few that pass it, and a comparison of the whole needle
for what is left. The cost does not depend on the number of needles, and random data is passed at gigabytes a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from rlu_server.selftest.forms import SHORTEST, Needle

WIDTH = 8
_TABLE_BITS = 22
_AT_ONCE = 1 << 16
"""Numbers that are looked up at once: as many as a processor's cache holds."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(64 - _TABLE_BITS)


class Index:
    """Finds needles.

    Attributes:
        needles: what is looked for; findings are positions in it.
        longest: bytes of the longest one, by which buffers have to overlap.
    """

    def __init__(self, needles: Iterable[Needle]) -> None:
        """Raises ValueError for a needle of fewer than SHORTEST bytes, which might have no aligned window."""
        self.needles = tuple({(n.data, n.form, n.scenario): n for n in needles}.values())
        if any(len(needle.data) < SHORTEST for needle in self.needles):
            raise ValueError(f"a needle has at least {SHORTEST} bytes")
        self.longest = max((len(needle.data) for needle in self.needles), default=0)
        self._entries: dict[int, list[tuple[int, int]]] = {}
        for number, needle in enumerate(self.needles):
            for offset in range(WIDTH):
                window = int.from_bytes(needle.data[offset : offset + WIDTH], "little")
                self._entries.setdefault(window, []).append((number, offset))
        self._windows: npt.NDArray[np.uint64] = np.array(sorted(self._entries), dtype=np.uint64)
        self._table: npt.NDArray[np.bool_] = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
        self._table[_hashed(self._windows)] = True

    def find(self, buffer: bytes) -> Iterator[tuple[int, int]]:
        """Offset and needle of everything that lies in the buffer as a whole, in no order, without repetition."""
        if not self.needles:
            return
        numbers = np.frombuffer(buffer, dtype="<u8", count=len(buffer) // WIDTH)
        places = self._candidates(numbers)
        if not places.size:
            return
        values = numbers[places]
        nearest = np.minimum(np.searchsorted(self._windows, values), self._windows.size - 1)
        seen: set[tuple[int, int]] = set()
        for place in places[self._windows[nearest] == values].tolist():
            for number, offset in self._entries[int(numbers[place])]:
                start = place * WIDTH - offset
                found = (start, number)
                if start >= 0 and found not in seen and buffer.startswith(self.needles[number].data, start):
                    seen.add(found)
                    yield found

    def _candidates(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        found = []
        for start in range(0, len(numbers), _AT_ONCE):
            hashes = _hashed(numbers[start : start + _AT_ONCE])
            found.append(np.flatnonzero(self._table.take(hashes, mode="wrap")) + start)
        return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _hashed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    products = numbers * _MULTIPLIER
    products >>= _SHIFT
    return products.view(np.int64)
