"""What tenants and principals have in use, and whether one more request fits.

A request reserves everything at once or nothing: one of the requests a minute, its estimated tokens, one of the concurrent requests, of
its principal and of its tenant. It is settled exactly once, whatever became of it: with the tokens it used, or as if it had never been
(`void`), when the engine was not given it. Nobody who has no limits is counted at all.
"""

from __future__ import annotations

import math

from rlu_server.core.errors import GatewayError
from rlu_server.core.limits.bucket import Bucket
from rlu_server.core.limits.rules import Allowance, LimitsFile, Rule, rule_for

CONCURRENT_RETRY_S = 1
"""Nobody knows when one of the running requests ends."""
MAX_KNOWN = 65_536
"""Rules and accounts that are kept before those that say nothing are forgotten."""


class Left:
    """How much is left of a limit, and when all of it will be again."""

    __slots__ = ("limit", "remaining", "reset_s")

    def __init__(self, limit: int, remaining: int, reset_s: float) -> None:
        self.limit = limit
        self.remaining = remaining
        self.reset_s = reset_s


class Standing:
    """Where a principal stands: the tighter one of its own and its tenant's limits."""

    __slots__ = ("requests", "tokens")

    def __init__(self, requests: Left | None, tokens: Left | None) -> None:
        self.requests = requests
        self.tokens = tokens


class LimitReached(GatewayError):
    """`limit_requests`, `limit_tokens` or `limit_concurrent`, and where the principal stands."""

    def __init__(self, code: str, message: str, retry_after_s: int, standing: Standing) -> None:
        super().__init__(code, message, retry_after_s=retry_after_s)
        self.standing = standing


class _Account:
    """What one tenant or one principal uses of its limits."""

    __slots__ = ("concurrent", "most", "requests", "tokens", "whose")

    def __init__(self, whose: str, allowance: Allowance, now: float) -> None:
        self.whose = whose
        self.concurrent = 0
        self.most: int | None = None
        self.requests: Bucket | None = None
        self.tokens: Bucket | None = None
        self.hold_to(allowance, now)

    def hold_to(self, allowance: Allowance, now: float) -> None:
        """From now on these limits hold; what is in use stays in use."""
        self.most = allowance.concurrent_requests
        self.requests = _bucket(self.requests, allowance.requests_per_minute, now)
        self.tokens = _bucket(self.tokens, allowance.tokens_per_minute, now)

    def refusal(self, tokens: int, now: float) -> tuple[float, str, str] | None:
        """Seconds to wait, code and message, when one more request of so many tokens does not fit."""
        found = []
        if self.requests is not None and (wait := self.requests.wait_s(1, now)):
            found.append(
                (wait, "limit_requests", f"{self.requests.per_minute} requests a minute are allowed")
            )
        if self.tokens is not None and (wait := self.tokens.wait_s(tokens, now)):
            found.append((wait, "limit_tokens", f"{self.tokens.per_minute} tokens a minute are allowed"))
        if found:
            return max(found)
        if self.most is not None and self.concurrent >= self.most:
            return CONCURRENT_RETRY_S, "limit_concurrent", f"{self.most} concurrent requests are allowed"
        return None

    def idle(self, now: float) -> bool:
        """Does it say nothing that a new one would not say?"""
        buckets = (self.requests, self.tokens)
        return not self.concurrent and all(b is None or not b.full_in_s(now) for b in buckets)


