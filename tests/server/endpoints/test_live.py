"""Our routes on a real gateway: over its sockets, behind its allow list, with its request ids."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fakes.rig import Rig
from rlu_attestation.commitment import key_digest
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.statements import Close, SessionStatement
from rlu_server.core.routes import is_own
from rlu_server.endpoints import create_app

NONCE = bytes(range(32))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with Rig(tmp_path) as rig:
        yield rig


async def opened(rig: Rig, who: str = "alice") -> dict[str, Any]:
    answer = await rig.call("/v1/rlu/sessions", {"nonce": b64u(NONCE)}, who=who)
    assert answer.status == 201, answer.content
    session: dict[str, Any] = answer.json()
    return session


def test_every_route_is_on_the_allow_list(gateway: Any) -> None:
    documented = create_app(gateway, "0").openapi()["paths"]
    assert all(is_own(path.encode()) for path in documented)
    assert is_own(b"/openapi.json")


async def test_a_session_from_its_opening_to_its_close(rig: Rig) -> None:
    session = await opened(rig)
    statement = rig.signed(session, SessionStatement)
    assert (statement.nonce, statement.session) == (NONCE, session["session"])
    assert statement.commitment_key == key_digest(unb64u(session["commitment_key"]))
    assert statement.expires_at == session["expires"]
    served = await rig.call("/v1/chat/completions", rig.chat(), headers={"RLU-Session": session["session"]})
    receipt = await rig.receipt(served)
    assert (receipt.session, receipt.seq) == (session["session"], 1)
    base = f"/v1/rlu/sessions/{session['session']}"
    detail = (await rig.call(base, None, method="GET")).json()
    assert (detail["state"], detail["last_seq"], detail["statement"]) == ("open", 1, session["statement"])
    key = await rig.call(f"{base}/commitment-key", None, method="GET")
    assert key.json() == {"commitment_key": session["commitment_key"]}
    closed = await rig.call(base, None, method="DELETE")
    close = rig.signed(closed.json(), Close)
    assert (close.session, close.last_seq, close.count) == (session["session"], 1, 1)
    refused = await rig.call("/v1/chat/completions", rig.chat(), headers={"RLU-Session": session["session"]})
    assert (refused.status, refused.json()["error"]["code"]) == (410, "session_closed")


@pytest.mark.parametrize("who", ["carol", "bob"])
async def test_nobody_else_sees_it(rig: Rig, who: str) -> None:
    session = (await opened(rig))["session"]
    served = await rig.call("/v1/chat/completions", rig.chat(), headers={"RLU-Session": session})
    await rig.receipt(served)
    for method, path in [
        ("GET", f"/v1/rlu/sessions/{session}"),
        ("GET", f"/v1/rlu/sessions/{session}/commitment-key"),
        ("GET", f"/v1/rlu/receipts/{session}/1"),
        ("DELETE", f"/v1/rlu/sessions/{session}"),
    ]:
        answer = await rig.call(path, None, method=method, who=who)
        assert (answer.status, answer.json()["code"]) == (404, "session_not_found"), path
    assert (await rig.call("/v1/rlu/sessions", None, method="GET", who=who)).json() == {"sessions": []}
    assert (await rig.call(f"/v1/rlu/sessions/{session}", None, method="GET")).json()["state"] == "open"


async def test_problems_carry_the_requests_id(rig: Rig) -> None:
    for path, body, method, status in [
        ("/v1/rlu/sessions", {"nonce": "AA"}, "POST", 400),
        ("/v1/rlu/nothing", None, "GET", 404),
        ("/v1/rlu/sessions", None, "PATCH", 405),
    ]:
        answer = await rig.call(path, body, method=method)
        assert answer.status == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert answer.headers["cache-control"] == "no-store"
    missing = await rig.call("/v1/rlu/sessions", None, method="GET", who=None)
    assert (missing.status, missing.headers["www-authenticate"]) == (401, 'Bearer realm="rlu"')


async def test_what_needs_no_key(rig: Rig) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json", "/.well-known/rlu-configuration"):
        assert (await rig.call(path, None, method="GET", who=None)).status == 200, path
    configuration = (await rig.call("/.well-known/rlu-configuration", None, method="GET", who=None)).json()
    assert configuration["tls"] == {"origin": "plaintext"}
    assert configuration["models"] == ["scripted"]


async def test_readiness_follows_the_attestor(rig: Rig) -> None:
    await rig.attestor.stop()
    await rig.eventually(lambda: rig.gateway.readiness.missing())
    waiting = await rig.call("/readyz", None, method="GET", who=None)
    assert waiting.status == 503
    assert [reason["code"] for reason in waiting.json()["reasons"]] == ["signer_unavailable"]
    refused = await rig.call("/v1/rlu/sessions", {"nonce": b64u(NONCE)})
    assert (refused.status, refused.json()["code"]) == (503, "signer_unavailable")
    assert refused.headers["retry-after"]


async def test_metrics_hold_nothing_of_a_request(rig: Rig) -> None:
    await rig.call("/v1/chat/completions", rig.chat("canary-in-the-prompt"))
    await rig.call("/canary-in-the-path", None, method="GET")
    await rig.call("/v1/chat/completions", {"model": "canary-model", "messages": []})
    text = await rig.metrics()
    assert "canary" not in text
    assert "acme" not in text
    assert "alice" not in text
    assert "rlu_metrics_withheld 0.0" in text
