from __future__ import annotations

from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from rlu_server.core.apikeys import tenant_pseudonym
from rlu_server.core.errors import CATALOGUE
from rlu_server.core.responses import LABEL
from rlu_server.core.routes import RELAYED
from rlu_server.endpoints import Distribution, Measurement, Sample
from rlu_server.endpoints.metrics import CONTENT_TYPE, MAX_SERIES, exposition


async def test_health_and_readiness(client: httpx.AsyncClient, gateway: Any) -> None:
    gateway.reasons = ["signer_unavailable", "engine_unavailable"]
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    waiting = await client.get("/readyz")
    assert waiting.status_code == 503
    assert waiting.json() == {
        "ready": False,
        "reasons": [{"code": code, "detail": CATALOGUE[code].message} for code in gateway.reasons],
    }
    gateway.reasons = []
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reasons": []})


async def test_metrics_are_not_here(client: httpx.AsyncClient) -> None:
    assert (await client.get("/metrics")).status_code == 404


def test_metrics_are_prometheus_text() -> None:
    measured = [
        Measurement("exchanges_total", "Exchanges.", "counter", (Sample((("status", "complete"),), 3),)),
        Measurement(
            "ttft_seconds",
            "Time to the first byte.",
            "histogram",
            distributions=(Distribution((("api", "chat"),), ((0.1, 2), (float("inf"), 3)), 1.5),),
        ),
    ]
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition(measured).decode())
        for sample in family.samples
    }
    assert samples["rlu_exchanges_total", (("status", "complete"),)] == 3
    assert samples["rlu_ttft_seconds_bucket", (("api", "chat"), ("le", "0.1"))] == 2
    assert samples["rlu_ttft_seconds_count", (("api", "chat"),)] == 3
    assert samples["rlu_ttft_seconds_sum", (("api", "chat"),)] == 1.5
    assert samples["rlu_metrics_withheld", ()] == 0


def test_labels_that_are_not_our_words_never_leave() -> None:
    leaky = [
        Sample((("route", "/v1/messages"),), 1),
        Sample((("route", "what is my diagnosis?"),), 1),
        Sample((("route", "x" * 41),), 1),
        Sample((("other", "chat"),), 1),
        Sample((("route", "chat"), ("more", "chat")), 1),
    ]
    text = exposition([Measurement("leaky", "Leaky.", "gauge", tuple(leaky))]).decode()
    assert text.count("rlu_leaky{") == 1
    assert "diagnosis" not in text
    assert "rlu_metrics_withheld 4.0" in text


def test_all_our_words_leave() -> None:
    """Every route's label, every code, models as operators name them, pseudonyms."""
    routes = [route.path for route in RELAYED.values()]
    words = {
        "route": [*routes, "/", "/v1/models", "/v1/models/{id}", LABEL, "own", "other"],
        "code": list(CATALOGUE),
        "model": ["Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8", "qwen3-coder:30b", "m"],
        "tenant": [tenant_pseudonym(bytes(32), "acme"), "other"],
    }
    measured = [
        Measurement(f"by_{label}", "x", "gauge", tuple(Sample(((label, value),), 1) for value in values))
        for label, values in words.items()
    ]
    assert "rlu_metrics_withheld 0.0" in exposition(measured).decode()


def test_the_number_of_series_is_bounded() -> None:
    many = tuple(Sample((("n", str(i)),), 1) for i in range(MAX_SERIES + 5))
    text = exposition([Measurement("many", "Many.", "counter", many)]).decode()
    assert text.count("rlu_many_total{") == MAX_SERIES
    assert "rlu_metrics_withheld 5.0" in text


async def test_openapi_describes_our_routes_and_their_errors(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/.well-known/rlu-configuration",
        "/healthz",
        "/readyz",
        "/v1/rlu/attestation",
        "/v1/rlu/log/consistency",
        "/v1/rlu/log/cosignatures",
        "/v1/rlu/log/entries",
        "/v1/rlu/log/exported",
        "/v1/rlu/log/head",
        "/v1/rlu/log/history",
        "/v1/rlu/log/leaves",
        "/v1/rlu/log/path",
        "/v1/rlu/log/proof",
        "/v1/rlu/receipts/{session}/{seq}",
        "/v1/rlu/sessions",
        "/v1/rlu/tenant/keys",
        "/v1/rlu/tenant/pseudonyms/{pseudonym}",
        "/v1/rlu/sessions/{session}",
        "/v1/rlu/sessions/{session}/commitment-key",
    }
    operation = document["paths"]["/v1/rlu/sessions"]["post"]
    assert "application/problem+json" in operation["responses"]["4XX"]["content"]
    assert {"HTTPBearer": []} in operation["security"]
    assert "security" not in document["paths"]["/v1/rlu/attestation"]["get"]
