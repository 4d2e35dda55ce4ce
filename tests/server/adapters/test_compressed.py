"""Compressed requests through the gateway: relayed, committed to as received, refused by name."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from typing import Any

import pytest

from fakes.rig import Response, Rig

if sys.version_info >= (3, 14):  # pragma: no cover - newer than what the tests run on
    from compression import zstd
else:
    from backports import zstd

CHAT = "/v1/chat/completions"
CODINGS = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}


@pytest.fixture
def overrides() -> dict[str, object]:
    return {"max_body_bytes": 2 * 1024 * 1024}


async def send(rig: Rig, coding: str, content: bytes, path: str = CHAT, **options: Any) -> Response:
    return await rig.call(path, content, headers={"Content-Encoding": coding}, **options)


def held(rig: Rig) -> int:
    return rig.gateway.relay._held.total()


@pytest.mark.parametrize("coding", [*CODINGS, "GZIP"])
async def test_relayed_and_committed_to_as_received(rig: Rig, coding: str):
    body = rig.chat("hello " * 1000)
    content = CODINGS[coding.lower()](json.dumps(body).encode())
    answer = await send(rig, coding, content)
    assert answer.status == 200
    seen = next(one for one in reversed(rig.engine.seen) if one.target == CHAT)
    assert json.loads(seen.body)["messages"] == body["messages"]
    assert not any(name.lower() == "content-encoding" for name, _ in seen.headers)
    receipt = await rig.receipt(answer)
    assert receipt.rewritten == ("cache_salt", "content-encoding")
    rig.check_commitments(receipt, content, seen.body, answer.content)
    assert held(rig) == 0


async def test_without_another_change_the_coding_is_still_named(rig: Rig):
    path = "/v1/messages/count_tokens"
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
    answer = await send(rig, "zstd", zstd.compress(json.dumps(body, separators=(",", ":")).encode()), path)
    assert answer.status == 200
    assert (await rig.receipt(answer)).rewritten == ("content-encoding",)
    answer = await send(rig, "zstd", zstd.compress(json.dumps(body, indent=1).encode()), path)
    assert (await rig.receipt(answer)).rewritten == ("content-encoding", "spelling")


async def test_an_implicit_session_opens_with_what_was_received(rig: Rig):
    content = gzip.compress(json.dumps(rig.chat()).encode())
    answer = await send(rig, "gzip", content, who="bob")
    opening = rig.statement(answer.session).opening
    assert opening is not None
    assert opening.size == len(content)


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_long_one_arrives_in_pieces(rig: Rig, coding: str):
    words = " ".join(str(number * 7919 % 100_003) for number in range(250_000))
    content = CODINGS[coding](json.dumps(rig.chat(words)).encode())
    wire = await rig.wire()
    request = rig.request(CHAT, content, headers={"Content-Encoding": coding})
    for at in range(0, len(request), 50_000):
        await wire.send(request[at : at + 50_000])
    answer = await wire.response()
    assert answer.status == 200
    seen = next(one for one in reversed(rig.engine.seen) if one.target == CHAT)
    assert json.loads(seen.body)["messages"][0]["content"] == words
    assert held(rig) == 0


async def test_the_loop_goes_on_while_a_long_one_is_undone(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """Between two slices of one connection's body others get their turn."""
    monkeypatch.setattr("rlu_server.core.coding.SLICE", 4096)
    content = gzip.compress(json.dumps(rig.chat("0123456789" * 30_000)).encode())
    turns = 0
    soon = rig.gateway.relay.soon

    def counted(go_on: Any) -> object:
        nonlocal turns
        turns += 1
        return soon(go_on)

    rig.gateway.relay.soon = counted
    answer = await send(rig, "gzip", content)
    assert answer.status == 200
    assert turns >= 300_000 // 4096 - 2


GOOD = json.dumps({"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}).encode()


@pytest.mark.parametrize(
    ("coding", "content", "status", "code"),
    [
        ("gzip", GOOD, 400, "coding_malformed"),
        ("gzip", b"", 400, "coding_malformed"),
        ("gzip", gzip.compress(GOOD)[:-3], 400, "coding_malformed"),
        ("gzip", gzip.compress(GOOD) + b"{}", 400, "coding_malformed"),
        ("gzip", gzip.compress(GOOD) * 2, 400, "coding_malformed"),
        ("gzip", zlib.compress(GOOD), 400, "coding_malformed"),
        ("gzip", gzip.compress(gzip.compress(GOOD)), 400, "json_malformed"),
        ("gzip", gzip.compress(b"[]"), 400, "body_not_object"),
        ("zstd", zstd.compress(GOOD) * 2, 400, "coding_malformed"),
        ("zstd", zstd.compress(bytes(1_900_000)), 413, "coding_ratio"),
        ("gzip", gzip.compress(bytes(1_900_000)), 413, "coding_ratio"),
        ("deflate", zlib.compress(bytes(range(256)) * 9000, 0), 413, "body_too_large"),
        ("br", GOOD, 415, "content_encoding"),
        ("x-gzip", gzip.compress(GOOD), 415, "content_encoding"),
        ("gzip, zstd", gzip.compress(GOOD), 415, "content_encoding"),
        ("identity, gzip", gzip.compress(GOOD), 415, "content_encoding"),
    ],
)
async def test_refused_by_name(rig: Rig, coding: str, content: bytes, status: int, code: str):
    answer = await send(rig, coding, content)
    assert (answer.status, answer.json()["error"]["code"]) == (status, code)
    assert "rlu-receipt" not in answer.headers
    assert answer.headers.get("accept-encoding") == ("gzip, deflate, zstd" if status == 415 else None)
    await rig.eventually(lambda: held(rig) == 0)
    assert not rig.gateway.relay.exchanges


async def test_our_own_routes_take_none(rig: Rig):
    for path in ("/v1/rlu/sessions", "/v1/responses/resp_1/cancel"):
        answer = await send(rig, "gzip", gzip.compress(b"{}"), path)
        assert answer.status == 415


async def test_who_leaves_in_the_middle_leaves_nothing(rig: Rig):
    content = gzip.compress(json.dumps(rig.chat("x" * 200_000)).encode())
    wire = await rig.wire()
    await wire.send(rig.request(CHAT, content, headers={"Content-Encoding": "gzip"})[:-10])
    await rig.eventually(lambda: held(rig) > 0)
    wire.abort()
    await rig.eventually(lambda: held(rig) == 0)
