"""Accounts: everything or nothing, exactly once, and nothing leaks whatever the order."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from rlu_server.core.limits.accounts import Accounts, LimitReached, Reservation
from rlu_server.core.limits.rules import LimitsFile, parse_file, rule_for

FILE = parse_file(
    b"""
[default]
requests_per_minute = 10
tokens_per_minute = 1000
concurrent_requests = 4
[default.principal]
concurrent_requests = 2
[tenants.free]
requests_per_minute = "unlimited"
tokens_per_minute = "unlimited"
concurrent_requests = "unlimited"
[tenants.free.principal]
concurrent_requests = "unlimited"
"""
)


def reached(accounts: Accounts, tenant: str, principal: str, tokens: int, now: float) -> LimitReached:
    with pytest.raises(LimitReached) as caught:
        accounts.reserve(tenant, principal, tokens, now)
    return caught.value


def reserve(accounts: Accounts, tenant: str, principal: str, tokens: int, now: float) -> Reservation:
    made = accounts.reserve(tenant, principal, tokens, now)
    assert made is not None
    return made


def test_who_has_no_limits_is_not_counted():
    accounts = Accounts(FILE)
    assert all(accounts.reserve("free", "x", 10**9, 0.0) is None for _ in range(100))
    assert len(accounts) == 0


def test_concurrent_requests_of_principal_and_tenant():
    accounts = Accounts(FILE)
    first = reserve(accounts, "acme", "a", 1, 0.0)
    reserve(accounts, "acme", "a", 1, 0.0)
    error = reached(accounts, "acme", "a", 1, 0.0)
    assert (error.code, error.status, error.retry_after_s) == ("limit_concurrent", 429, 1)
    assert error.message == "2 concurrent requests are allowed to this principal; try again in 1 s."
    reserve(accounts, "acme", "b", 1, 0.0)
    reserve(accounts, "acme", "b", 1, 0.0)
    assert "to this tenant" in reached(accounts, "acme", "c", 1, 0.0).message
    reserve(accounts, "globex", "a", 1, 0.0)
    first.settle(1, 0.0)
    reserve(accounts, "acme", "c", 1, 0.0)


def test_requests_a_minute():
    accounts = Accounts(FILE)
    for _ in range(10):
        reserve(accounts, "acme", "a", 1, 0.0).settle(1, 0.0)
    error = reached(accounts, "acme", "b", 1, 0.0)
    assert (error.code, error.retry_after_s) == ("limit_requests", 6)
    assert error.standing.requests is not None
    assert (error.standing.requests.remaining, error.standing.requests.reset_s) == (0, pytest.approx(60))
    reserve(accounts, "acme", "b", 1, 6.0)


def test_tokens_are_reserved_and_settled():
    accounts = Accounts(FILE)
    made = reserve(accounts, "acme", "a", 800, 0.0)
    assert made.standing.tokens is not None
    assert made.standing.tokens.remaining == 200
    error = reached(accounts, "acme", "b", 500, 0.0)
    assert (error.code, error.retry_after_s) == ("limit_tokens", 18)
    made.settle(100, 0.0)
    after = reserve(accounts, "acme", "b", 500, 0.0)
    assert after.standing.tokens is not None
    assert after.standing.tokens.remaining == 400
    # A debt has to be paid before the next.
    after.settle(1500, 0.0)
    assert reached(accounts, "acme", "b", 1, 0.0).retry_after_s == 37


def test_what_the_engine_never_got_was_not():
    accounts = Accounts(FILE)
    for _ in range(50):
        reserve(accounts, "acme", "a", 1000, 0.0).void(0.0)
    assert reserve(accounts, "acme", "a", 1000, 0.0).standing.requests.remaining == 9  # type: ignore[union-attr]


def test_a_refusal_reserves_nothing():
    accounts = Accounts(FILE)
    held = [reserve(accounts, "acme", "a", 1, 0.0) for _ in range(2)]
    for _ in range(100):
        reached(accounts, "acme", "a", 1, 0.0)
    for each in held:
        each.settle(0, 0.0)
    assert reserve(accounts, "acme", "a", 1, 0.0).standing.requests.remaining == 7  # type: ignore[union-attr]


def test_a_reservation_is_settled_once():
    made = reserve(Accounts(FILE), "acme", "a", 1, 0.0)
    made.settle(1, 0.0)
    with pytest.raises(AssertionError):
        made.void(0.0)


def test_another_file_holds_at_once_and_forgets_nothing():
    accounts = Accounts(FILE)
    held = [reserve(accounts, "acme", "a", 100, 0.0) for _ in range(2)]
    accounts.replace(parse_file(b"[default]\nconcurrent_requests = 3\ntokens_per_minute = 500"), 0.0)
    third = reserve(accounts, "acme", "a", 100, 0.0)
    assert third.standing.tokens is not None
    assert third.standing.tokens.remaining == 200
    assert third.standing.requests is None
    assert reached(accounts, "acme", "a", 1, 0.0).code == "limit_concurrent"
    accounts.replace(parse_file(b""), 0.0)
    assert accounts.reserve("acme", "a", 1, 0.0) is None
    for each in (*held, third):
        each.settle(1, 0.0)
    accounts.forget_idle(0.0)
    assert len(accounts) == 0


TENANTS = st.sampled_from(["acme", "globex", "free"])
PRINCIPALS = st.sampled_from(["a", "b"])
FILES = (FILE, parse_file(b"[default]\ntokens_per_minute = 300\nconcurrent_requests = 3"), LimitsFile())


class Machine(RuleBasedStateMachine):
    """Any order of reserving, settling and new files; a naive count beside it."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.accounts = Accounts(FILE)
        self.file = FILE
        self.now = 0.0
        self.counted: dict[tuple[str, str], int] = {}

    @rule(target=held, tenant=TENANTS, principal=PRINCIPALS, tokens=st.integers(0, 2000))
    def reserve(self, tenant: str, principal: str, tokens: int):
        who = (tenant, principal)
        limits = rule_for(self.file, *who)
        refused, made = None, None
        try:
            made = self.accounts.reserve(*who, tokens, self.now)
        except LimitReached as error:
            refused = error
        if refused is not None:
            assert refused.retry_after_s is not None
            assert refused.retry_after_s >= 1
            assert tenant != "free" or self.file is not FILE
            return multiple()
        if made is None:
            assert not limits.limited
            return multiple()
        self.counted[who] = self.counted.get(who, 0) + 1
        most = limits.tenant.concurrent_requests
        of_tenant = sum(n for (name, _), n in self.counted.items() if name == tenant)
        assert most is None or of_tenant <= most
        own = limits.principal.concurrent_requests
        assert own is None or self.counted[who] <= own
        return (who, made)

    @rule(one=consumes(held), used=st.none() | st.integers(0, 3000))
    def settle(self, one: tuple[tuple[str, str], Reservation], used: int | None):
        who, made = one
        self.counted[who] -= 1
        if used is None:
            made.void(self.now)
        else:
            made.settle(used, self.now)

    @rule(seconds=st.floats(0, 90))
    def wait(self, seconds: float):
        self.now += seconds

    @rule(file=st.sampled_from(FILES))
    def another_file(self, file: LimitsFile):
        self.file = file
        self.accounts.replace(file, self.now)

    @rule()
    def forget(self):
        self.accounts.forget_idle(self.now)

    @invariant()
    def idle_accounts_are_forgotten_once_everything_is_settled(self):
        if not any(self.counted.values()):
            # Past the longest debt nothing may be left of anybody.
            self.now += 11 * 60 + 1
            self.accounts.forget_idle(self.now)
            assert len(self.accounts) == 0


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
