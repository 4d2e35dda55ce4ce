"""State of the Responses API with OpenAI's SDK: continue, retrieve, list, delete; whose it is, how much there may be, and that it goes."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from fakes.rig import Response, Rig
from rlu_attestation.statements import Close, Receipt
from rlu_server.core.scratch import OVERHEAD

KB = 1024
PATH = "/v1/responses"
SECRET = "MARKER-5f0c-what-was-asked"
BOOK = {
    "default": {
        "turns": [
            {"text": "Grüße 🙂", "reasoning": "hm", "calls": [{"name": "run", "arguments": {"cmd": "ls"}}]}
        ],
    },
    "scripts": {
        "long": {"events": 300, "payload_bytes": 200},
        "close": {"events": 50, "interval_ms": 40, "fault": {"kind": "close", "after": 3}},
        "status": {"fault": {"kind": "status", "status": 500}},
        "slow": {"events": 200, "interval_ms": 20},
        "huge": {"events": 15_000, "payload_bytes": 500},
        "split": {"events": 3, "split_bytes": 7},
    },
}
LIMITS = {
    "session_bytes": 200 * KB,
    "tenant_bytes": 320 * KB,
    "total_bytes": 420 * KB,
    "reserve_bytes": 4 * KB,
}


@pytest.fixture
def limits() -> dict[str, Any]:
    return LIMITS


@pytest.fixture
async def rig(tmp_path: Path, limits: dict[str, Any]) -> AsyncIterator[Rig]:
    async with Rig(tmp_path, {}, BOOK, sections={"responses": limits}) as rig:
        yield rig


@pytest.fixture
async def gpt(rig: Rig) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"http://127.0.0.1:{rig.gateway.port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=rig.keys["alice"], max_retries=2) as client:
        yield client


def forwarded(rig: Rig) -> list[dict[str, Any]]:
    """What the engine was asked, in order."""
    return [json.loads(one.body) for one in rig.engine.seen if one.target == PATH and b'"input"' in one.body]


async def ask(rig: Rig, text: str = "hi", **more: Any) -> Response:
    return await rig.call(PATH, {"model": "scripted", "input": text, **more.pop("body", {})}, **more)


# --- what SDKs do -----------------------------------------------------------------------------------------------------


async def test_a_conversation_is_continued_with_all_its_items(rig: Rig, gpt: openai.AsyncOpenAI):
    first = await gpt.responses.create(model="scripted", input=SECRET, instructions="be brief")
    call = next(item for item in first.output if item.type == "function_call")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "a.txt"}
    second = await gpt.responses.create(model="scripted", input=[result], previous_response_id=first.id)  # type: ignore[list-item]
    async with gpt.responses.stream(model="scripted", input="more", previous_response_id=second.id) as stream:
        third = await stream.get_final_response()
    *_, last = forwarded(rig)
    kinds = [item["type"] for item in last["input"]]
    turn = ["reasoning", "message", "function_call"]
    assert kinds == ["message", *turn, "function_call_output", *turn, "message"]
    assert last["input"][0]["content"] == SECRET
    assert last["input"][3]["call_id"] == call.call_id
    assert "previous_response_id" not in last
    assert last.get("instructions") is None  # not carried over; OpenAI does not either
    assert third.id != second.id


async def test_the_receipt_says_that_the_input_was_expanded(rig: Rig):
    first = await ask(rig)
    body = {"model": "scripted", "input": "more", "previous_response_id": first.json()["id"]}
    second = await rig.call(PATH, body)
    receipt = await rig.receipt(second)
    assert set(receipt.rewritten) == {"cache_salt", "input", "previous_response_id"}
    rig.check_commitments(
        receipt,
        json.dumps(body).encode(),
        next(one.body for one in reversed(rig.engine.seen) if one.target == PATH),
        second.content,
    )


async def test_retrieved_listed_deleted(rig: Rig, gpt: openai.AsyncOpenAI):
    first = await gpt.responses.create(model="scripted", input="one")
    second = await gpt.responses.create(model="scripted", input="two", previous_response_id=first.id)
    found = await gpt.responses.retrieve(second.id)
    assert found == second
    items = [item async for item in gpt.responses.input_items.list(second.id, limit=2, order="asc")]
    assert [item.type for item in items] == ["message", "reasoning", "message", "function_call", "message"]
    assert items[0].content[0].text == "one"  # type: ignore[union-attr,index]
    assert items[-1].content[0].text == "two"  # type: ignore[union-attr,index]
    backwards = [item async for item in gpt.responses.input_items.list(second.id, limit=3)]
    assert [item.id for item in backwards] == [item.id for item in reversed(items)]
    await gpt.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError) as gone:
        await gpt.responses.retrieve(second.id)
    assert gone.value.code == "response_not_found"
    assert (await gpt.responses.retrieve(first.id)).id == first.id
    await gpt.responses.delete(first.id)
    assert (len(rig.gateway.responses), rig.gateway.responses.size) == (0, 0)


async def test_what_continues_something_deleted_cannot_be_continued(rig: Rig, gpt: openai.AsyncOpenAI):
    first = await gpt.responses.create(model="scripted", input="one")
    second = await gpt.responses.create(model="scripted", input="two", previous_response_id=first.id)
    await gpt.responses.delete(first.id)
    assert (await gpt.responses.retrieve(second.id)).id == second.id
    with pytest.raises(openai.BadRequestError) as broken:
        await gpt.responses.create(model="scripted", input="three", previous_response_id=second.id)
    assert (broken.value.code, broken.value.param) == ("previous_response_not_found", "previous_response_id")


async def test_what_is_not_offered_says_so(rig: Rig, gpt: openai.AsyncOpenAI):
    made = await gpt.responses.create(model="scripted", input="one")
    with pytest.raises(openai.BadRequestError) as background:
        await gpt.responses.create(model="scripted", input="x", background=True)
    assert background.value.code == "background_unsupported"
    with pytest.raises(openai.BadRequestError) as conversation:
        await gpt.responses.create(model="scripted", input="x", conversation="conv_1")
    assert (conversation.value.code, conversation.value.param) == ("state_unsupported", "conversation")
    with pytest.raises(openai.BadRequestError) as cancelled:
        await gpt.responses.cancel(made.id)
    assert cancelled.value.code == "cancel_unsupported"
    with pytest.raises(openai.NotFoundError):
        await gpt.responses.cancel("resp_0")
    with pytest.raises(openai.BadRequestError) as streamed:
        await gpt.responses.retrieve(made.id, stream=True)
    assert (streamed.value.code, streamed.value.param) == ("query_invalid", "stream")
    assert (await gpt.responses.retrieve(made.id, include=["reasoning.encrypted_content"])).id == made.id


async def test_store_false_keeps_nothing(rig: Rig, gpt: openai.AsyncOpenAI):
    made = await gpt.responses.create(model="scripted", input="one", store=False)
    with pytest.raises(openai.NotFoundError):
        await gpt.responses.retrieve(made.id)
    assert (len(rig.gateway.responses), rig.gateway.responses.size) == (0, 0)
    # A conversation may be continued without keeping what comes of it.
    kept = await gpt.responses.create(model="scripted", input="one")
    made = await gpt.responses.create(
        model="scripted", input="two", store=False, previous_response_id=kept.id
    )
    assert len(forwarded(rig)[-1]["input"]) == 5
    with pytest.raises(openai.BadRequestError):
        await gpt.responses.create(model="scripted", input="three", previous_response_id=made.id)


async def test_items_are_referred_to_by_their_ids(rig: Rig, gpt: openai.AsyncOpenAI):
    """As Vercel's AI SDK does instead of sending what the server has."""
    first = await gpt.responses.create(model="scripted", input=SECRET)
    reasoning, message, call = first.output
    assert call.type == "function_call"
    result = {"type": "function_call_output", "id": "fco_1", "call_id": call.call_id, "output": "a.txt"}
    references = [{"type": "item_reference", "id": item.id} for item in (reasoning, message, call)]
    asked: Any = [{"role": "user", "content": SECRET}, *references, result]
    second = await gpt.responses.create(model="scripted", input=asked)
    sent = forwarded(rig)[-1]["input"]
    assert sent == [asked[0], *(item.model_dump(exclude_unset=True) for item in first.output), result]
    # Input items that came with an id are items as well, and what was referred to is kept with what referred to it.
    await gpt.responses.delete(first.id)
    again: Any = [{"type": "item_reference", "id": "fco_1"}]
    third = await gpt.responses.create(
        model="scripted", input=again, previous_response_id=second.id, store=False
    )
    assert forwarded(rig)[-1]["input"][:5] == sent
    assert forwarded(rig)[-1]["input"][-1] == result
    with pytest.raises(openai.NotFoundError):
        await gpt.responses.retrieve(third.id)
    listed = [item async for item in gpt.responses.input_items.list(second.id, order="asc")]
    assert [item.id for item in listed][1:] == [reasoning.id, message.id, call.id, "fco_1"]
    await gpt.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError) as gone:
        await gpt.responses.create(model="scripted", input=again)
    assert (gone.value.code, gone.value.param) == ("item_not_found", "input")
    assert (len(rig.gateway.responses), rig.gateway.responses.size) == (0, 0)
    # Which item it is does not depend on text that looks like a reference.
    text = 'a "item_reference" in text'
    await gpt.responses.create(model="scripted", input=[{"role": "user", "content": text}])
    assert forwarded(rig)[-1]["input"][0]["content"] == text


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ([{"type": "item_reference"}], "field_type"),
        ([{"type": "item_reference", "id": 5}], "field_type"),
        ([{"type": "item_reference", "id": "a"}, {"type": "item_reference", "id": "a"}], "field_type"),
        ([{"type": "item_reference", "id": "a"}], "item_not_found"),
        ({"type": "item_reference", "id": "a"}, "field_type"),
    ],
)
async def test_references_that_lead_nowhere(rig: Rig, items: Any, code: str):
    refused = await ask(rig, body={"input": items})
    assert (refused.status, refused.json()["error"]["code"]) == (
        404 if code == "item_not_found" else 400,
        code,
    )
    assert not [one for one in forwarded(rig) if one["input"] == items]


