"""The log's routes: heads and proofs for whoever has a key, entries for the exporter only."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from rlu_attestation.encoding import b64u


async def test_log(client: httpx.AsyncClient, gateway: Any) -> None:
    client.headers["x-api-key"] = gateway.keys["ann"]
    assert (await client.get("/v1/rlu/log/head")).json() == {"head": b64u(b"head"), "tree_size": 7}
    assert (await client.get("/v1/rlu/log/proof?leaf_index=6")).json() == {"receipt": b64u(b"inclusion")}
    assert (await client.get("/v1/rlu/log/consistency?old_size=7")).json() == {
        "receipt": b64u(b"consistency")
    }
    for path in ("proof?leaf_index=7", "consistency?old_size=8"):
        beyond = await client.get(f"/v1/rlu/log/{path}")
        assert (beyond.status_code, beyond.json()["code"]) == (404, "not_in_log")
    for path, param in [
        ("proof", "leaf_index"),
        ("proof?leaf_index=-1", "leaf_index"),
        ("proof?leaf_index=canary", "leaf_index"),
        (f"consistency?old_size={2**53}", "old_size"),
    ]:
        bad = await client.get(f"/v1/rlu/log/{path}")
        assert (bad.status_code, bad.json()["param"]) == (400, param)
        assert "canary" not in bad.text


async def test_leaves_and_history(client: httpx.AsyncClient, gateway: Any) -> None:
    client.headers["x-api-key"] = gateway.keys["bob"]
    answer = (await client.get("/v1/rlu/log/leaves?start=5&count=9")).json()
    assert answer == {"start": 5, "leaves": b64u(bytes(64))}
    assert (await client.get("/v1/rlu/log/leaves?start=8")).status_code == 404
    path = await client.get("/v1/rlu/log/path?old_size=3&new_size=7")
    assert path.json() == {"path": [b64u(bytes(32))]}
    assert (await client.get("/v1/rlu/log/path?old_size=3&new_size=8")).json()["code"] == "not_in_log"
    assert (await client.get("/v1/rlu/log/leaves?start=0&count=4097")).json()["param"] == "count"
    (old,) = (await client.get("/v1/rlu/log/history")).json()["instances"]
    assert old == {
        "issuer": "urn:rlu:instance:old",
        "jwk": {"kty": "EC"},
        "head": b64u(b"final"),
        "tree_size": 3,
    }


async def test_an_earlier_instance_is_asked_for_by_its_name(client: httpx.AsyncClient, gateway: Any) -> None:
    client.headers["x-api-key"] = gateway.keys["bob"]
    name = "urn:rlu:instance:" + "A" * 44
    assert (await client.get(f"/v1/rlu/log/consistency?old_size=2&issuer={name}")).status_code == 200
    assert gateway.asked[-1] == ("consistency", 2, name)
    for route, asked in (
        ("head?", ("head", name)),
        ("path?old_size=2&new_size=3&", ("path", 2, 3, name)),
        ("cosignatures?", ("cosignatures", name)),
    ):
        assert (await client.get(f"/v1/rlu/log/{route}issuer={name}")).status_code == 200
        assert gateway.asked[-1] == asked
        await client.get(f"/v1/rlu/log/{route}")
        assert gateway.asked[-1] == (*asked[:-1], None)
    for route in ("consistency?old_size=2&", "head?", "path?old_size=2&new_size=3&", "cosignatures?"):
        bad = await client.get(f"/v1/rlu/log/{route}issuer=canary")
        assert (bad.status_code, bad.json()["param"]) == (400, "issuer")


async def test_entries_are_for_the_exporter(client: httpx.AsyncClient, gateway: Any) -> None:
    client.headers["x-api-key"] = gateway.keys["ann"]
    entries = (await client.get("/v1/rlu/log/entries?start=3")).json()["entries"]
    assert [(e["kind"], e["usage"], e["first"], e["status"]) for e in entries] == [
        ("receipt", [1, 2, 0], None, "complete"),
        ("gap", None, 2, None),
    ]
    assert (await client.post("/v1/rlu/log/exported", json={"size": 5})).json() == {"size": 5}
    client.headers["x-api-key"] = gateway.keys["bob"]
    for answer in (
        await client.get("/v1/rlu/log/entries?start=3"),
        await client.post("/v1/rlu/log/exported", json={"size": 5}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "not_exporter")


async def test_cosignatures(client: httpx.AsyncClient, gateway: Any) -> None:
    client.headers["x-api-key"] = gateway.keys["bob"]
    listed = (await client.get("/v1/rlu/log/cosignatures")).json()
    assert listed == {"cosignatures": [{"head": b64u(b"head"), "cosignature": "— w AA"}]}
    body = {"head": b64u(b"head"), "cosignature": "— w AA"}
    assert (await client.post("/v1/rlu/log/cosignatures", json=body)).status_code == 204
    assert gateway.asked[-1] == ("cosign", b"head", "— w AA")
    for head in ("", "=", "A" * 1025):
        bad = await client.post("/v1/rlu/log/cosignatures", json=body | {"head": head})
        assert (bad.status_code, bad.json()["code"]) == (400, "cosignature_refused")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "head"),
        ("GET", "leaves?start=0"),
        ("GET", "entries?start=0"),
        ("GET", "history"),
        ("GET", "cosignatures"),
        ("POST", "cosignatures"),
        ("POST", "exported"),
    ],
)
async def test_all_of_it_needs_a_key(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, f"/v1/rlu/log/{path}", json={} if method == "POST" else None)
    assert (answer.status_code, answer.json()["code"]) == (401, "key_missing")
