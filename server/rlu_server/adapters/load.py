"""What the engines say about their load, from their `/metrics`.

Only three of vLLM's gauges are read, and nothing of it is passed on: others of its metrics would tell one tenant about another. Looked
at only while it matters, and never again before the last look is `PAUSE_S` ago.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from prometheus_client.parser import text_string_to_metric_families

from rlu_server.adapters.engine import Call, Handler, ResponseHead
from rlu_server.core.admission.window import Load
from rlu_server.core.errors import GatewayError

PAUSE_S = 0.2
TIMEOUT_S = 5.0
MAX_BYTES = 4 * 1024 * 1024
_RUNNING, _WAITING, _KV = "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"
# The whole text is hundreds of lines; the parser gets those that matter.
_LINES = re.compile(
    rb"^vllm:(?:num_requests_running|num_requests_waiting|kv_cache_usage_perc)[{ ][^\n]*$", re.MULTILINE
)


class Asked(Protocol):
    """An engine that can be asked (`engine.Engine`)."""

    def get(self, path: str, handler: Handler) -> Call: ...


def parse(text: bytes) -> Load | None:
    """Sums over all engines in it, and the fullest cache; None when it does not say all three."""
    found: dict[str, list[float]] = {_RUNNING: [], _WAITING: [], _KV: []}
    lines = b"\n".join(_LINES.findall(text))
    try:
        for family in text_string_to_metric_families(lines.decode("utf-8") + "\n"):
            for sample in family.samples:
                if sample.name in found:
                    found[sample.name].append(float(sample.value))
        if not all(found.values()):
            return None
        return Load(int(sum(found[_RUNNING])), int(sum(found[_WAITING])), max(found[_KV]))
    except (ValueError, OverflowError):
        return None


def together(loads: Sequence[Load | None]) -> Load | None:
    """Of several engines; None when one of them does not say."""
    known = [load for load in loads if load is not None]
    if not known or len(known) < len(loads):
        return None
    return Load(
        sum(load.running for load in known),
        sum(load.waiting for load in known),
        max(load.kv_usage for load in known),
    )


class Loads:
    """Looks at the engines of each model.

    Args:
        engines: of a model, those that serve now.
        told: gets the model and its load; set before the first look.
    """

    def __init__(self, engines: Callable[[str], Sequence[Asked]]) -> None:
        self.told: Callable[[str, Load | None], None] = lambda model, load: None
        self._engines = engines
        self._loop = asyncio.get_running_loop()
        self._looks: dict[str, _Look] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._looked: dict[str, float] = {}

    def look(self, model: str) -> None:
        """Look soon, unless that is under way already."""
        if model in self._looks or model in self._timers:
            return
        now = self._loop.time()
        due = self._looked.get(model, float("-inf")) + PAUSE_S
        if now < due:
            self._timers[model] = self._loop.call_at(due, self._begin, model)
        else:
            self._begin(model)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        for look in list(self._looks.values()):
            look.give_up()

    def _begin(self, model: str) -> None:
        self._timers.pop(model, None)
        self._looked[model] = self._loop.time()
        engines = self._engines(model)
        if engines:
            self._looks[model] = _Look(engines, partial(self._done, model))

    def _done(self, model: str, load: Load | None) -> None:
        self._looks.pop(model, None)
        self.told(model, load)


class _Look:
    """One question to all engines of a model."""

    def __init__(self, engines: Sequence[Asked], done: Callable[[Load | None], None]) -> None:
        self._done = done
        self._loads: list[Load | None] = []
        self._answers = [_Answer(engine, self._answered) for engine in engines]
        self._timer = asyncio.get_running_loop().call_later(TIMEOUT_S, self._timed_out)

    def give_up(self) -> None:
        """Ask no more; nobody is told."""
        self._timer.cancel()
        for answer in self._answers:
            answer.call.cancel()

    def _answered(self, load: Load | None) -> None:
        self._loads.append(load)
        if len(self._loads) == len(self._answers):
            self._timer.cancel()
            self._done(together(self._loads))

    def _timed_out(self) -> None:
        self.give_up()
        self._done(None)


def ask(engine: Asked, done: Callable[[Load | None], None]) -> Call:
    """Ask one engine, once; the caller bounds the time."""
    return _Answer(engine, done).call


class _Answer:
    """A handler of an engine call that keeps the text."""

    def __init__(self, engine: Asked, done: Callable[[Load | None], None]) -> None:
        self._done = done
        self._status = 0
        self._pieces: list[bytes] = []
        self._size = 0
        self.call = engine.get("/metrics", self)

    def engine_read(self, head: ResponseHead | None, content: bytes, ended: bool) -> None:
        if head is not None:
            self._status = head.status
        self._size += len(content)
        if self._size > MAX_BYTES:
            self.call.cancel()
            self._done(None)
            return
        self._pieces.append(content)
        if ended:
            self._done(parse(b"".join(self._pieces)) if self._status == 200 else None)

    def engine_failed(self, error: GatewayError) -> None:
        self._done(None)
