"""Spans, and their encoding against OpenTelemetry's own definitions."""

from __future__ import annotations

import base64
import json
from itertools import count
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from rlu_server.core import tracing
from rlu_server.core.passage import Passage
from rlu_server.core.usage import Usage

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def passage(**more: Any) -> Passage:
    values: dict[str, Any] = {
        "request_id": "req_1_1",
        "route": "/v1/responses",
        "tenant": "T" * 22,
        "arrived": 1.0,
        "completed": 1.25,
        "asked": 1.5,
        "posted": 1.5,
        "numbered": 1.75,
        "first": 2.0,
        "ended": 4.0,
        "model": "small",
        "session": "S" * 22,
        "seq": 7,
        "status": 200,
        "outcome": "complete",
        "request_bytes": 100,
        "response_bytes": 200,
        "usage": Usage(11, 12, 5),
    }
    return Passage(**{**values, **more})


def counted() -> Any:
    numbers = count(1)
    return lambda size: next(numbers).to_bytes(size, "big")


def parsed(content: bytes) -> Any:
    """As OpenTelemetry's own library reads it. Its JSON has hexadecimal ids, protobuf's own mapping base64."""
    document = json.loads(content)
    for span in document["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in span:
                span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return json_format.ParseDict(document, ExportTraceServiceRequest())


def test_a_request_and_what_it_waited_for() -> None:
    found = tracing.spans(passage(), 1000.0, counted())
    assert [(one.name, one.begin, one.end) for one in found] == [
        ("POST /v1/responses", 1001_000_000_000, 1004_000_000_000),
        ("receive", 1001_000_000_000, 1001_250_000_000),
        ("admission", 1001_250_000_000, 1001_500_000_000),
        ("session", 1001_500_000_000, 1001_750_000_000),
        ("engine", 1001_500_000_000, 1004_000_000_000),
    ]
    root = found[0]
    assert root.parent == ""
    assert {one.parent for one in found[1:]} == {root.id}
    assert {one.trace for one in found} == {root.trace}
    assert len({one.id for one in found}) == len(found)
    assert root.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/responses",
        "http.response.status_code": 200,
        "rlu.request_id": "req_1_1",
        "rlu.tenant": "T" * 22,
        "rlu.session": "S" * 22,
        "rlu.seq": 7,
        "rlu.outcome": "complete",
        "rlu.request_bytes": 100,
        "rlu.response_bytes": 200,
        "rlu.first_byte_us": 750_000,
        "gen_ai.request.model": "small",
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 12,
    }


def test_what_did_not_happen_is_absent() -> None:
    never = dict.fromkeys(("asked", "posted", "numbered", "first"), 0.0)
    refused = passage(
        **never, session="", seq=0, status=429, outcome="refused", code="queue_full", usage=None
    )
    found = tracing.spans(refused, 0.0, counted())
    assert [one.name for one in found] == ["POST /v1/responses", "receive", "admission"]
    assert found[0].attributes["rlu.code"] == "queue_full"
    assert not found[0].failed
    assert not {"rlu.session", "rlu.seq", "rlu.first_byte_us"} & found[0].attributes.keys()


@pytest.mark.parametrize(
    ("changes", "failed"),
    [({"outcome": "failed"}, True), ({"outcome": "partial"}, True), ({"status": 503}, True), ({}, False)],
)
def test_failures_are_marked(changes: dict[str, Any], failed: bool) -> None:
    assert tracing.spans(passage(**changes), 0.0, counted())[0].failed is failed


def test_opentelemetry_reads_it() -> None:
    found = tracing.spans(passage(parent=f"00-{TRACE}-{PARENT}-01".encode()), 1.8e9, counted())
    request = parsed(tracing.encode(found, {"service.name": "rlu"}))
    (resource,) = request.resource_spans
    assert [(a.key, a.value.string_value) for a in resource.resource.attributes] == [("service.name", "rlu")]
    spans = resource.scope_spans[0].spans
    assert [span.name for span in spans] == [one.name for one in found]
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert spans[0].parent_span_id.hex() == PARENT
    assert spans[1].parent_span_id == spans[0].span_id
    assert spans[0].end_time_unix_nano - spans[0].start_time_unix_nano == 3_000_000_000
    values = {a.key: a.value.int_value or a.value.string_value for a in spans[0].attributes}
    assert values == found[0].attributes
    assert spans[0].status.code == 0


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"00-" + b"0" * 32 + b"-" + PARENT.encode() + b"-01",
        b"00-" + TRACE.encode() + b"-" + b"0" * 16 + b"-01",
        b"00-" + TRACE.upper().encode() + b"-" + PARENT.encode() + b"-01",
        b"ff-" + TRACE.encode() + b"-" + PARENT.encode() + b"-01",
        b"00-" + TRACE.encode() + b"-" + PARENT.encode() + b"-01-more",
        b"00-" + TRACE.encode() + b"-" + PARENT.encode(),
        b"my secret",
    ],
)
def test_headers_that_are_not_well_formed_give_nothing(header: bytes) -> None:
    assert tracing.continued(header) is None


def test_headers_of_later_versions_may_say_more() -> None:
    header = f"01-{TRACE}-{PARENT}-01-what-comes".encode()
    assert tracing.continued(header) == (TRACE, PARENT)


@given(st.binary(max_size=120))
def test_any_header(header: bytes) -> None:
    found = tracing.continued(header)
    assert found is None or (len(found[0]), len(found[1])) == (32, 16)
