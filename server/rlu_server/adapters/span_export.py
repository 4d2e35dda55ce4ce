"""Hands spans to the relay, which has the collector's address; this process has none.

What does not fit the buffer, or the relay did not take, is dropped and counted: traces are for looking at, and nothing waits for them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence

from rlu_server.adapters import relay_client
from rlu_server.adapters.events import Events
from rlu_server.adapters.measures import Measures
from rlu_server.core import tracing
from rlu_server.core.tracing import Span
from rlu_server.waiting import within

PATH = "/v1/otlp/traces"
MOST = 8192
"""Spans that wait."""
AT_ONCE = 1024
"""Spans in one request: some hundred KB."""
PERIOD_S = 1.0
TIMEOUT_S = 10.0
MAX_ANSWER = 64 * 1024


class SpanExport:
    """A bounded buffer and the loop that empties it.

    Args:
        relay: as in the settings of `[auth]`.
        service: says whose spans these are.
        trust: makes the TLS context for a relay by https.
    """

    def __init__(
        self,
        relay: str,
        service: dict[str, str],
        measures: Measures,
        events: Events,
        trust: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._relay = relay
        self._service = service
        self._measures = measures
        self._events = events
        self._trust = trust
        self._waiting: deque[Span] = deque()

    def add(self, spans: Sequence[Span]) -> None:
        """Spans of one request: all of them, or none."""
        if len(self._waiting) + len(spans) > MOST:
            self._measures.spans_dropped += len(spans)
        else:
            self._waiting.extend(spans)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            while self._waiting:
                await self.send()

    async def send(self) -> None:
        """Send some of what waits, once."""
        batch = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
        content = tracing.encode(batch, self._service)
        posting = asyncio.ensure_future(
            relay_client.post(self._relay, PATH, content, MAX_ANSWER, self._trust)
        )
        try:
            taken = await within(posting, TIMEOUT_S) is not None
            code = "timeout"
        except relay_client.FAILURES as error:
            taken, code = False, type(error).__name__
        finally:
            if not posting.done():
                posting.cancel()
                await asyncio.gather(posting, return_exceptions=True)
        if taken:
            self._measures.spans_sent += len(batch)
        else:
            self._measures.spans_dropped += len(batch)
            self._events.emit("relay_failed", code)
