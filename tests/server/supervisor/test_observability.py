"""Metrics and traces of a whole server in its locks: the hub serves the numbers of all workers, spans leave by the relay alone."""

from __future__ import annotations

import asyncio
import http.client
import json
from pathlib import Path
from typing import Any

import pytest
from deployment import Up, make_settings, running, stand_in

from fakes.collector import Collector
from ports import free_port
from rlu_server.outreach.relay import Plan, Relay
from rlu_server.selftest import exports
from rlu_server.settings import Settings


def changed(settings: Settings, **sections: dict[str, Any]) -> Settings:
    document = settings.model_dump()
    for name, values in sections.items():
        document[name].update(values)
    return Settings.model_validate(document)


def value(metrics: bytes, sample: str) -> float:
    return sum(float(line.split()[-1]) for line in metrics.decode().splitlines() if line.startswith(sample))


async def eventually(up: Up, metrics: Any, sample: str, wanted: float) -> bytes:
    found = b""

    async def there() -> bool:
        nonlocal found
        found = await asyncio.to_thread(metrics)
        return value(found, sample) >= wanted

    for _ in range(1200):
        if await there():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(found.decode())


async def test_workers_in_their_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    port = free_port()
    (tmp_path / "relay").mkdir()
    listen = f"unix:{tmp_path}/relay/relay.sock"
    settings = changed(
        make_settings(tmp_path),
        gateway={"workers": 2, "access_log": True},
        metrics={"listen": f"127.0.0.1:{port}"},
        tracing={"sample": 1.0},
        auth={"relay": listen},
    )

    def by_port() -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/metrics")
        content = connection.getresponse().read()
        connection.close()
        return content

    with Collector() as collector:
        relay = Relay(Plan(collector=collector.url, events=lambda event, code: None), listen)
        relay.start()
        try:
            async with running(tmp_path, settings) as up:
                for _ in range(6):
                    assert (await up.ask())[0] == 200
                found = await eventually(up, by_port, "rlu_spans_sent_total", 30)
                assert value(found, 'rlu_requests_total{route="/v1/chat/completions",status="200"}') == 6
                assert value(found, "rlu_session_wait_seconds_count") == 6
                found = await eventually(up, by_port, "rlu_receipt_seconds_count", 6)
                assert value(found, "rlu_tenant_exchanges_total{") == 6
                await eventually(up, by_port, "rlu_attestor_signing_seconds_count", 1)

                def answered() -> list[dict[str, Any]]:
                    lines = [values for name, values in up.events if name == "request_answered"]
                    return [line for line in lines if line["route"] == "/v1/chat/completions"]

                await up.until(lambda: len(answered()) >= 6)
                asked = answered()
                assert {(line["status"], line["outcome"], line["model"]) for line in asked} == {
                    (200, "complete", "m")
                }
                assert len({line["request_id"] for line in asked}) == len(asked) == 6
                assert up.said("output.withheld") == 0
        finally:
            await asyncio.to_thread(relay.close)
    spans = [
        span["name"]
        for _, _, content in collector.got
        for span in json.loads(content)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    ]
    assert spans.count("POST /v1/chat/completions") == 6
    assert spans.count("engine") == 6


async def test_as_it_is_without_a_word_in_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    async with running(tmp_path, make_settings(tmp_path)) as up:
        listener = up.place.path / "gateway" / "metrics.sock"
        assert [values["at"] for name, values in up.events if name == "metrics_listening"] == [str(listener)]
        assert (await up.ask())[0] == 200
        found = await eventually(up, lambda: exports.metrics(listener), "rlu_receipt_seconds_count", 1)
        assert value(found, "rlu_ready") == 1
        assert (await up.call("GET", "/metrics"))[0] == 404