class Reservation:
    """What a request holds of the accounts."""

    __slots__ = ("_accounts", "_open", "_tokens", "standing")

    def __init__(self, accounts: tuple[_Account, ...], tokens: int, now: float) -> None:
        self._accounts = accounts
        self._open = True
        # More than a minute's worth is not reserved, or it could never be.
        self._tokens = [0 if a.tokens is None else min(tokens, a.tokens.per_minute) for a in accounts]
        for account, amount in zip(accounts, self._tokens, strict=True):
            account.concurrent += 1
            if account.requests is not None:
                account.requests.take(1, now)
            if account.tokens is not None:
                account.tokens.take(amount, now)
        self.standing = _standing(accounts, now)

    def settle(self, tokens: int, now: float) -> None:
        """The request is over and used so many tokens."""
        self._close(tokens, 0, now)

    def void(self, now: float) -> None:
        """The engine was never given the request."""
        self._close(0, -1, now)

    def _close(self, tokens: int, requests: int, now: float) -> None:
        assert self._open, "settled twice"
        self._open = False
        for account, reserved in zip(self._accounts, self._tokens, strict=True):
            account.concurrent -= 1
            if account.requests is not None:
                account.requests.take(requests, now)
            if account.tokens is not None:
                account.tokens.take(tokens - reserved, now)


class Accounts:
    """All accounts under one limits file. Times are seconds of a clock that does not go back."""

    def __init__(self, file: LimitsFile) -> None:
        self._file = file
        self._rules: dict[tuple[str, str], Rule] = {}
        self._accounts: dict[tuple[str, ...], _Account] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def rule(self, tenant: str, principal: str) -> Rule:
        """What holds for a principal."""
        who = (tenant, principal)
        found = self._rules.get(who)
        if found is None:
            if len(self._rules) >= MAX_KNOWN:
                self._rules.clear()
            found = self._rules[who] = rule_for(self._file, tenant, principal)
        return found

    def reserve(self, tenant: str, principal: str, tokens: int, now: float) -> Reservation | None:
        """Reserve for one request; None when nothing limits this principal.

        Raises:
            LimitReached: `limit_requests`, `limit_tokens`, `limit_concurrent`; nothing is reserved then.
        """
        rule = self.rule(tenant, principal)
        if not rule.limited:
            return None
        # Both are counted if either is limited, so that limits which come later know what is in use.
        accounts = (
            self._account((tenant, principal), "principal", rule.principal, now),
            self._account((tenant,), "tenant", rule.tenant, now),
        )
        refusals = [(*found, a.whose) for a in accounts if (found := a.refusal(tokens, now)) is not None]
        if refusals:
            wait, code, what, whose = max(refusals)
            seconds = max(math.ceil(wait), 1)
            message = f"{what} to this {whose}; try again in {seconds} s."
            raise LimitReached(code, message, seconds, _standing(accounts, now))
        return Reservation(accounts, tokens, now)

    def replace(self, file: LimitsFile, now: float) -> None:
        """Another file holds from now on. Nothing in use is forgotten."""
        self._file = file
        self._rules.clear()
        for who, account in list(self._accounts.items()):
            rule = rule_for(file, who[0], who[-1])
            account.hold_to(rule.tenant if len(who) == 1 else rule.principal, now)

    def forget_idle(self, now: float) -> None:
        """Forget accounts that say nothing, so that passing principals do not add up."""
        for who in [who for who, account in self._accounts.items() if account.idle(now)]:
            del self._accounts[who]

    def _account(self, who: tuple[str, ...], whose: str, allowance: Allowance, now: float) -> _Account:
        found = self._accounts.get(who)
        if found is None:
            if len(self._accounts) >= MAX_KNOWN:
                self.forget_idle(now)
            found = self._accounts[who] = _Account(whose, allowance, now)
        return found


def _bucket(bucket: Bucket | None, per_minute: int | None, now: float) -> Bucket | None:
    if per_minute is None:
        return None
    if bucket is None:
        return Bucket(per_minute, now)
    if bucket.per_minute != per_minute:
        bucket.resize(per_minute, now)
    return bucket


def _standing(accounts: tuple[_Account, ...], now: float) -> Standing:
    requests = [_left(a.requests, now) for a in accounts if a.requests is not None]
    tokens = [_left(a.tokens, now) for a in accounts if a.tokens is not None]
    return Standing(
        min(requests, key=_remaining, default=None),
        min(tokens, key=_remaining, default=None),
    )


def _left(bucket: Bucket, now: float) -> Left:
    return Left(bucket.per_minute, max(int(bucket.level(now)), 0), bucket.full_in_s(now))


def _remaining(left: Left) -> int:
    return left.remaining
