"""Spans of a request, and their OTLP encoding (opentelemetry-proto 1.x, JSON): names, ids, times, codes and numbers.

A client's `traceparent` (W3C Trace Context) gives at most a trace id and a parent's span id. Whether to trace is never its decision, and
its `tracestate` and baggage, which are free text, are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import orjson

from rlu_server.core.passage import Passage

_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?"
)
INTERNAL, SERVER, CLIENT = 1, 2, 3
ERROR = 2
Value = str | int


class Span(msgspec.Struct, frozen=True):
    """`begin` and `end` in nanoseconds since the epoch; ids in lower-case hex."""

    trace: str
    id: str
    parent: str
    name: str
    kind: int
    begin: int
    end: int
    attributes: dict[str, Value]
    failed: bool = False


def continued(traceparent: bytes) -> tuple[str, str] | None:
    """Trace id and parent's span id, of a header that is well formed; version 00 has exactly four fields."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None or (traceparent.startswith(b"00") and len(traceparent) != 55):
        return None
    return found[1].decode("ascii"), found[2].decode("ascii")


def spans(passage: Passage, epoch_s: float, random: Callable[[int], bytes]) -> list[Span]:
    """The request, and below it what it waited for.

    Args:
        epoch_s: what to add to the passage's times to get seconds since the epoch.
        random: gives so many random bytes.
    """
    known = continued(passage.parent)
    trace, parent = (random(16).hex(), "") if known is None else known
    root = random(8).hex()

    def at(seconds: float) -> int:
        return int((epoch_s + seconds) * 1e9)

    def part(name: str, begin: float, end: float, kind: int = INTERNAL) -> list[Span]:
        if not begin:
            return []
        return [Span(trace, random(8).hex(), root, name, kind, at(begin), at(end or passage.ended), {})]

    whole = Span(
        trace,
        root,
        parent,
        f"POST {passage.route}",
        SERVER,
        at(passage.arrived),
        at(passage.ended),
        attributes(passage),
        passage.status >= 500 or passage.outcome in ("failed", "partial"),
    )
    return [
        whole,
        *part("receive", passage.arrived, passage.completed),
        *part("admission", passage.completed, passage.asked),
        *part("session", passage.asked, passage.numbered),
        *part("engine", passage.posted, passage.ended, CLIENT),
    ]


def attributes(passage: Passage) -> dict[str, Value]:
    """What the request's span says; absent is what did not happen."""
    usage, first = passage.usage, passage.first
    known: dict[str, Value | None] = {
        "http.request.method": "POST",
        "http.route": passage.route,
        "http.response.status_code": passage.status or None,
        "rlu.request_id": passage.request_id,
        "rlu.tenant": passage.tenant,
        "rlu.session": passage.session or None,
        "rlu.seq": passage.seq or None,
        "rlu.outcome": passage.outcome,
        "rlu.code": passage.code or None,
        "rlu.request_bytes": passage.request_bytes or None,
        "rlu.response_bytes": passage.response_bytes or None,
        "rlu.first_byte_us": int((first - passage.completed) * 1e6) if first else None,
        "gen_ai.request.model": passage.model or None,
        "gen_ai.usage.input_tokens": None if usage is None else usage.input_tokens,
        "gen_ai.usage.output_tokens": None if usage is None else usage.output_tokens,
    }
    return {name: value for name, value in known.items() if value is not None}


def encode(found: Sequence[Span], service: dict[str, str]) -> bytes:
    """An `ExportTraceServiceRequest` in JSON."""
    document = {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(service)},
                "scopeSpans": [{"scope": {"name": "rlu"}, "spans": [_span(one) for one in found]}],
            }
        ]
    }
    return orjson.dumps(document)


def _span(span: Span) -> dict[str, Any]:
    document: dict[str, Any] = {
        "traceId": span.trace,
        "spanId": span.id,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.begin),
        "endTimeUnixNano": str(span.end),
        "attributes": _attributes(span.attributes),
        "status": {"code": ERROR} if span.failed else {},
    }
    return {**document, "parentSpanId": span.parent} if span.parent else document


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": name, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for name, value in values.items()
    ]
