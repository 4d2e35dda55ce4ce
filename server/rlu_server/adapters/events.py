"""Events: the only thing the gateway's processes write. Fixed names and codes, ids of ours, numbers; one JSON line each.

A container runtime keeps what is written to standard error on a disk, so nothing a client sent may get here: no paths, no header
values, no bodies, no exception texts. Refusals are counted and written at most so many times a second per code.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from typing import Literal

import orjson

Event = Literal[
    "few_files",
    "gateway_started",
    "gateway_listening",
    "metrics_listening",
    "gateway_ready",
    "gateway_not_ready",
    "gateway_draining",
    "gateway_stopped",
    "worker_ready",
    "worker_lost",
    "worker_refused",
    "keys_loaded",
    "keys_refused",
    "limits_loaded",
    "limits_refused",
    "certificate_renewed",
    "certificate_refused",
    "certificate_unwritten",
    "auth_loaded",
    "auth_refused",
    "token_key_unknown",
    "token_unverifiable",
    "relay_failed",
    "locked_out",
    "attestor_connected",
    "attestor_lost",
    "attestor_rotated",
    "attestor_untrusted",
    "attestor_refused",
    "engine_ready",
    "engine_lost",
    "engine_salt_unproven",
    "engine_suspect",
    "engine_retried",
    "connection_failed",
    "request_refused",
    "exchange_failed",
    "receipt_lost",
    "session_closed",
    "request_answered",
    "internal_error",
]
Level = Literal["info", "warning", "error"]
ERRORS: frozenset[Event] = frozenset(
    {"attestor_untrusted", "engine_salt_unproven", "internal_error", "receipt_lost", "worker_lost"}
)
INFORMATION: frozenset[Event] = frozenset(
    {
        "attestor_connected",
        "attestor_rotated",
        "auth_loaded",
        "certificate_renewed",
        "engine_ready",
        "gateway_draining",
        "gateway_listening",
        "gateway_ready",
        "gateway_started",
        "gateway_stopped",
        "keys_loaded",
        "limits_loaded",
        "metrics_listening",
        "request_answered",
        "session_closed",
        "worker_ready",
    }
)
"""All others are warnings."""
PER_SECOND = 10


class Events:
    """Writes events as JSON lines.

    Args:
        write: takes one line; standard error by default.
        worker: the number of the worker that writes, where there are several.
    """

    def __init__(self, write: Callable[[bytes], object] | None = None, worker: int | None = None) -> None:
        self._write = write or _standard_error
        self._always: dict[str, int | str] = {} if worker is None else {"worker": worker}
        self._second = 0
        self._written: dict[str, int] = {}

    def emit(self, event: Event, code: str = "", **numbers_and_ids: int | str) -> None:
        """Write one event. Values are ids of ours, codes or numbers; callers pass nothing else."""
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._written.clear()
        topic = f"{event}/{code}"
        count = self._written.get(topic, 0) + 1
        self._written[topic] = count
        if count > PER_SECOND:
            return
        self._line(now, event, code, numbers_and_ids)

    def access(self, *, code: str, **numbers_and_ids: int | str) -> None:
        """Write an event for a request that was answered, every one of them. Values as above; what is empty is left out."""
        known = {name: value for name, value in numbers_and_ids.items() if value != ""}
        self._line(time.time(), "request_answered", code, known)

    def _line(self, now: float, event: Event, code: str, values: dict[str, int | str]) -> None:
        line: dict[str, int | str | float] = {"time": round(now, 3), "level": level(event), "event": event}
        if code:
            line["code"] = code
        self._write(orjson.dumps({**line, **self._always, **values}) + b"\n")

    def internal(self, error: BaseException, request_id: str = "") -> None:
        """A bug of ours: the exception's class and where it was raised, never its text."""
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{frames[-1].name}:{frames[-1].lineno}" if frames else "unknown"
        self.emit("internal_error", type(error).__name__, at=place, request_id=request_id)


def level(event: Event) -> Level:
    """How much an event matters to who looks after the server."""
    return "error" if event in ERRORS else "info" if event in INFORMATION else "warning"


def _standard_error(line: bytes) -> None:
    sys.stderr.buffer.write(line)
    sys.stderr.buffer.flush()
