from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from rlu_attestation.encoding import b64u
from rlu_server.attestor.messages import Attestation
from rlu_server.core.errors import GatewayError
from rlu_server.endpoints.attestation import MAX_ATTESTING


async def test_attestation_is_a_bundle_and_needs_no_key(client: httpx.AsyncClient, gateway: Any) -> None:
    nonce = b64u(b"12345678")
    answer = await client.get("/v1/rlu/attestation", params={"nonce": nonce})
    assert answer.json() == {
        "rlu_bundle": "1",
        "attestation": {
            "statement": "a.b.c",
            "evidence": [{"kind": "none", "data": b64u(b'{"kind":"none"}')}],
        },
        "nonce": nonce,
    }
    scheduled = await client.get("/v1/rlu/attestation")
    assert "nonce" not in scheduled.json()
    assert gateway.asked == [("attest", b"12345678"), ("attest", None)]


@pytest.mark.parametrize("nonce", ["", b64u(bytes(7)), b64u(bytes(65)), "AAAAAAAAAAA=", "canary canary!"])
async def test_nonces_of_the_wrong_size(client: httpx.AsyncClient, gateway: Any, nonce: str) -> None:
    answer = await client.get("/v1/rlu/attestation", params={"nonce": nonce})
    assert (answer.status_code, answer.json()["code"]) == (400, "nonce_size")
    assert "canary" not in answer.text
    assert gateway.asked == []


async def test_fresh_attestations_in_flight_are_bounded(client: httpx.AsyncClient, gateway: Any) -> None:
    release, arrived = asyncio.Event(), asyncio.Semaphore(0)

    async def slow(nonce: bytes | None) -> Attestation:
        arrived.release()
        await release.wait()
        raise GatewayError("signer_unavailable")

    gateway.attest = slow
    waiting = [asyncio.create_task(client.get("/v1/rlu/attestation")) for _ in range(MAX_ATTESTING)]
    for _ in waiting:
        await asyncio.wait_for(arrived.acquire(), 60)
    one_more = await client.get("/v1/rlu/attestation")
    assert (one_more.status_code, one_more.json()["code"]) == (503, "overloaded")
    assert one_more.headers["retry-after"] == "2"
    release.set()
    answers = await asyncio.gather(*waiting)
    assert {answer.json()["code"] for answer in answers} == {"signer_unavailable"}
    # Those that failed have left.
    assert (await client.get("/v1/rlu/attestation")).json()["code"] == "signer_unavailable"


async def test_configuration(client: httpx.AsyncClient, gateway: Any) -> None:
    answer = (await client.get("/.well-known/rlu-configuration")).json()
    assert answer["issuer"] == "urn:rlu:instance:x"
    assert answer["tls"] == {"origin": "gateway-memory", "spki_sha256": b64u(bytes(32))}
    assert answer["nonce"] == {"min_bytes": 8, "max_bytes": 64}
    assert answer["models"] == ["scripted"]
    gateway.failure = GatewayError("signer_unavailable")
    down = await client.get("/.well-known/rlu-configuration")
    assert (down.status_code, down.headers["retry-after"]) == (503, "5")
