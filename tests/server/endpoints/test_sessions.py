from __future__ import annotations

from typing import Any

import httpx
import pytest

from rlu_attestation.encoding import b64u

NONCE = b64u(bytes(range(16)))


def key(gateway: Any, who: str) -> dict[str, str]:
    return {"authorization": f"Bearer {gateway.keys[who]}"}


async def opened(client: httpx.AsyncClient, gateway: Any, who: str = "ann") -> dict[str, Any]:
    answer = await client.post("/v1/rlu/sessions", json={"nonce": NONCE}, headers=key(gateway, who))
    assert answer.status_code == 201
    body: dict[str, Any] = answer.json()
    return body


async def test_open_look_up_list_and_close(client: httpx.AsyncClient, gateway: Any) -> None:
    jkt = b64u(bytes(32))
    answer = await client.post(
        "/v1/rlu/sessions", json={"nonce": NONCE, "cnf_jkt": jkt, "ttl_s": 99}, headers=key(gateway, "ann")
    )
    assert answer.status_code == 201
    body = answer.json()
    assert body == {
        "session": body["session"],
        "statement": b64u(b"statement"),
        "receipt": b64u(b"cose"),
        "commitment_key": b64u(bytes(range(32))),
        "expires": 1_800_000_099,
    }
    assert answer.headers["location"] == f"/v1/rlu/sessions/{body['session']}"
    assert answer.headers["cache-control"] == "no-store"
    assert gateway.asked == [("open", bytes(range(16)), bytes(32), 99)]
    detail = (await client.get(answer.headers["location"], headers=key(gateway, "ann"))).json()
    assert (detail["state"], detail["explicit"], detail["statement"]) == ("open", True, b64u(b"statement"))
    assert "commitment_key" not in detail
    again = await client.get(
        f"/v1/rlu/sessions/{body['session']}/commitment-key", headers=key(gateway, "ann")
    )
    assert again.json() == {"commitment_key": body["commitment_key"]}
    listed = (await client.get("/v1/rlu/sessions", headers=key(gateway, "ann"))).json()
    assert [entry["session"] for entry in listed["sessions"]] == [body["session"]]
    closed = await client.delete(f"/v1/rlu/sessions/{body['session']}", headers=key(gateway, "ann"))
    assert closed.json() == {"statement": b64u(b"close"), "receipt": b64u(b"cose")}
    twice = await client.delete(f"/v1/rlu/sessions/{body['session']}", headers=key(gateway, "ann"))
    assert (twice.status_code, twice.json()["code"]) == (410, "session_closed")


@pytest.mark.parametrize("who", ["al", "bob"])
async def test_what_belongs_to_someone_else_does_not_exist(
    client: httpx.AsyncClient, gateway: Any, who: str
) -> None:
    session = (await opened(client, gateway))["session"]
    unknown = b64u(bytes(16))
    for method, path in [
        ("GET", "/v1/rlu/sessions/{}"),
        ("GET", "/v1/rlu/sessions/{}/commitment-key"),
        ("DELETE", "/v1/rlu/sessions/{}"),
        ("GET", "/v1/rlu/receipts/{}/1"),
    ]:
        theirs = await client.request(method, path.format(session), headers=key(gateway, who))
        nobodys = await client.request(method, path.format(unknown), headers=key(gateway, who))
        assert theirs.status_code == 404
        assert theirs.content == nobodys.content
    assert (await client.get("/v1/rlu/sessions", headers=key(gateway, who))).json() == {"sessions": []}


@pytest.mark.parametrize(
    ("nonce", "why"),
    [
        (b64u(bytes(7)), "short"),
        (b64u(bytes(65)), "long"),
        ("=" * 16, "alphabet"),
        ("", "empty"),
        ("A" * 10**5, "huge"),
    ],
)
async def test_a_nonce_of_the_wrong_size_names_the_limits(
    client: httpx.AsyncClient, gateway: Any, nonce: str, why: str
) -> None:
    answer = await client.post("/v1/rlu/sessions", json={"nonce": nonce}, headers=key(gateway, "ann"))
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["param"]) == (400, "nonce_size", "nonce")
    assert "8 to 64 bytes" in problem["detail"]
    assert gateway.asked == []