@pytest.mark.parametrize("who", ["bob", "carol"])
async def test_items_of_others_cannot_be_referred_to(rig: Rig, who: str):
    made = (await ask(rig)).json()
    for item in made["output"]:
        reference = [{"type": "item_reference", "id": item["id"]}]
        refused = await ask(rig, body={"input": reference}, who=who)
        assert (refused.status, refused.json()["error"]["code"]) == (404, "item_not_found")
        assert (await ask(rig, body={"input": reference})).status == 200


async def test_the_receipt_says_that_references_were_resolved(rig: Rig):
    first = (await ask(rig)).json()
    body = {"model": "scripted", "input": [{"type": "item_reference", "id": first["output"][0]["id"]}]}
    second = await rig.call(PATH, body)
    receipt = await rig.receipt(second)
    assert set(receipt.rewritten) == {"cache_salt", "input"}
    rig.check_commitments(
        receipt,
        json.dumps(body).encode(),
        next(one.body for one in reversed(rig.engine.seen) if one.target == PATH),
        second.content,
    )


# --- whose it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["bob", "carol"])
async def test_of_others_nothing_exists(rig: Rig, who: str):
    """Another tenant, and another principal of the same one."""
    made = (await ask(rig)).json()["id"]

    def asked(response: Response) -> tuple[int, bytes]:
        body = response.json()
        del body["request_id"]
        return response.status, json.dumps(body).encode()

    for method, tail in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        theirs = asked(await rig.call(f"{PATH}/{made}{tail}", None, who=who, method=method))
        assert theirs == asked(await rig.call(f"{PATH}/resp_nobody{tail}", None, who=who, method=method))
        assert theirs[0] == 404
    for name in (made, "resp_nobody", "", "x" * 500):
        refused = await ask(rig, body={"previous_response_id": name}, who=who)
        assert (refused.status, refused.json()["error"]["code"]) == (400, "previous_response_not_found")
    assert (await rig.call(f"{PATH}/{made}", None, method="GET")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/responses/resp_1/", 404, "route_not_found"),
        ("GET", "/v1/responses/", 404, "route_not_found"),
        ("GET", "/v1/responses/resp_1/input_items/x", 404, "route_not_found"),
        ("GET", "/v1/responses/../models", 404, "route_not_found"),
        ("GET", "/v1/responses/%72esp_1", 404, "response_not_found"),
        ("GET", "/v1/responses/RESP_1", 404, "response_not_found"),
        ("PUT", "/v1/responses/resp_1", 405, "method_not_allowed"),
        ("POST", "/v1/responses/resp_1", 405, "method_not_allowed"),
        ("GET", "/v1/responses/resp_1/cancel", 405, "method_not_allowed"),
        ("GET", "/v1/responses/resp_1?x=1", 400, "query_invalid"),
        ("GET", "/v1/responses/resp_1/input_items?limit=101", 400, "query_invalid"),
        ("GET", "/v1/responses/resp_1/input_items?limit=0", 400, "query_invalid"),
        ("GET", "/v1/responses/resp_1/input_items?limit=1&limit=2", 400, "query_invalid"),
        ("GET", "/v1/responses/resp_1/input_items?order=up", 400, "query_invalid"),
        ("GET", "/v1/responses/resp_1/input_items?include%5B%5D=all", 400, "query_invalid"),
    ],
)
async def test_other_spellings(rig: Rig, method: str, path: str, status: int, code: str):
    refused = await rig.call(path, None, method=method)
    assert (refused.status, refused.json()["error"]["code"]) == (status, code)
    assert "rlu-receipt" not in refused.headers


