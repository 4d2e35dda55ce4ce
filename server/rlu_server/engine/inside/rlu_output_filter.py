"""The engine's output, reduced to events: reads everything on standard input, writes only names from `EVENTS` and counts.

    {"event": "loading", "count": 12}

One JSON line per event: at once when it first happens, then its new total at most once a second. The text that was read goes nowhere.
A process of its own, under a lock that leaves it nothing but its pipes; standard library only.

With an argument, the number of a pipe's reading end, text is passed on as well (`{"text": ...}`) until the writing end is closed: the
supervisor holds it while the engine starts and cannot be reached by any client, so that an operator learns why it did not start.
"""

from __future__ import annotations

import json
import os
import re
import select
import sys
import time

EVENTS = (
    "loading",
    "preparing",
    "log",
    "warning",
    "error",
    "exception",
    "out-of-memory",
    "crashed",
    "other-output",
    "overlong-line",
)
MAX_LINE = 64 * 1024
MAX_TEXT = 400
INTERVAL_S = 1.0

_RECORD = re.compile(rb"rlu-log (DEBUG|INFO|WARNING|ERROR|CRITICAL) (\S{1,200}) \S{1,200} (\S{1,64})\s*")
_TRACEBACK = re.compile(
    rb"(?:\([^)]{1,80}\) )?(?:[A-Za-z_][A-Za-z0-9_]*\.)*([A-Z][A-Za-z0-9_]*(?:Error|Exception|Exit|Interrupt))(?::.*)?\s*"
)
_MEMORY = (b"OutOfMemoryError", b"MemoryError")
_CRASHES = (b"EngineDeadError", b"EngineGenerateError")
_LOGGERS = (
    (b"vllm.model_executor.model_loader", "loading"),
    (b"vllm.v1.worker", "preparing"),
    (b"vllm.v1.core.kv_cache_utils", "preparing"),
)


def classify(line: bytes) -> list[str]:
    """The events that a line stands for; never empty, never anything else."""
    if len(line) > MAX_LINE:
        return ["overlong-line"]
    record = _RECORD.fullmatch(line)
    if record is None:
        traceback = _TRACEBACK.fullmatch(line)
        return ["other-output"] if traceback is None else ["exception", *_of_exception(traceback[1])]
    level, logger, exception = record.groups()
    found = ["error"] if level in (b"ERROR", b"CRITICAL") else ["warning"] if level == b"WARNING" else []
    found += [event for prefix, event in _LOGGERS if logger.startswith(prefix) and not found]
    if exception != b"-":
        found += ["exception", *_of_exception(exception)]
    return found or ["log"]


def _of_exception(name: bytes) -> list[str]:
    if name in _MEMORY:
        return ["out-of-memory"]
    return ["crashed"] if name in _CRASHES else []


class Tally:
    """Counts, and what of them has been told."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(EVENTS, 0)
        self._told = dict.fromkeys(EVENTS, 0)

    def add(self, line: bytes) -> None:
        for event in classify(line):
            self.counts[event] += 1

    def news(self, *, first_only: bool) -> list[str]:
        """JSON lines for what was not told yet; `first_only`: only events that never were."""
        lines = []
        for event, count in self.counts.items():
            if count != self._told[event] and not (first_only and self._told[event]):
                self._told[event] = count
                lines.append(json.dumps({"event": event, "count": count}))
        return lines


class Lines:
    """Splits a byte stream into lines; a line over the limit becomes one overlong line and is forgotten while it arrives."""

    def __init__(self) -> None:
        self._rest = b""
        self._overlong = False

    def feed(self, data: bytes) -> list[bytes]:
        *complete, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if self._overlong and complete:
            complete[0] = b"x" * (MAX_LINE + 1)
            self._overlong = False
        if len(rest) > MAX_LINE or (self._overlong and rest):
            self._overlong, rest = True, b""
        self._rest = rest
        return [line for line in complete if line.strip()]

    def end(self) -> list[bytes]:
        return [b"x" * (MAX_LINE + 1)] if self._overlong else [self._rest] if self._rest.strip() else []


def run(source: int, sink: int, starting: int | None = None) -> None:
    """Filter until the source ends; `starting`: see the module's text."""
    lines, tally, due = Lines(), Tally(), 0.0

    def tell(*, first_only: bool) -> None:
        for line in tally.news(first_only=first_only):
            os.write(sink, line.encode() + b"\n")

    while True:
        watched = [source] if starting is None else [source, starting]
        ready, _, _ = select.select(watched, [], [], INTERVAL_S)
        data = os.read(source, 1 << 16) if source in ready else None
        # Nothing is ever written to it: readable means closed. Looked at after reading: what was read was then written before, while nobody
        # could have reached the engine.
        if starting is not None and select.select([starting], [], [], 0)[0]:
            starting = None
        for line in lines.feed(data) if data else []:
            tally.add(line)
            if starting is not None:
                text = line[:MAX_TEXT].decode("ascii", "replace")
                os.write(sink, json.dumps({"text": text}).encode() + b"\n")
        now = time.monotonic()
        tell(first_only=now < due)
        if now >= due:
            due = now + INTERVAL_S
        if data == b"":
            break
    for line in lines.end():
        tally.add(line)
    tell(first_only=False)


if __name__ == "__main__":
    try:
        run(sys.stdin.fileno(), sys.stdout.fileno(), int(sys.argv[1]) if len(sys.argv) > 1 else None)
    except BrokenPipeError:
        sys.exit(0)