@pytest.mark.parametrize("size", [8, 64])
async def test_the_limits_themselves_are_accepted(client: httpx.AsyncClient, gateway: Any, size: int) -> None:
    answer = await client.post(
        "/v1/rlu/sessions", json={"nonce": b64u(bytes(size))}, headers=key(gateway, "ann")
    )
    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("content", "code", "param"),
    [
        (b"{", "json_malformed", None),
        (b"\xff", "json_malformed", None),
        (b"[" * 100_000, "json_malformed", None),
        (b"[]", "body_not_object", None),
        (b"", "body_not_object", None),
        (b"{}", "field_missing", "nonce"),
        (b'{"nonce": 5}', "field_type", "nonce"),
        (b'{"nonce": "%s", "canary-field": 1}' % NONCE.encode(), "field_not_allowed", None),
        (b'{"nonce": "%s", "ttl_s": 0}' % NONCE.encode(), "field_type", "ttl_s"),
        (b'{"nonce": "%s", "ttl_s": 604801}' % NONCE.encode(), "field_type", "ttl_s"),
        (b'{"nonce": "%s", "cnf_jkt": "canary"}' % NONCE.encode(), "field_type", "cnf_jkt"),
    ],
)
async def test_bad_bodies(
    client: httpx.AsyncClient, gateway: Any, content: bytes, code: str, param: str | None
) -> None:
    headers = {**key(gateway, "ann"), "content-type": "application/json"}
    answer = await client.post("/v1/rlu/sessions", content=content, headers=headers)
    assert (answer.status_code, answer.json()["code"], answer.json().get("param")) == (400, code, param)
    assert "canary" not in answer.text
    assert gateway.asked == []


async def test_a_body_that_is_not_json_by_its_type(client: httpx.AsyncClient, gateway: Any) -> None:
    headers = {**key(gateway, "ann"), "content-type": "text/plain"}
    answer = await client.post("/v1/rlu/sessions", content=b'{"nonce":"AAAAAAAAAAA"}', headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "content_type")


async def test_receipts(client: httpx.AsyncClient, gateway: Any) -> None:
    session = (await opened(client, gateway))["session"]
    base = f"/v1/rlu/receipts/{session}"
    answer = await client.get(f"{base}/1", headers=key(gateway, "ann"))
    assert answer.json() == {"statement": b64u(b"receipt"), "receipt": b64u(b"cose")}
    pending = await client.get(f"{base}/2", headers=key(gateway, "ann"))
    assert (pending.status_code, pending.headers["retry-after"]) == (503, "1")
    gateway.asked.clear()
    for wrong in ("0", "-1", "01", "x", "1.0", "9" * 16, "%C2%B2", "1e3"):
        answer = await client.get(f"{base}/{wrong}", headers=key(gateway, "ann"))
        assert (answer.status_code, answer.json()["code"]) == (404, "receipt_not_found"), wrong
    assert gateway.asked == []
    answer = await client.get("/v1/rlu/receipts/nonsense/1", headers=key(gateway, "ann"))
    assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")


async def test_keys_are_needed_and_checked(client: httpx.AsyncClient, gateway: Any) -> None:
    for method, path in [
        ("POST", "/v1/rlu/sessions"),
        ("GET", "/v1/rlu/sessions"),
        ("GET", f"/v1/rlu/sessions/{b64u(bytes(16))}"),
        ("GET", f"/v1/rlu/receipts/{b64u(bytes(16))}/1"),
        ("GET", "/v1/rlu/log/head"),
        ("GET", "/v1/rlu/log/proof?leaf_index=0"),
        ("GET", "/v1/rlu/log/consistency?old_size=0"),
    ]:
        body = {"nonce": NONCE} if method == "POST" else None
        missing = await client.request(method, path, json=body)
        assert (missing.status_code, missing.json()["code"]) == (401, "key_missing"), path
        assert missing.headers["www-authenticate"] == 'Bearer realm="rlu"'
        wrong = await client.request(
            method, path, json=body, headers={"x-api-key": gateway.keys["ann"][:-1] + "A"}
        )
        assert (wrong.status_code, wrong.json()["code"]) == (401, "key_invalid"), path
    good = await client.get("/v1/rlu/log/head", headers={"x-api-key": gateway.keys["ann"]})
    assert good.status_code == 200
