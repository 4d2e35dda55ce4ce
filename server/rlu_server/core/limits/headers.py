"""How much of the limits is left, as response headers that SDKs know: `x-ratelimit-*` as OpenAI writes them, `anthropic-ratelimit-*`."""

from __future__ import annotations

import math
from datetime import datetime, timezone

from rlu_server.core.errors import Dialect
from rlu_server.core.limits.accounts import Left, Standing


def lines(standing: Standing, dialect: Dialect, now: float) -> list[bytes]:
    """Complete header lines.

    Args:
        now: seconds since the epoch; Anthropic's headers name instants.
    """
    kinds = (("requests", standing.requests), ("tokens", standing.tokens))
    known = [(name, left) for name, left in kinds if left is not None]
    if dialect is Dialect.ANTHROPIC:
        return [_anthropic(name, left, now) for name, left in known]
    return [_openai(name, left) for name, left in known]


def duration(seconds: float) -> str:
    """As OpenAI writes a time until the reset: `6m0s`, `1s`, `120ms`."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(math.ceil(milliseconds / 1000), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def instant(at: float) -> str:
    """RFC 3339 in UTC, rounded up to whole seconds."""
    return datetime.fromtimestamp(math.ceil(at), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _openai(name: str, left: Left) -> bytes:
    return (
        f"x-ratelimit-limit-{name}: {left.limit}\r\n"
        f"x-ratelimit-remaining-{name}: {left.remaining}\r\n"
        f"x-ratelimit-reset-{name}: {duration(left.reset_s)}\r\n"
    ).encode("ascii")


def _anthropic(name: str, left: Left, now: float) -> bytes:
    start = f"anthropic-ratelimit-{name}"
    return (
        f"{start}-limit: {left.limit}\r\n"
        f"{start}-remaining: {left.remaining}\r\n"
        f"{start}-reset: {instant(now + left.reset_s)}\r\n"
    ).encode("ascii")
