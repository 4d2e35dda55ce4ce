"""The session table, with time as an argument."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rlu_server.core import sessions
from rlu_server.core.apikeys import Principal
from rlu_server.core.errors import GatewayError
from rlu_server.core.sessions import KEEP_CLOSED_S, Logged, Session, SessionTable, State

ALICE = Principal("acme", "alice", "k1", "T-acme", "P-alice")
BOB = Principal("globex", "bob", "k2", "T-globex", "P-bob")
LOGGED = Logged(b"{}", 0)


def session(
    name: str, now: float, *, owner: Principal = ALICE, ttl: float = 100, idle: float = 10
) -> Session:
    return Session(
        id=name,
        raw_id=bytes(16),
        tenant=owner.tenant_pseudonym,
        principal=owner.pseudonym,
        commitment_key=bytes(32),
        opened=LOGGED,
        inclusion=b"",
        opened_at=int(now),
        expires=int(now + ttl),
        expires_at=now + ttl,
        idle_s=idle,
        last_used=now,
        conversation=name.encode(),
    )


def table(*sessions: Session, maximum: int = 10, kept: int = 3) -> SessionTable:
    made = SessionTable(maximum, kept)
    for each in sessions:
        made.add(each)
    return made


def code(call, *arguments) -> str:
    with pytest.raises(GatewayError) as caught:
        call(*arguments)
    return caught.value.code


def test_only_the_owner_sees_a_session():
    made = table(session("s", 0))
    assert made.visible("s", ALICE).id == "s"
    for stranger in (BOB, replace(ALICE, pseudonym="P-carol"), replace(ALICE, tenant_pseudonym="T-x")):
        assert code(made.visible, "s", stranger) == "session_not_found"
        assert code(made.usable, "s", stranger, 0) == "session_not_found"
    assert code(made.visible, "other", ALICE) == "session_not_found"


def test_it_expires_even_while_it_is_used():
    made = table(session("s", 0, ttl=100, idle=1000))
    made.begin(made.visible("s", ALICE), 1, 99)
    assert made.usable("s", ALICE, 99.9)
    assert code(made.usable, "s", ALICE, 100) == "session_expired"
    assert made.continued(b"s", 100) is None
    assert [(s.id, reason) for s, reason in made.due(100)] == [("s", "expired")]
    assert made.due(101) == []


def test_idle_counts_from_the_last_use_and_never_while_busy():
    one = session("s", 0, idle=10)
    made = table(one)
    made.begin(one, 1, 8)
    one.in_flight = 1
    assert made.due(30) == []
    assert made.usable("s", ALICE, 30)
    one.in_flight, one.last_used = 0, 31
    assert made.due(40.9) == []
    assert made.usable("s", ALICE, 40.9)
    assert code(made.usable, "s", ALICE, 41) == "session_expired"
    assert [reason for _, reason in made.due(41)] == ["idle"]


def test_closing_ends_use_at_once_and_is_forgotten_late():
    one = session("s", 0)
    made = table(one)
    made.closing(one, "client")
    assert code(made.usable, "s", ALICE, 1) == "session_closed"
    assert made.continued(b"s", 1) is None
    assert made.open_count == 1
    made.close(one, LOGGED, 2)
    made.close(one, None, 3)
    assert (one.state, one.closed, made.open_count) == (State.CLOSED, LOGGED, 0)
    made.due(2 + KEEP_CLOSED_S - 1)
    assert made.visible("s", ALICE) is one
    made.due(2 + KEEP_CLOSED_S)
    assert code(made.visible, "s", ALICE) == "session_not_found"


def test_a_session_that_ended_by_time_says_so():
    one = session("s", 0)
    made = table(one)
    for found, reason in made.due(10):
        made.closing(found, reason)
    assert code(made.usable, "s", ALICE, 11) == "session_expired"


def test_the_conversation_moves_to_the_newer_session():
    old, new = session("a", 0), session("b", 0)
    old.conversation = new.conversation = b"talk"
    made = table(old, new)
    assert made.continued(b"talk", 1) is new
    made.closing(old, "client")
    assert made.continued(b"talk", 1) is new


def test_receipts_are_a_ring_by_announced_number():
    one = session("s", 0)
    made = table(one, kept=3)
    for seq in range(1, 6):
        made.begin(one, seq, 0)
    assert list(one.receipts) == [3, 4, 5]
    made.settle(one, 4, LOGGED)
    made.settle(one, 1, LOGGED)
    assert one.receipts == {3: None, 4: LOGGED, 5: None}
    assert one.last_seq == 5


def test_room_counts_sessions_on_their_way():
    made = table(session("a", 0), session("b", 0), maximum=4)
    assert made.admit(1, "T-acme") is None
    assert code(made.admit, 2, "T-acme") == "sessions_full"


def test_the_largest_tenant_makes_room_for_the_others_and_not_for_itself():
    mine = [session(f"a{i}", 0) for i in range(3)]
    made = table(*mine, session("b", 0, owner=BOB), maximum=4)
    made.begin(mine[0], 1, 5)
    mine[1].in_flight = 1
    assert made.admit(0, "T-globex") is mine[2]
    assert made.admit(0, "T-new") is mine[2]
    assert code(made.admit, 0, "T-acme") == "sessions_full"
    made.closing(mine[2], "crowded_out")
    assert made.admit(0, "T-globex") is None
    made.add(session("c", 0, owner=BOB))
    mine[0].in_flight = 1
    assert code(made.admit, 0, "T-globex") == "sessions_full"
    assert code(made.admit, 0, "T-new") == "sessions_full"


def test_what_is_closed_is_kept_in_bounds():
    made = table(maximum=3)
    for number in range(6):
        one = session(f"s{number}", number)
        made.add(one)
        made.close(one, LOGGED, number)
    assert [each.id for each in made.of(ALICE)] == ["s3", "s4", "s5"]
    assert code(made.visible, "s2", ALICE) == "session_not_found"
    assert made.of(BOB) == []
    made.due(3 + KEEP_CLOSED_S)
    assert [each.id for each in made.of(ALICE)] == ["s4", "s5"]
    made.due(9 + KEEP_CLOSED_S)
    assert made.of(ALICE) == []
    assert not made._kept


def test_receipts_of_all_sessions_together_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sessions, "MAX_RECEIPTS", 3)
    one, two = session("a", 0), session("b", 0, owner=BOB)
    made = table(one, two, kept=100)
    for seq in range(1, 4):
        for each in (one, two):
            made.begin(each, seq, 0)
            made.settle(each, seq, LOGGED)
    assert list(one.receipts) == [3]
    assert list(two.receipts) == [2, 3]


def test_what_a_session_lets_go_is_not_remembered_among_all_receipts():
    one = session("a", 0)
    made = table(one, kept=4)
    for seq in range(1, 1000):
        made.begin(one, seq, 0)
        made.settle(one, seq, LOGGED)
    assert list(one.receipts) == [996, 997, 998, 999]
    assert len(made._settled) <= 5


class Lifetimes(RuleBasedStateMachine):
    """Against a plain model: which sessions are open, whatever happens in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.table = SessionTable(1000, 2)
        self.sessions: list[Session] = []

    @rule(ttl=st.integers(1, 60), idle=st.integers(1, 60), talk=st.integers(0, 3))
    def open(self, ttl: int, idle: int, talk: int) -> None:
        one = session(f"s{len(self.sessions)}", self.now, ttl=ttl, idle=idle)
        one.conversation = bytes([talk])
        self.sessions.append(one)
        self.table.add(one)

    @precondition(lambda self: self.sessions)
    @rule(index=st.integers(0, 999))
    def use(self, index: int) -> None:
        one = self.sessions[index % len(self.sessions)]
        if one.usable(self.now):
            self.table.begin(one, one.last_seq + 1, self.now)
            one.in_flight += 1

    @precondition(lambda self: self.sessions)
    @rule(index=st.integers(0, 999))
    def settle(self, index: int) -> None:
        one = self.sessions[index % len(self.sessions)]
        if one.in_flight:
            one.in_flight -= 1
            one.last_used = self.now

    @rule(seconds=st.integers(1, 40))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        for found, reason in self.table.due(self.now):
            assert not found.usable(self.now)
            self.table.closing(found, reason)
            self.table.close(found, LOGGED, self.now)

    @invariant()
    def what_is_over_is_closed(self) -> None:
        open_now = [s for s in self.sessions if s.state is State.OPEN]
        assert self.table.open_count == len(open_now)
        live = [one for own in self.table._live.values() for one in own.values()]
        assert sorted(one.id for one in live) == sorted(one.id for one in open_now)
        assert self.table._live_count == len(live)
        for one in open_now:
            assert self.now < one.expires_at
            assert one.in_flight or self.now < one.last_used + one.idle_s
        for talk in range(4):
            found = self.table.continued(bytes([talk]), self.now)
            assert found is None or (found.state is State.OPEN and found.usable(self.now))


TestLifetimes = Lifetimes.TestCase
TestLifetimes.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
