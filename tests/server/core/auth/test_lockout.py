"""Guessing gets slower; nobody else does."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rlu_server.core.auth.credentials import network
from rlu_server.core.auth.lockout import Lockout


def test_each_further_guess_doubles_the_wait():
    lockout = Lockout(3, 20.0)
    now, waits = 0.0, []
    for guess in range(7):
        lockout.wrong("a", guess, now)
        wait = lockout.waits("a", now)
        waits.append(wait)
        now += wait
    assert waits == [0, 0, 2, 4, 8, 16, 20]
    assert lockout.waits("b", now) == 0


def test_waiting_ends_and_is_forgotten_after_a_quiet_time():
    lockout = Lockout(1, 60.0)
    lockout.wrong("a", 1, 0.0)
    assert lockout.waits("a", 1.5) == 1
    assert lockout.waits("a", 2.0) == 0
    lockout.wrong("a", 2, 2.0)
    assert lockout.waits("a", 2.0) == 4
    lockout.wrong("a", 3, 100.0)
    assert lockout.waits("a", 100.0) == 2


def test_a_credential_that_was_good_from_there_is_known():
    lockout = Lockout(1, 60.0)
    lockout.good("a", b"secret")
    assert lockout.knows("a", b"secret")
    assert not lockout.knows("a", b"another")
    assert not lockout.knows("b", b"secret")


def test_an_agent_that_repeats_itself_does_not_guess():
    lockout = Lockout(3, 60.0)
    for _ in range(100):
        assert not lockout.wrong("a", 1, 0.0)
    assert lockout.waits("a", 0.0) == 0


def test_zero_and_the_unknown_address_never_wait():
    assert not Lockout(0, 60.0).wrong("a", 1, 0.0)
    assert not Lockout(1, 60.0).wrong("", 1, 0.0)


def test_addresses_are_counted_by_what_a_client_cannot_choose_freely():
    assert network("192.0.2.7") == "192.0.2.7"
    assert network("::ffff:192.0.2.7") == "192.0.2.7"
    assert network("2001:db8:1:2:3:4:5:6") == network("2001:db8:1:2::1") == "2001:db8:1:2::/64"
    assert network("2001:db8:1:3::1") != network("2001:db8:1:2::1")
    assert network("fe80::1%eth0") == "fe80::/64"
    assert network("/run/socket") == network("") == ""


class Bounded(RuleBasedStateMachine):
    """Whatever happens, little is kept, and nobody waits longer than the longest."""

    def __init__(self) -> None:
        super().__init__()
        self.lockout = Lockout(2, 30.0, capacity=5)
        self.now = 0.0

    addresses = st.integers(0, 20).map(str)

    @rule(address=addresses, which=st.integers(0, 3))
    def wrong(self, address: str, which: int) -> None:
        self.lockout.wrong(address, which, self.now)

    @rule(address=addresses, digest=st.binary(max_size=1))
    def good(self, address: str, digest: bytes) -> None:
        self.lockout.good(address, digest)
        assert self.lockout.knows(address, digest)

    @rule(by=st.floats(0, 100))
    def later(self, by: float) -> None:
        self.now += by

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.lockout._wrong) <= 5
        assert len(self.lockout._good) <= 5
        assert all(self.lockout.waits(str(address), self.now) <= 30 for address in range(21))


TestBounded = Bounded.TestCase
TestBounded.settings = settings(max_examples=30, stateful_step_count=30)