async def test_a_key_is_needed(rig: Rig):
    made = (await ask(rig)).json()["id"]
    refused = await rig.call(f"{PATH}/{made}", None, method="GET", who=None)
    assert (refused.status, refused.json()["error"]["code"]) == (401, "key_missing")


# --- receipts ---------------------------------------------------------------------------------------------------------


async def test_what_is_retrieved_has_a_receipt_that_names_it(rig: Rig):
    made = await ask(rig, SECRET)
    name = made.json()["id"]
    for method, tail in (("GET", ""), ("GET", "/input_items"), ("DELETE", "")):
        answer = await rig.call(f"{PATH}/{name}{tail}", None, method=method)
        receipt = await rig.receipt(answer)
        assert answer.session == made.session
        assert (receipt.route, receipt.model) == (f"{PATH}/{name}{tail}", "scripted")
        assert (receipt.status, receipt.http_status, receipt.forwarded) == ("complete", 200, None)
        rig.check_commitments(receipt, b"", None, answer.content)
        if tail:
            assert SECRET.encode() in answer.content
        elif method == "GET":
            assert answer.content == made.content


async def test_without_a_signer_nothing_is_told(rig: Rig):
    made = (await ask(rig)).json()["id"]
    await rig.attestor.stop()
    await rig.eventually(lambda: "signer_unavailable" in rig.gateway.readiness.missing())
    refused = await rig.call(f"{PATH}/{made}", None, method="GET")
    assert (refused.status, refused.json()["error"]["code"]) == (503, "signer_unavailable")
    deleted = await rig.call(f"{PATH}/{made}", None, method="DELETE")
    assert deleted.status == 503
    assert len(rig.gateway.responses) == 1
    await rig.attestor.start()


