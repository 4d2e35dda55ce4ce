"""How much of the scratch everybody may use: the accounting, and nothing of the content.

What is kept for a session counts for the session, for its tenant and for all together; none of the three ever exceeds its quota. Room is
reserved before a request goes to the engine and turned into an entry when there is something to keep. What a client asked to have kept
stays until it expires, is deleted or its session ends; beyond the quota further requests of that session or tenant are refused
(`scratch_full`) and all others go on. What is kept only because that is the API's default gives way, least recently used first: to its own
tenant, and, where the total is short, to what a tenant that holds less has asked for, so that tenants which never look back do not shut
others out. Time is always an argument, in seconds.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from rlu_server.core.errors import GatewayError

OVERHEAD = 1024
"""What an entry counts on top of its content, for names and bookkeeping: empty ones are not free."""

Key = tuple[str, str, str]
"""Tenant's pseudonym, principal's pseudonym, name."""


@dataclass(frozen=True, slots=True)
class Quotas:
    """Most bytes for all, for one tenant and for one session, and how many seconds something is kept without being used."""

    total: int
    tenant: int
    session: int
    age_s: float


@dataclass(slots=True, eq=False)
class Reservation:
    """Room that was promised. `session` is None until it is known."""

    tenant: str
    session: str | None
    size: int


@dataclass(slots=True, eq=False)
class Entry:
    """Something that is kept. `pinned`: it was asked for, and does not give way."""

    key: Key
    session: str
    size: int
    pinned: bool
    used: float


class Scratch:
    """The books. Every method that makes entries go returns their keys; whoever holds the content wipes it then."""

    def __init__(self, quotas: Quotas) -> None:
        self.quotas = quotas
        self.entries: OrderedDict[Key, Entry] = OrderedDict()
        """Least recently used first."""
        self._total = 0
        self._tenants: Counter[str] = Counter()
        self._sessions: Counter[str] = Counter()
        self._of_session: dict[str, OrderedDict[Key, Entry]] = {}
        self._of_tenant: dict[str, OrderedDict[Key, Entry]] = {}

    @property
    def total(self) -> int:
        """Bytes that are kept or promised."""
        return self._total

    def of_tenant(self, tenant: str) -> int:
        return self._tenants[tenant]

    def of_session(self, session: str) -> int:
        return self._sessions[session]

    def reserve(
        self, tenant: str, session: str | None, size: int, *, asked: bool = False
    ) -> tuple[Reservation, list[Key]]:
        """Promise room for one entry whose content will have about `size` bytes.

        Args:
            asked: a client asked for it to be kept.

        Raises:
            GatewayError: `scratch_full`; nothing has changed then.
        """
        size += OVERHEAD
        gone = self._make_room(tenant, session, size, asked)
        self._count(tenant, session, size)
        return Reservation(tenant, session, size), gone

    def release(self, reservation: Reservation) -> None:
        """Give the promised room back."""
        self._count(reservation.tenant, reservation.session, -reservation.size)
        reservation.size = 0

    def place(
        self, reservation: Reservation, key: Key, session: str, size: int, *, pinned: bool, now: float
    ) -> list[Key]:
        """Turn a reservation into an entry; it is used up in any case.

        Raises:
            GatewayError: `scratch_full`, when there turned out to be more than was promised and there is no room for that; or when the
                name is taken (`ValueError`).
        """
        self.release(reservation)
        if key in self.entries:
            raise ValueError("this name is taken")
        if key[0] != reservation.tenant:
            raise ValueError("the room is another tenant's")
        size += OVERHEAD
        gone = self._make_room(key[0], session, size, pinned)
        entry = Entry(key, session, size, pinned, now)
        self._count(key[0], session, size)
        self.entries[key] = entry
        self._of_session.setdefault(session, OrderedDict())[key] = entry
        self._of_tenant.setdefault(key[0], OrderedDict())[key] = entry
        return gone

    def use(self, key: Key, now: float, *, pin: bool = False) -> None:
        """It was used, and is young again."""
        entry = self.entries[key]
        entry.used = now
        entry.pinned = entry.pinned or pin
        for order in (self.entries, self._of_session[entry.session], self._of_tenant[key[0]]):
            order.move_to_end(key)

    def remove(self, key: Key) -> None:
        """It is gone. Raises KeyError."""
        entry = self.entries.pop(key)
        self._count(key[0], entry.session, -entry.size)
        for index, name in ((self._of_session, entry.session), (self._of_tenant, key[0])):
            del index[name][key]
            if not index[name]:
                del index[name]

    def close(self, session: str) -> list[Key]:
        """A session has ended: nothing of it stays."""
        gone = list(self._of_session.get(session, ()))
        for key in gone:
            self.remove(key)
        return gone

    def expire(self, now: float) -> list[Key]:
        """What was not used for too long."""
        gone: list[Key] = []
        while self.entries:
            entry = next(iter(self.entries.values()))
            if now < entry.used + self.quotas.age_s:
                break
            self.remove(entry.key)
            gone.append(entry.key)
        return gone

    def _count(self, tenant: str, session: str | None, size: int) -> None:
        self._total += size
        names = [(self._tenants, tenant), *([(self._sessions, session)] if session is not None else [])]
        for counts, name in names:
            counts[name] += size
            if not counts[name]:
                del counts[name]

    def _make_room(self, tenant: str, session: str | None, size: int, asked: bool) -> list[Key]:
        """Let entries go that may: of the session, of the tenant, and of tenants that hold more. All or nothing."""
        quotas = self.quotas
        if session is None and size > quotas.session:
            raise GatewayError("scratch_full")
        over_session = 0 if session is None else max(self._sessions[session] + size - quotas.session, 0)
        over_tenant = max(self._tenants[tenant] + size - quotas.tenant, 0)
        over_total = max(self._total + size - quotas.total, 0)
        if not over_session and not over_tenant and not over_total:
            return []
        going: dict[Key, Entry] = {}
        own = self._of_session.get(session) if session is not None else None
        freed = _let_go(own, over_session, going, 0)
        if freed < over_session:
            raise GatewayError("scratch_full")
        freed = _let_go(self._of_tenant.get(tenant), max(over_tenant, over_total), going, freed)
        if freed < over_tenant:
            raise GatewayError("scratch_full")
        if asked and freed < over_total:
            mine = self._tenants[tenant] - freed + size
            for other, held in self._tenants.most_common():
                if other != tenant and held > mine:
                    wanted = min(over_total, freed + held - mine)
                    freed = _let_go(self._of_tenant.get(other), wanted, going, freed)
        if freed < over_total:
            raise GatewayError("scratch_full")
        for key in going:
            self.remove(key)
        return list(going)


def _let_go(entries: Mapping[Key, Entry] | None, wanted: int, going: dict[Key, Entry], freed: int) -> int:
    """Add entries that may go to `going` until `wanted` bytes are free, of which `freed` were so before; how many are now."""
    for key, entry in (entries or {}).items():
        if freed >= wanted:
            break
        if not entry.pinned and key not in going:
            going[key] = entry
            freed += entry.size
    return freed
