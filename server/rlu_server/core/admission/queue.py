"""Who of those that wait goes to the engine next: start-time fair queueing, in two levels.

Each request costs its estimated tokens. Tenants of one class share it in proportion to their weights; the two classes share the engine
as `batch_share` says, so that batch goes slowly while there is interactive work and never stands still. A share that one does not use
is the others'. Within a tenant and class it is first come, first served.

Every request gets a tag when it comes: the later one of the class's virtual time and the end of its tenant's previous request, whose
end is its tag plus cost over weight. The lowest tag goes first and is the new virtual time (Goyal, Vin, Cheng 1996). So a tenant that
lines up a thousand requests only makes its own tags late, and whoever comes fresh is next. A tenant that was guessed wrong about is
charged the difference with its next request.

The line is bounded. When it is full, the tenant that holds most of it for its weight gives up its newest request.
"""

from __future__ import annotations

import heapq

from rlu_server.core.errors import GatewayError
from rlu_server.core.limits.rules import Priority

_SLACK = 64
"""Entries that may be gone and still in a heap, before it is made anew."""


class Waiting:
    """One request in line."""

    __slots__ = ("cost", "gone", "item", "number", "priority", "since", "tag", "tenant")

    def __init__(
        self, tenant: str, priority: Priority, cost: int, since: float, number: int, item: object
    ) -> None:
        self.tenant = tenant
        self.priority = priority
        self.cost = max(cost, 1)
        self.since = since
        self.number = number
        self.item = item
        self.tag = 0.0
        self.gone = False

    def __lt__(self, other: Waiting) -> bool:
        return (self.tag, self.number) < (other.tag, other.number)


class _Class:
    """The line of one priority."""

    __slots__ = ("count", "ends", "finish", "heap", "share", "virtual")

    def __init__(self, share: float) -> None:
        self.share = share
        self.finish = 0.0
        self.virtual = 0.0
        self.ends: dict[str, float] = {}
        self.heap: list[Waiting] = []
        self.count = 0

    def put(self, one: Waiting, weight: float) -> None:
        one.tag = max(self.virtual, self.ends.get(one.tenant, 0.0))
        self.ends[one.tenant] = one.tag + one.cost / weight
        heapq.heappush(self.heap, one)
        self.count += 1

    def first(self) -> Waiting:
        while self.heap[0].gone:
            heapq.heappop(self.heap)
        return self.heap[0]

    def left(self) -> None:
        """One of them is gone."""
        self.count -= 1
        if not self.count:
            # Nobody waits, so nobody is owed anything.
            self.heap.clear()
            self.ends.clear()
            self.virtual = 0.0
        elif len(self.heap) > 2 * self.count + _SLACK:
            self.heap = [one for one in self.heap if not one.gone]
            heapq.heapify(self.heap)


class FairQueue:
    """Those that wait. Times are seconds of a clock that does not go back."""

    def __init__(self, size: int, batch_share: float) -> None:
        self._size = size
        self._classes = {
            Priority.INTERACTIVE: _Class(1.0 - batch_share),
            Priority.BATCH: _Class(batch_share),
        }
        self._virtual = 0.0
        self._numbers = 0
        self._all: dict[int, Waiting] = {}
        self._tenants: dict[str, dict[int, Waiting]] = {}
        self._weights: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._all)

    def waiting(self, priority: Priority) -> int:
        return self._classes[priority].count

    def put(
        self, tenant: str, weight: float, priority: Priority, cost: int, now: float, item: object
    ) -> tuple[Waiting, Waiting | None]:
        """Get in line.

        Returns:
            The place, and who had to leave for it.

        Raises:
            GatewayError: `queue_full`, when it is this tenant that holds most of the line.
        """
        evicted = None
        if len(self._all) >= self._size:
            evicted = self._surplus(tenant, weight, priority)
            self.remove(evicted)
        one = Waiting(tenant, priority, cost, now, self._numbers, item)
        self._numbers += 1
        self._classes[priority].put(one, weight)
        self._all[one.number] = one
        self._tenants.setdefault(tenant, {})[one.number] = one
        self._weights[tenant] = weight
        return one, evicted

    def pop(self) -> Waiting | None:
        """Whoever is next leaves the line."""
        lines = [line for line in self._classes.values() if line.count]
        if not lines:
            return None
        line = min(lines, key=lambda each: max(self._virtual, each.finish))
        one = line.first()
        self._virtual = max(self._virtual, line.finish)
        line.finish = self._virtual + one.cost / line.share
        line.virtual = one.tag
        self.remove(one)
        return one

    def remove(self, one: Waiting) -> None:
        """It leaves the line, for whatever reason."""
        if one.gone:
            return
        one.gone = True
        del self._all[one.number]
        own = self._tenants[one.tenant]
        del own[one.number]
        if not own:
            del self._tenants[one.tenant]
            del self._weights[one.tenant]
        self._classes[one.priority].left()

    def expired(self, before: float) -> list[Waiting]:
        """Those that have waited since `before` or longer."""
        found = []
        for one in self._all.values():
            if one.since > before:
                break
            found.append(one)
        return found

    def charge(self, tenant: str, weight: float, priority: Priority, tokens: int) -> None:
        """A request of this tenant used so many tokens more (or fewer) than it was taken for."""
        ends = self._classes[priority].ends
        if tenant in ends:
            ends[tenant] += tokens / weight

    def _surplus(self, tenant: str, weight: float, priority: Priority) -> Waiting:
        """The newest request of the tenant that holds most of the line, batch first."""

        def held(name: str) -> float:
            return len(self._tenants[name]) / self._weights[name]

        if not self._tenants:
            raise GatewayError("queue_full")
        most = max(self._tenants, key=held)
        if held(most) <= (len(self._tenants.get(tenant, ())) + 1) / weight:
            most = tenant
        newest = list(reversed(self._tenants.get(most, {}).values()))
        batch = next((one for one in newest if one.priority is Priority.BATCH), None)
        if most != tenant:
            return batch or newest[0]
        if batch is None or priority is Priority.BATCH:
            raise GatewayError("queue_full")
        return batch