# --- when it is kept --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["default", "split"])
async def test_a_stream_can_be_continued_once_its_last_event_was_seen(rig: Rig, script: str):
    """Not only once the engine has ended the answer: clients do not wait for that."""
    wire = await rig.wire()
    body = {"model": "scripted", "input": "hi", "stream": True, "metadata": {"script": script}}
    await wire.send(rig.request(PATH, body))
    head = await wire.until(b"response.completed")
    name = next(word for word in head.decode().split('"') if word.startswith("resp_"))
    while not wire.responses.done and b"}\n\n" not in wire.received.rpartition(b"response.completed")[2]:
        wire.received += await wire.reader.read(65536)  # the event itself, to its end
    follow = await ask(rig, "more", body={"previous_response_id": name})
    assert follow.status == 200
    assert (await rig.call(f"{PATH}/{name}", None, method="GET")).status == 200


async def test_an_answer_that_did_not_end_is_not_kept(rig: Rig):
    for script in ("close", "status"):
        await ask(rig, body={"metadata": {"script": script}, "stream": script == "close"})
    wire = await rig.wire()
    body = {"model": "scripted", "input": "hi", "stream": True, "metadata": {"script": "slow"}}
    await wire.send(rig.request(PATH, body))
    await wire.until(b"response.output_text.delta")
    assert rig.gateway.responses.size > 0  # its room
    wire.abort()
    await rig.eventually(lambda: not rig.gateway.relay.exchanges)
    assert (len(rig.gateway.responses), rig.gateway.responses.size) == (0, 0)


