"""What happens when a request has passed: it is counted, logged if that is wanted, and now and then traced."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Sequence

from rlu_server.adapters.events import Events
from rlu_server.adapters.measures import Measures
from rlu_server.core import tracing
from rlu_server.core.passage import Passage
from rlu_server.core.tracing import Span


class Watch:
    """Told of every relayed request, once.

    Args:
        access_log: whether each is an event.
        sample: the share of requests that are traced; drawn here, whatever a client's header says.
        continue_clients: whether a trace keeps the id of a client's `traceparent`.
        monotonic: the clock of passages; `clock` that of the world.
        traced: takes the spans of a request.
    """

    def __init__(
        self,
        measures: Measures,
        events: Events,
        monotonic: Callable[[], float],
        clock: Callable[[], float],
        *,
        access_log: bool = False,
        sample: float = 0.0,
        continue_clients: bool = False,
        traced: Callable[[Sequence[Span]], None] = lambda spans: None,
    ) -> None:
        self.access_log = access_log
        self.continue_clients = continue_clients and sample > 0
        self.traced = traced
        self._measures = measures
        self._events = events
        self._monotonic = monotonic
        self._clock = clock
        self._sample = sample

    def passed(self, passage: Passage) -> None:
        """It is over, one way or the other."""
        now = passage.ended = self._monotonic()
        if passage.numbered:
            self._measures.session_wait.add(passage.numbered - passage.asked)
        if passage.first:
            self._measures.durations[passage.route].add(now - passage.completed)
            if passage.streamed and passage.usage is not None:
                self._measures.streamed(now - passage.first, passage.usage.output_tokens)
        if self.access_log and not passage.refused:
            self._log(passage)
        if self._sample and random.random() < self._sample:  # noqa: S311 - which requests are looked at is no secret
            epoch = self._clock() - now
            self.traced(tracing.spans(passage, epoch, secrets.token_bytes))

    def answered(self, route: str, status: int, request_id: str, code: str = "") -> None:
        """A request that was not relayed, or was refused."""
        if self.access_log:
            self._events.access(route=route, status=status, request_id=request_id, code=code)

    def _log(self, passage: Passage) -> None:
        usage = passage.usage
        first = passage.first or passage.ended
        self._events.access(
            route=passage.route,
            status=passage.status,
            request_id=passage.request_id,
            code=passage.code,
            session=passage.session,
            seq=passage.seq,
            model=passage.model,
            outcome=passage.outcome,
            request_bytes=passage.request_bytes,
            response_bytes=passage.response_bytes,
            input_tokens=0 if usage is None else usage.input_tokens,
            output_tokens=0 if usage is None else usage.output_tokens,
            first_byte_ms=int(1000 * (first - passage.completed)) if passage.completed else 0,
            total_ms=int(1000 * (passage.ended - passage.arrived)),
        )
