"""Quotas hold whatever happens, and nothing that went is still counted."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from rlu_server.core.errors import GatewayError
from rlu_server.core.scratch import OVERHEAD, Key, Quotas, Reservation, Scratch

KB = 1024
QUOTAS = Quotas(total=40 * KB, tenant=24 * KB, session=12 * KB, age_s=100.0)
SESSIONS = {"s1": "acme", "s2": "acme", "s3": "acme", "s4": "globex", "s5": "globex", "s6": "initech"}


def full(scratch: Scratch, tenant: str, session: str | None, size: int) -> None:
    before = scratch.total
    with pytest.raises(GatewayError) as caught:
        scratch.reserve(tenant, session, size)
    assert caught.value.code == "scratch_full"
    assert caught.value.status == 507
    assert scratch.total == before


def put(
    scratch: Scratch, session: str, name: str, size: int, *, pinned: bool = True, now: float = 0.0
) -> Key:
    tenant = SESSIONS[session]
    reservation, _ = scratch.reserve(tenant, session, size)
    key = (tenant, "p", name)
    scratch.place(reservation, key, session, size, pinned=pinned, now=now)
    return key


def test_a_full_session_does_not_stop_another():
    scratch = Scratch(QUOTAS)
    put(scratch, "s1", "a", 10 * KB)
    full(scratch, "acme", "s1", 2 * KB)
    put(scratch, "s2", "b", 8 * KB)
    full(scratch, "acme", "s2", 8 * KB)  # the session's
    full(scratch, "acme", "s3", 8 * KB)  # the tenant's
    put(scratch, "s4", "c", 8 * KB)


def test_a_full_total_takes_nothing_from_other_tenants():
    scratch = Scratch(QUOTAS)
    for number, session in enumerate(("s1", "s2", "s4")):
        put(scratch, session, str(number), 11 * KB, pinned=False)
    full(scratch, "initech", "s6", 6 * KB)
    assert len(scratch.entries) == 3


def test_what_nobody_asked_for_does_not_shut_out_a_tenant_that_asks():
    """Two tenants whose clients never look back fill everything; a third one continues a conversation."""
    scratch = Scratch(QUOTAS)
    for number, session in enumerate(("s1", "s2", "s4", "s5")):
        put(scratch, session, str(number), 8 * KB, pinned=False)
    pinned = put(scratch, "s3", "asked", KB)
    full(scratch, "initech", "s6", 6 * KB)
    _, gone = scratch.reserve("initech", "s6", 6 * KB, asked=True)
    assert gone == [("acme", "p", "0")], "of the tenant that holds most, what is oldest"
    assert pinned in scratch.entries
    assert scratch.total <= QUOTAS.total


def test_a_tenant_that_holds_more_takes_nothing_from_one_that_holds_less():
    scratch = Scratch(QUOTAS)
    put(scratch, "s1", "a", 11 * KB)
    put(scratch, "s2", "b", 4 * KB)
    for number, session in enumerate(("s4", "s6")):
        put(scratch, session, str(number), 8 * KB, pinned=False)
    with pytest.raises(GatewayError):
        scratch.reserve("acme", "s3", 5 * KB, asked=True)
    assert len(scratch.entries) == 4


def test_what_nobody_asked_for_gives_way_oldest_first():
    scratch = Scratch(QUOTAS)
    keys = [put(scratch, "s1", str(n), 3 * KB, pinned=False, now=n) for n in range(3)]
    scratch.use(keys[0], 5.0)
    _, gone = scratch.reserve("acme", "s1", 3 * KB)
    assert gone == [keys[1]]
    scratch.use(keys[0], 6.0, pin=True)
    _, gone = scratch.reserve("acme", "s1", 3 * KB)
    assert gone == [keys[2]]
    full(scratch, "acme", "s1", 3 * KB)


def test_of_what_would_not_be_enough_nothing_goes():
    scratch = Scratch(QUOTAS)
    put(scratch, "s1", "pinned", 9 * KB)
    loose = put(scratch, "s1", "loose", 0, pinned=False)
    full(scratch, "acme", "s1", 4 * KB)
    assert loose in scratch.entries


def test_more_than_was_promised_needs_room_too():
    scratch = Scratch(QUOTAS)
    reservation, _ = scratch.reserve("acme", "s1", KB)
    with pytest.raises(GatewayError):
        scratch.place(reservation, ("acme", "p", "x"), "s1", 12 * KB, pinned=True, now=0.0)
    assert scratch.total == 0
    full(scratch, "acme", None, 12 * KB)


def test_names_are_given_once_and_stay_in_their_tenant():
    scratch = Scratch(QUOTAS)
    put(scratch, "s1", "a", 1)
    for key, tenant in ((("acme", "p", "a"), "acme"), (("acme", "p", "b"), "globex")):
        reservation, _ = scratch.reserve(tenant, None, 1)
        with pytest.raises(ValueError, match=r"taken|another"):
            scratch.place(reservation, key, "s1", 1, pinned=True, now=0.0)
    assert scratch.total == 1 + OVERHEAD


def test_age_counts_from_the_last_use():
    scratch = Scratch(QUOTAS)
    old, used = put(scratch, "s1", "old", 1, now=0.0), put(scratch, "s1", "used", 1, now=1.0)
    scratch.use(used, 90.0)
    assert scratch.expire(99.9) == []
    assert scratch.expire(100.0) == [old]
    assert scratch.expire(189.9) == []
    assert scratch.expire(190.0) == [used]
    assert scratch.total == 0


class Books(RuleBasedStateMachine):
    """Any order of everything. `kept` is what the owner of the content would still hold."""

    reservations = Bundle("reservations")

    def __init__(self) -> None:
        super().__init__()
        self.scratch = Scratch(QUOTAS)
        self.kept: dict[Key, int] = {}
        self.promised: dict[Reservation, int] = {}
        self.now = 0.0
        self.serial = 0

    def _gone(self, keys: list[Key]) -> None:
        for key in keys:
            del self.kept[key]

    @rule(
        target=reservations,
        session=st.sampled_from(sorted(SESSIONS)),
        known=st.booleans(),
        size=st.integers(0, 14 * KB),
        asked=st.booleans(),
    )
    def reserve(self, session: str, known: bool, size: int, asked: bool) -> tuple[str, Reservation | None]:
        place = session if known else None
        try:
            made, gone = self.scratch.reserve(SESSIONS[session], place, size, asked=asked)
        except GatewayError:
            return session, None
        self._gone(gone)
        self.promised[made] = made.size
        return session, made

    @rule(made=consumes(reservations), size=st.integers(0, 14 * KB), pinned=st.booleans())
    def place(self, made: tuple[str, Reservation | None], size: int, pinned: bool) -> None:
        session, reservation = made
        if reservation is None:
            return
        del self.promised[reservation]
        self.serial += 1
        key = (SESSIONS[session], "p", str(self.serial))
        try:
            gone = self.scratch.place(reservation, key, session, size, pinned=pinned, now=self.now)
        except GatewayError:
            return
        self._gone(gone)
        self.kept[key] = size + OVERHEAD

    @rule(made=consumes(reservations))
    def release(self, made: tuple[str, Reservation | None]) -> None:
        if made[1] is not None:
            del self.promised[made[1]]
            self.scratch.release(made[1])

    @rule(data=st.data(), pin=st.booleans())
    def use(self, data: st.DataObject, pin: bool) -> None:
        if self.kept:
            self.scratch.use(data.draw(st.sampled_from(sorted(self.kept))), self.now, pin=pin)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.kept:
            key = data.draw(st.sampled_from(sorted(self.kept)))
            self.scratch.remove(key)
            del self.kept[key]

    @rule(session=st.sampled_from(sorted(SESSIONS)))
    def close(self, session: str) -> None:
        self._gone(self.scratch.close(session))
        assert all(entry.session != session for entry in self.scratch.entries.values())

    @rule(seconds=st.floats(0, 60))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self._gone(self.scratch.expire(self.now))
        assert all(self.now < entry.used + QUOTAS.age_s for entry in self.scratch.entries.values())

    @invariant()
    def quotas_hold_and_the_books_balance(self) -> None:
        scratch = self.scratch
        assert self.kept == {key: entry.size for key, entry in scratch.entries.items()}
        assert scratch.total == sum(self.kept.values()) + sum(self.promised.values()) <= QUOTAS.total
        for tenant in set(SESSIONS.values()):
            own = sum(size for key, size in self.kept.items() if key[0] == tenant)
            own += sum(size for made, size in self.promised.items() if made.tenant == tenant)
            assert own == scratch.of_tenant(tenant) <= QUOTAS.tenant
        for session in SESSIONS:
            entries = sum(e.size for e in scratch.entries.values() if e.session == session)
            entries += sum(size for made, size in self.promised.items() if made.session == session)
            assert entries == scratch.of_session(session) <= QUOTAS.session


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