async def test_a_restarted_engine_changes_nothing(rig: Rig):
    made = (await ask(rig, SECRET)).json()["id"]
    await rig.stop_engine()
    found = await rig.call(f"{PATH}/{made}", None, method="GET")
    assert found.status == 200
    await rig.start_engine()
    await rig.ready()
    follow = await ask(rig, "more", body={"previous_response_id": made})
    assert follow.status == 200
    assert forwarded(rig)[-1]["input"][0]["content"] == SECRET


# --- how much ---------------------------------------------------------------------------------------------------------


async def test_a_full_session_is_refused_in_the_apis_shape_and_others_go_on(
    rig: Rig, gpt: openai.AsyncOpenAI
):
    pad = "x" * 60 * KB
    session = {"extra_headers": {"session-id": "one"}}
    first = await gpt.responses.create(model="scripted", input=pad, store=True, **session)  # type: ignore[arg-type]
    await gpt.responses.create(model="scripted", input=pad, store=True, **session)  # type: ignore[arg-type]
    before = len(forwarded(rig))
    with pytest.raises(openai.InternalServerError) as full:
        await gpt.responses.create(model="scripted", input=pad * 2, store=True, **session)  # type: ignore[arg-type]
    assert (full.value.status_code, full.value.code) == (507, "scratch_full")
    assert full.value.response.headers["x-should-retry"] == "false"
    assert len(forwarded(rig)) == before  # neither the engine nor a second try
    follow = {"previous_response_id": first.id, **session}
    with pytest.raises(openai.InternalServerError):
        await gpt.responses.create(model="scripted", input=pad * 2, **follow)  # type: ignore[arg-type]
    # The session itself goes on with what needs no room, and so do others.
    await gpt.responses.create(model="scripted", input=pad * 2, store=False, **session)  # type: ignore[arg-type]
    other = await gpt.responses.create(model="scripted", input=pad * 2, store=True)
    assert (await gpt.responses.retrieve(other.id)).id == other.id
    assert (await ask(rig, pad, who="bob", body={"store": True})).status == 200
    # The tenant's share is used up as well; what is deleted makes room again.
    assert (await ask(rig, "x" * 80 * KB, who="carol", body={"store": True})).status == 507
    await gpt.responses.delete(other.id)
    assert (await ask(rig, "x" * 80 * KB, who="carol", body={"store": True})).status == 200


async def test_a_compressed_request_needs_the_room_of_what_is_in_it(rig: Rig):
    body = {"model": "scripted", "input": "x" * 250 * KB, "store": True}
    content = gzip.compress(json.dumps(body).encode())
    assert len(content) < 4 * KB
    refused = await rig.call(PATH, content, headers={"Content-Encoding": "gzip"})
    assert (refused.status, refused.json()["error"]["code"]) == (507, "scratch_full")


async def test_what_nobody_asked_to_have_kept_gives_way(rig: Rig):
    names = [(await ask(rig, "x" * 60 * KB)).json()["id"] for _ in range(4)]
    found = [(await rig.call(f"{PATH}/{name}", None, method="GET")).status for name in names]
    assert found == [404, 200, 200, 200]


async def test_an_answer_larger_than_its_room_is_delivered_and_says_why_it_is_not_there(rig: Rig):
    pinned = await ask(rig, "x" * 140 * KB, body={"store": True})
    body = {"store": True, "metadata": {"script": "long"}}
    long = await ask(rig, "x" * 8 * KB, body=body)
    assert (pinned.status, long.status) == (200, 200)
    assert len(long.content) > 56 * KB
    name = long.json()["id"]
    found = await rig.call(f"{PATH}/{name}", None, method="GET")
    assert (found.status, found.json()["error"]["code"]) == (507, "response_not_stored")
    follow = await ask(rig, body={"previous_response_id": name})
    assert (follow.status, follow.json()["error"]["code"]) == (507, "response_not_stored")
    assert rig.gateway.responses.not_kept == 1


# --- that it goes -----------------------------------------------------------------------------------------------------


def arrays(rig: Rig) -> list[bytearray]:
    """The very memory in which content is kept."""
    return [
        content for kept in rig.gateway.responses._kept.values() for content in (kept.response, kept.input)
    ]


