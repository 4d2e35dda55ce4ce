"""Bodies and queries of our own routes that mean harm: every one is a refusal with a code, never an internal error."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

SESSIONS, EXPORTED, COSIGNATURES = "/v1/rlu/sessions", "/v1/rlu/log/exported", "/v1/rlu/log/cosignatures"
NONCE = "A" * 16


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        (SESSIONS, b"[" * 30_000, "json_malformed"),
        (SESSIONS, b'{"nonce":' * 10_000 + b"1" + b"}" * 10_000, "json_malformed"),
        (SESSIONS, b'{"nonce":"' + NONCE.encode() + b'","x":' + b"[" * 30_000, "json_malformed"),
        (SESSIONS, b'{"nonce":"\\ud800"}', "nonce_size"),
        (SESSIONS, b'{"nonce":"' + b"\\udfff" * 22 + b'"}', "nonce_size"),
        (SESSIONS, b'{"nonce":"' + b"\xff" * 22 + b'"}', "json_malformed"),
        (SESSIONS, b'{"nonce":"' + b"\xed\xa0\x80" * 9 + b'"}', "nonce_size"),
        (SESSIONS, b'{"nonce":"\x00"}', "json_malformed"),
        (SESSIONS, b'{"nonce":"\\u0000\\u0000\\u0000\\u0000"}', "nonce_size"),
        (SESSIONS, b'{"nonce":NaN}', "field_type"),
        (SESSIONS, b'{"nonce":"' + NONCE.encode() + b'","ttl_s":1e400}', "field_type"),
        (SESSIONS, b'{"nonce":"' + NONCE.encode() + b'","ttl_s":' + b"9" * 5000 + b"}", "json_malformed"),
        (SESSIONS, b'{"nonce":"' + NONCE.encode() + b'","ttl_s":' + b"9" * 400 + b"}", "field_type"),
        (SESSIONS, b'{"nonce":"' + NONCE.encode() + b'","ttl_s":-0}', "field_type"),
        (SESSIONS, b'{"nonce":"' + NONCE.encode() + b'","ttl_s":true}', "field_type"),
        (SESSIONS, b'{"nonce":"' + NONCE.encode() + b'","cnf_jkt":"' + b"\\ud800" * 43 + b'"}', "field_type"),
        (SESSIONS, b'{"nonce":"' + NONCE.encode() + b'","nonce":"A"}', "nonce_size"),
        (SESSIONS, b'{"nonce":"' + NONCE.encode() + b'","__proto__":{}}', "field_not_allowed"),
        (SESSIONS, b"\xef\xbb\xbf{}", "field_missing"),
        (SESSIONS, '{"nonce":"A"}'.encode("utf-16"), "nonce_size"),
        (EXPORTED, b'{"size":' + b"9" * 5000 + b"}", "json_malformed"),
        (EXPORTED, b'{"size":9007199254740993}', "field_type"),
        (EXPORTED, b'{"size":1.0}', "field_type"),
        (COSIGNATURES, b'{"head":"\\ud800","cosignature":"\\ud800"}', "field_type"),
        (COSIGNATURES, b'{"head":"' + b"A" * 20_000 + b'","cosignature":"x"}', "cosignature_refused"),
    ],
)
async def test_bodies(client: httpx.AsyncClient, gateway: Any, path: str, body: bytes, code: str) -> None:
    headers = {"authorization": f"Bearer {gateway.keys['ann']}", "content-type": "application/json"}
    answer = await client.post(path, content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert gateway.opened == {}


@pytest.mark.parametrize(
    "value",
    ["9" * 5000, "1e400", "-1", "NaN", "１", "0x10", "1_0_", "%00", "1%0a2", "%ff", "9007199254740992"],
)
@pytest.mark.parametrize("path", ["log/proof?leaf_index=", "log/consistency?old_size=", "log/leaves?start="])
async def test_queries(client: httpx.AsyncClient, gateway: Any, path: str, value: str) -> None:
    headers = {"authorization": f"Bearer {gateway.keys['ann']}"}
    answer = await client.get(f"/v1/rlu/{path}{value}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "field_type")


@pytest.mark.parametrize(
    "session",
    [
        "%00",
        "..",
        "%2e%2e",
        "A" * 5000,
        "A" * 21 + "%0a",
        "A" * 22 + "%0a",
        "%ff" * 22,
        "Ａ" * 22,
        "{session}",
    ],
)
async def test_names_of_sessions(client: httpx.AsyncClient, gateway: Any, session: str) -> None:
    headers = {"authorization": f"Bearer {gateway.keys['ann']}"}
    for path in (f"sessions/{session}", f"sessions/{session}/commitment-key", f"receipts/{session}/1"):
        answer = await client.get(f"/v1/rlu/{path}", headers=headers)
        assert answer.status_code == 404, path
        assert answer.json()["code"] in ("session_not_found", "route_not_found")
