"""How much is left, in each API's words."""

from __future__ import annotations

import pytest

from rlu_server.core.errors import Dialect
from rlu_server.core.limits.accounts import Left, Standing
from rlu_server.core.limits.headers import duration, instant, lines

STANDING = Standing(Left(60, 12, 48.2), Left(1000, 0, 360.0))


def test_openai():
    assert b"".join(lines(STANDING, Dialect.OPENAI, 0)).decode() == (
        "x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 12\r\nx-ratelimit-reset-requests: 49s\r\n"
        "x-ratelimit-limit-tokens: 1000\r\nx-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 6m0s\r\n"
    )


def test_anthropic():
    assert b"".join(lines(STANDING, Dialect.ANTHROPIC, 1_800_000_000.5)).decode() == (
        "anthropic-ratelimit-requests-limit: 60\r\nanthropic-ratelimit-requests-remaining: 12\r\n"
        "anthropic-ratelimit-requests-reset: 2027-01-15T08:00:49Z\r\n"
        "anthropic-ratelimit-tokens-limit: 1000\r\nanthropic-ratelimit-tokens-remaining: 0\r\n"
        "anthropic-ratelimit-tokens-reset: 2027-01-15T08:06:01Z\r\n"
    )


def test_what_is_not_limited_is_not_mentioned():
    assert lines(Standing(None, None), Dialect.OPENAI, 0) == []
    assert len(lines(Standing(None, Left(1, 1, 0)), Dialect.ANTHROPIC, 0)) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0001, "1ms"), (0.12, "120ms"), (0.9999, "1s"), (1, "1s"), (59.01, "1m0s"), (360, "6m0s")],
)
def test_durations(seconds: float, text: str):
    assert duration(seconds) == text


def test_instants_are_never_early():
    assert instant(0.01) == "1970-01-01T00:00:01Z"
