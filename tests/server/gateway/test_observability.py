"""What an operator sees: the table of metrics, the access log, traces; and that nothing which was said is in any of them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fakes.collector import Collector
from fakes.documents import families
from fakes.rig import Rig
from rlu_server.adapters import sampler, span_export
from rlu_server.adapters.engine import Engine
from rlu_server.adapters.engines import Replica
from rlu_server.adapters.measures import Standing
from rlu_server.adapters.sampler import Sampler
from rlu_server.core.admission.window import Load
from rlu_server.outreach.relay import Plan, Relay

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
MARKER = "marker-8d1f6c55"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
LIMITS = "[tenants.globex]\nrequests_per_minute = 1\n"


async def samples(rig: Rig) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(await rig.metrics())
        for sample in family.samples
    }


def pseudonym(rig: Rig, who: str) -> str:
    return rig.gateway.relay.keys.authenticate(rig.keys[who], 1).tenant_pseudonym


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    (tmp_path / "limits.toml").write_text(LIMITS)
    sections = {
        "log": {"exporter": "acme/alice"},
        "admission": {"limits_file": str(tmp_path / "limits.toml")},
    }
    async with Rig(tmp_path, {"access_log": True}, tls=True, sections=sections) as rig:
        yield rig


async def test_the_table_is_what_a_gateway_exports(rig: Rig) -> None:
    """Names, kinds and labels, both ways."""
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    assert (await rig.call(CHAT, rig.chat(**stream))).status == 200
    for _ in range(2):
        limited = await rig.call(CHAT, rig.chat(), who="bob")
    assert limited.status == 429
    opened = await rig.call("/v1/rlu/sessions", {"nonce": "A" * 22})
    await rig.call(f"/v1/rlu/sessions/{opened.json()['session']}", None, method="DELETE")
    await rig.gateway.sampler.look()
    found = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(await rig.metrics())
    }
    table = {family.name: family for family in families()}
    assert found.keys() == table.keys()
    for name, family in found.items():
        assert family.type == table[name].kind, name
        assert family.samples, name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels == table[name].labels, name


async def test_times_and_tokens_of_a_stream(rig: Rig) -> None:
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    answer = await rig.call(CHAT, rig.chat(**stream))
    await rig.receipt(answer)
    found = await samples(rig)
    measures = rig.gateway.relay.measures
    assert measures.output_tokens > 1
    tenant = pseudonym(rig, "alice")
    assert found["rlu_tenant_exchanges_total", (("tenant", tenant),)] == 1
    assert (
        found["rlu_tenant_tokens_total", (("kind", "output"), ("tenant", tenant))] == measures.output_tokens
    )
    for name in ("first_byte", "output_token", "session_wait", "receipt"):
        assert found[f"rlu_{name}_seconds_count", ()] == 1, name
        assert found[f"rlu_{name}_seconds_bucket", (("le", "+Inf"),)] == 1, name
    assert found["rlu_request_seconds_count", (("route", CHAT),)] == 1
    assert found["rlu_request_seconds_sum", (("route", CHAT),)] > 0


async def test_whoever_a_limit_turned_away_is_counted(rig: Rig) -> None:
    for _ in range(3):
        await rig.call(CHAT, rig.chat(), who="bob")
    found = await samples(rig)
    assert found["rlu_tenant_refusals_total", (("tenant", pseudonym(rig, "bob")),)] == 2
    assert found["rlu_refusals_total", (("code", "limit_requests"),)] == 2


async def test_further_tenants_are_one(tmp_path: Path) -> None:
    async with Rig(tmp_path, sections={"metrics": {"tenants": 1}}) as rig:
        for who in ("alice", "bob", "carol", "bob"):
            await rig.receipt(await rig.call(CHAT, rig.chat(), who=who), who)
        found = await samples(rig)
        assert found["rlu_tenant_exchanges_total", (("tenant", pseudonym(rig, "alice")),)] == 2
        assert found["rlu_tenant_exchanges_total", (("tenant", "other"),)] == 2
        assert len([name for name, _ in found if name == "rlu_tenant_exchanges_total"]) == 2


async def test_the_engines_gauges(rig: Rig) -> None:
    rig.engine.application._metrics = lambda: (  # type: ignore[method-assign]
        b"vllm:num_requests_running 3.0\nvllm:num_requests_waiting 5.0\nvllm:kv_cache_usage_perc 0.25\n"
        b"vllm:prefix_cache_hits_total 987654321.0\n"
    )
    await rig.gateway.sampler.look()
    engine = (("engine", "engine"), ("model", "scripted"))
    found = await samples(rig)
    assert found["rlu_engine_running", engine] == 3
    assert found["rlu_engine_waiting", engine] == 5
    assert found["rlu_engine_kv_cache_usage_ratio", engine] == 0.25
    assert "87654321" not in await rig.metrics()
    rig.engine.application._metrics = lambda: b"no such thing\n"  # type: ignore[method-assign]
    await rig.gateway.sampler.look()
    assert ("rlu_engine_running", engine) not in await samples(rig)


async def test_an_engine_that_does_not_answer_is_given_up(
    tmp_path: Path, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "TIMEOUT_S", 0.5)
    asked = asyncio.Event()
    gone = asyncio.Event()

    class Mute(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            asked.set()

        def connection_lost(self, error: Exception | None) -> None:
            gone.set()

    mute = os.path.relpath(tmp_path / "mute.sock")
    server = await asyncio.get_running_loop().create_unix_server(Mute, mute)
    standing = Standing("engine", "scripted", probed=True, load=Load(1, 1, 0.5))
    engine = Engine(Path(mute), rig.gateway.engine)
    looking = Sampler(rig.gateway.attestor, [Replica(engine, standing)])
    await looking.look()
    assert asked.is_set()
    assert standing.load is None
    await asyncio.wait_for(gone.wait(), 60)
    engine.close()
    server.close()


async def test_the_attestor_s_condition(rig: Rig) -> None:
    await rig.receipt(await rig.call(CHAT, rig.chat()))
    await rig.gateway.sampler.look()
    found = await samples(rig)
    assert found["rlu_attestor_connected", ()] == 1
    assert found["rlu_log_entries", ()] == found["rlu_log_export_lag", ()] == 2
    assert found["rlu_attestor_signing_seconds_count", ()] == rig.attestor.signatures
    assert found["rlu_canary_age_seconds", ()] >= 86400
    await rig.attestor.stop()
    await rig.eventually(lambda: not rig.gateway.attestor.ready)
    gone = await samples(rig)
    assert gone["rlu_attestor_connected", ()] == 0
    assert ("rlu_log_entries", ()) not in gone


# --- events ----------------------------------------------------------------------------------------------------------


def answered(rig: Rig) -> list[dict[str, Any]]:
    return [event for event in rig.events if event["event"] == "request_answered"]


async def test_every_request_is_one_line(rig: Rig) -> None:
    rig.events.clear()
    complete = await rig.call(CHAT, rig.chat(), headers={"User-Agent": MARKER})
    await rig.receipt(complete)
    first, fetched = answered(rig)
    assert (
        first.items()
        >= {
            "level": "info",
            "route": CHAT,
            "status": 200,
            "request_id": complete.headers["x-request-id"],
            "session": complete.session,
            "seq": complete.seq,
            "model": "scripted",
            "outcome": "complete",
            "response_bytes": len(complete.content),
        }.items()
    )
    assert "code" not in first
    assert (fetched["route"], fetched["status"]) == ("own", 200)
    rig.events.clear()
    refused = [
        await rig.call(f"/nowhere/{MARKER}?{MARKER}", None, method="GET"),
        await rig.call(CHAT, rig.chat(), who=MARKER),
        await rig.call(CHAT, {"model": MARKER, "messages": []}),
        await rig.call("/v1/models", None, method="GET"),
    ]
    lines = answered(rig)
    assert [(line["route"], line["status"], line.get("code")) for line in lines] == [
        ("other", 404, "route_not_found"),
        (CHAT, 401, "key_invalid"),
        (CHAT, 404, "model_not_found"),
        ("/v1/models", 200, None),
    ]
    assert [line["request_id"] for line in lines] == [one.headers["x-request-id"] for one in refused]


async def test_who_leaves_is_a_line_too(tmp_path: Path) -> None:
    book = {"scripts": {"endless": {"events": 100_000, "interval_ms": 20}}}
    async with Rig(tmp_path, {"access_log": True}, book) as rig:
        wire = await rig.wire()
        await wire.send(rig.request(CHAT, rig.chat(stream=True, script="endless")))
        await wire.until(b"data: ")
        wire.abort()
        await rig.eventually(lambda: answered(rig))
        (line,) = answered(rig)
        assert (line["outcome"], line["status"], line["code"]) == ("aborted", 200, "client_disconnected")


async def test_without_the_access_log_only_refusals_are_told(tmp_path: Path) -> None:
    async with Rig(tmp_path) as rig:
        await rig.call(CHAT, rig.chat())
        await rig.call("/nowhere", None, method="GET")
        assert not answered(rig)
        assert {event["event"]: event["level"] for event in rig.events}["request_refused"] == "warning"


async def test_every_event_has_a_level(rig: Rig) -> None:
    assert {event["level"] for event in rig.events} <= {"info", "warning", "error"}


# --- traces ----------------------------------------------------------------------------------------------------------


def traced(tmp_path: Path, relay: str, **more: Any) -> Rig:
    sections = {"auth": {"relay": relay}, "tracing": {"sample": 1.0, **more}}
    return Rig(tmp_path, {"access_log": True}, sections=sections)


def exported(collector: Collector) -> list[dict[str, Any]]:
    return [
        span
        for _, _, content in collector.got
        for resource in json.loads(content)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


@pytest.fixture
async def collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Collector, str]]:
    """A collector behind the real relay."""
    monkeypatch.setattr(span_export, "PERIOD_S", 0.01)
    with Collector() as found:
        relay = Relay(Plan(collector=found.url, events=lambda event, code: None), "127.0.0.1:0")
        relay.start()
        try:
            yield found, f"http://127.0.0.1:{relay.port}"
        finally:
            await asyncio.to_thread(relay.close)


async def test_spans_reach_the_collector_by_the_relay(
    tmp_path: Path, collector: tuple[Collector, str]
) -> None:
    found, relay = collector
    async with traced(tmp_path, relay) as rig:
        header = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": MARKER, "baggage": MARKER}
        answer = await rig.call(CHAT, rig.chat(stream=True), headers=header)
        await rig.eventually(lambda: found.got)
        assert {path for path, _, _ in found.got} == {"/v1/traces"}
        spans = exported(found)
        assert [span["name"] for span in spans] == [
            f"POST {CHAT}",
            "receive",
            "admission",
            "session",
            "engine",
        ]
        said = {a["key"]: a["value"].get("stringValue") for a in spans[0]["attributes"]}
        assert said["rlu.session"] == answer.session
        assert said["rlu.request_id"] == answer.headers["x-request-id"]
        assert TRACE not in json.dumps(spans)  # it was not to be continued
        seen = [one for one in rig.engine.seen if one.target == CHAT][-1]
        assert not {"traceparent", "tracestate", "baggage"} & {name.lower() for name, _ in seen.headers}
        await rig.eventually(lambda: rig.gateway.relay.measures.spans_sent == 5)


async def test_a_client_s_trace_goes_on_if_that_is_wanted(
    tmp_path: Path, collector: tuple[Collector, str]
) -> None:
    found, relay = collector
    async with traced(tmp_path, relay, continue_clients=True) as rig:
        await rig.call(CHAT, rig.chat(), headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
        await rig.eventually(lambda: found.got)
        root = exported(found)[0]
        assert (root["traceId"], root["parentSpanId"]) == (TRACE, PARENT)
        found.got.clear()
        await rig.call(CHAT, rig.chat(), headers={"traceparent": MARKER})
        await rig.eventually(lambda: found.got)
        assert "parentSpanId" not in exported(found)[0]


async def test_without_a_relay_there_spans_are_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_export, "PERIOD_S", 0.01)
    async with traced(tmp_path, f"unix:{tmp_path / 'nobody.sock'}") as rig:
        assert (await rig.call(CHAT, rig.chat())).status == 200
        await rig.eventually(lambda: rig.gateway.relay.measures.spans_dropped == 5)
        assert rig.gateway.relay.measures.spans_sent == 0
        assert any(event["event"] == "relay_failed" for event in rig.events)


async def test_the_buffer_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_export, "MOST", 9)
    async with traced(tmp_path, f"unix:{tmp_path / 'nobody.sock'}") as rig:
        measures = rig.gateway.relay.measures
        for _ in range(3):
            assert (await rig.call(CHAT, rig.chat())).status == 200
        assert measures.spans_dropped >= 10


# --- content ---------------------------------------------------------------------------------------------------------


async def test_nothing_that_was_said_is_in_any_of_them(
    tmp_path: Path, collector: tuple[Collector, str]
) -> None:
    found, relay = collector
    rig = traced(tmp_path, relay, continue_clients=True)
    rig.book = {"default": {"turns": [{"text": f"{MARKER} {MARKER}"}]}}
    async with rig:
        headers = {"X-Marker": MARKER, "User-Agent": MARKER, "traceparent": MARKER, "session-id": MARKER}
        for path in (CHAT, MESSAGES, "/v1/responses"):
            for stream in (False, True):
                body = {**rig.chat(MARKER, stream=stream), "max_tokens": 9, "input": MARKER, "user": MARKER}
                body = {
                    k: v
                    for k, v in body.items()
                    if not (path == "/v1/responses" and k in ("messages", "max_tokens"))
                }
                await rig.call(f"{path}?{MARKER}", body, headers=headers)
                await rig.call(path, body, headers=headers)
                await rig.call(path, json.dumps(body).encode() + MARKER.encode(), headers=headers)
        assert MARKER in (await rig.call(CHAT, rig.chat())).content.decode()
        await rig.call(CHAT, {"model": MARKER}, headers=headers)
        await rig.call(f"/{MARKER}", None, method="GET", headers=headers)
        await rig.call(f"/v1/models/{MARKER}", None, method="GET", headers=headers)
        await rig.call(CHAT, rig.chat(MARKER), who=MARKER)
        await rig.eventually(lambda: len(exported(found)) > 20)
        await rig.gateway.sampler.look()
        written = [await rig.metrics(), json.dumps(rig.events), *(str(one) for one in found.got)]
        for text in written:
            assert len(text) > 100
            assert MARKER not in text
            assert "acme" not in text
            assert "alice" not in text
