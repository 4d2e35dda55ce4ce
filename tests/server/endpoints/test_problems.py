from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest


async def test_unknown_routes_and_methods(client: httpx.AsyncClient) -> None:
    missing = await client.get("/v1/rlu/canary")
    assert (missing.status_code, missing.json()["code"]) == (404, "route_not_found")
    assert missing.headers["content-type"] == "application/problem+json"
    assert "canary" not in missing.text
    method = await client.put("/v1/rlu/sessions")
    assert (method.status_code, method.json()["code"]) == (405, "method_not_allowed")
    assert method.headers["allow"]
    # No helpful redirects, no documentation pages that load scripts.
    for path in ("/v1/rlu/sessions/", "/docs", "/redoc"):
        assert (await client.get(path)).status_code == 404


async def test_a_bug_is_answered_and_logged_without_content(
    client: httpx.AsyncClient, gateway: Any, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.failure = ValueError("canary in the exception")
    with caplog.at_level(logging.DEBUG):
        answer = await client.get("/v1/rlu/attestation")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "canary" not in answer.text + caplog.text
    assert "internal_error class=ValueError at=_do" in caplog.text
    assert answer.headers["cache-control"] == "no-store"