async def test_closing_a_session_wipes_its_memory_and_says_so(rig: Rig):
    made = await ask(rig, SECRET)
    other = await ask(rig, SECRET, headers={"session-id": "other"})
    memory = arrays(rig)
    assert sum(SECRET.encode() in content for content in memory) == 2
    closed = await rig.call(f"/v1/rlu/sessions/{made.session}", None, method="DELETE")
    close = rig.signed(closed.json(), Close)
    assert close.scratch == "wiped"
    assert [bool(content.strip(b"\0")) for content in memory] == [False, False, True, True]
    assert (await rig.call(f"{PATH}/{made.json()['id']}", None, method="GET")).status == 404
    assert (await rig.call(f"{PATH}/{other.json()['id']}", None, method="GET")).status == 200
    refused = await ask(rig, body={"previous_response_id": made.json()["id"]})
    assert refused.json()["error"]["code"] == "previous_response_not_found"


async def test_the_close_does_not_claim_what_is_not_so(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    made = await ask(rig, SECRET)
    monkeypatch.setattr("rlu_server.adapters.responses._Kept.wipe", lambda _: False)
    closed = await rig.call(f"/v1/rlu/sessions/{made.session}", None, method="DELETE")
    assert rig.signed(closed.json(), Close).scratch == "unknown"


async def test_an_answer_that_ends_after_its_session_is_not_kept(rig: Rig):
    wire = await rig.wire()
    body = {"model": "scripted", "input": "hi", "stream": True, "metadata": {"script": "slow"}}
    await wire.send(rig.request(PATH, body))
    await wire.until(b"response.output_text.delta")
    (session,) = rig.gateway.ledger.table
    rig.gateway.ledger.begin_close(session, "client")
    await wire.response()
    assert (len(rig.gateway.responses), rig.gateway.responses.size) == (0, 0)


async def test_draining_wipes_everything(rig: Rig):
    await ask(rig, SECRET)
    await ask(rig, SECRET, who="bob", body={"store": True})
    memory = arrays(rig)
    await rig.gateway.drain()
    assert not any(content.strip(b"\0") for content in memory)
    assert (len(rig.gateway.responses), rig.gateway.responses.size) == (0, 0)


@pytest.mark.parametrize("limits", [{**LIMITS, "age_s": 1}])
async def test_what_is_old_is_wiped(rig: Rig):
    made = (await ask(rig, SECRET)).json()["id"]
    memory = arrays(rig)
    await rig.eventually(lambda: not len(rig.gateway.responses))
    assert not any(content.strip(b"\0") for content in memory)
    assert (await rig.call(f"{PATH}/{made}", None, method="GET")).status == 404


@pytest.mark.parametrize("limits", [{"store": "off"}])
async def test_a_store_that_is_off(rig: Rig):
    made = await ask(rig, body={"store": True})
    assert made.status == 200
    assert (await rig.call(f"{PATH}/{made.json()['id']}", None, method="GET")).status == 404
    refused = await ask(rig, body={"previous_response_id": made.json()["id"]})
    assert (refused.status, refused.json()["error"]["code"]) == (400, "state_unsupported")


async def test_no_file_holds_it(rig: Rig):
    await ask(rig, SECRET, body={"store": True})
    marked = [
        path for path in rig.directory.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()
    ]
    assert marked == []
    assert OVERHEAD < rig.gateway.responses.size < 16 * KB


# --- one connection ---------------------------------------------------------------------------------------------------


async def test_everything_on_one_connection_in_order(rig: Rig):
    """Kept alive and pipelined: what was asked for first is answered first, whoever answers it."""
    wire = await rig.wire()
    body = {"model": "scripted", "input": SECRET, "prompt_cache_key": "thread", "store": True}
    await wire.send(rig.request(PATH, body))
    made = await wire.response()
    where = f"{PATH}/{made.json()['id']}"
    follow = rig.request(PATH, {**body, "previous_response_id": made.json()["id"]})
    get, delete = (rig.request(where, None, method=method) for method in ("GET", "DELETE"))
    await wire.send(get + follow + get + delete + get + rig.request("/v1/models", None, method="GET"))
    answers = [await wire.response() for _ in range(6)]
    assert [one.status for one in answers] == [200, 200, 200, 200, 404, 200]
    assert answers[0].content == answers[2].content == made.content
    sessions = {one.session for one in (made, *answers[:4])}
    assert len(sessions) == 1  # what prompt_cache_key names
    assert [one.seq for one in (made, *answers[:4])] == [1, 2, 3, 4, 5]
    assert [one["prompt_cache_key"] for one in forwarded(rig)[-2:]] == ["thread", "thread"]


async def test_content_that_nobody_needs_is_bounded_and_committed_to(rig: Rig):
    name = (await ask(rig)).json()["id"]
    answer = await rig.call(f"{PATH}/{name}", b'{"x":1}', method="GET")
    rig.check_commitments(await rig.receipt(answer), b'{"x":1}', None, answer.content)
    refused = await rig.call(f"{PATH}/{name}", b"x" * 5000, method="DELETE")
    assert (refused.status, refused.json()["error"]["code"]) == (413, "body_too_large")
    assert len(rig.gateway.responses) == 1


async def test_a_conversation_may_not_outgrow_a_request(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    made = await ask(rig, "x" * 20 * KB)
    small = rig.settings.gateway.model_copy(update={"max_body_bytes": 24 * KB})
    monkeypatch.setattr(rig.gateway.relay, "settings", small)
    body = {"previous_response_id": made.json()["id"]}
    assert (await ask(rig, "x", body=body)).status == 200
    held = rig.gateway.responses.size
    refused = await ask(rig, "x" * 10 * KB, body=body)
    assert (refused.status, refused.json()["error"]["code"]) == (413, "body_too_large")
    assert rig.gateway.responses.size == held
    await rig.eventually(lambda: rig.gateway.relay._held.total() == 0)


async def test_who_leaves_before_the_answer_is_recorded(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    made = await ask(rig)
    asked: list[Any] = []
    admit = rig.gateway.ledger.admit
    monkeypatch.setattr(rig.gateway.ledger, "admit", lambda *question: asked.append(question) is None)
    wire = await rig.wire()
    await wire.send(rig.request(f"{PATH}/{made.json()['id']}", None, method="DELETE"))
    await rig.eventually(lambda: asked)
    wire.abort()
    await rig.eventually(lambda: not rig.gateway.relay.connections)
    admit(*asked[0])
    await rig.eventually(lambda: rig.session(made.session).last_seq == 2)
    fetched = await rig.call(f"/v1/rlu/receipts/{made.session}/2?wait=5", None, method="GET")
    assert rig.signed(fetched.json(), Receipt).status == "aborted"
    assert len(rig.gateway.responses) == 1  # it was not deleted, and nobody was told that it was


HUGE = {"store": True, "metadata": {"script": "huge"}}
ROOM = {**LIMITS, "session_bytes": 9000 * KB, "tenant_bytes": 9000 * KB, "total_bytes": 9000 * KB}


async def slow_reader(rig: Rig, name: str) -> socket.socket:
    """Asks for a response and reads nothing of it."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(reader, ("127.0.0.1", rig.gateway.port))
    await loop.sock_sendall(reader, rig.request(f"{PATH}/{name}", None, method="GET"))
    return reader


@pytest.mark.parametrize("limits", [ROOM])
@pytest.mark.parametrize("end", ["leaves", "reads", "session"])
async def test_who_does_not_read_fills_no_memory(rig: Rig, end: str):
    relay = rig.gateway.relay
    made = await ask(rig, body=HUGE)
    size = len(made.content)
    assert size > 7_000_000
    await rig.eventually(lambda: not relay._held.total())
    with await slow_reader(rig, made.json()["id"]) as reader:
        await rig.eventually(lambda: any(one.paused_since is not None for one in relay.connections))
        assert relay._held.total() == size  # it counts while it waits
        (sending,) = relay.exchanges
        assert sending._sent < size  # and what cannot be sent is not handed out
        if end == "reads":
            received = b""
            while b"\r\n\r\n" not in received or len(received.partition(b"\r\n\r\n")[2]) < size:
                received += await asyncio.get_running_loop().sock_recv(reader, 1 << 20)
            assert received.endswith(made.content)
        elif end == "session":
            closing = asyncio.ensure_future(
                rig.call(f"/v1/rlu/sessions/{made.session}", None, method="DELETE")
            )
            assert (await closing).status == 200
    await rig.eventually(lambda: not relay._held.total() and not relay.exchanges)
    fetched = await rig.call(f"/v1/rlu/receipts/{made.session}/2?wait=5", None, method="GET")
    receipt = rig.signed(fetched.json(), Receipt)
    expected = {"leaves": ("aborted", "client_disconnected"), "reads": ("complete", None)}
    assert (receipt.status, receipt.reason) == expected.get(end, ("partial", "session_closed"))
    assert receipt.response is not None
    assert (receipt.response.size == size) == (end == "reads")
