"""Kept responses through the real gateway and attestor, each answer proven before OpenAI's SDK sees it, and nothing of them left behind."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import httpx2
import openai
import pytest

from e2e.caller import chat
from e2e.scripted_stack import Scripted
from e2e.served import MODEL as DEMO
from e2e.served import Served
from e2e.test_connect import write_policy
from rlu_attestation import load_policy
from rlu_attestation.connect import Status, VerifyingTransport
from rlu_attestation.encoding import unb64u
from rlu_attestation.statements import Close

BOOK = {"model": "scripted", "default": {"turns": [{"text": "hello yourself"}]}}
MARKER = "MARKER-9c41-what-was-kept"


def files_with(marker: bytes, *places: Path) -> list[Path]:
    found = []
    for place in places:
        found += [path for path in place.rglob("*") if path.is_file() and marker in path.read_bytes()]
    return found


@pytest.mark.tpm
def test_every_answer_about_what_is_kept_is_proven(scripted: Scripted, tmp_path: Path) -> None:
    scripted.script(BOOK)
    told: list[Status] = []
    policy = load_policy(write_policy(scripted, tmp_path))
    transport = VerifyingTransport(
        scripted.caller.url, policy, api_key=scripted.caller.key, on_status=told.append
    )
    with (
        httpx2.Client(transport=transport, timeout=60) as http,
        openai.OpenAI(
            base_url=f"{scripted.caller.url}/v1", api_key=scripted.caller.key, http_client=http, max_retries=0
        ) as gpt,
    ):
        first = gpt.responses.create(model="scripted", input=MARKER, store=True)
        second = gpt.responses.create(model="scripted", input="more", previous_response_id=first.id)
        assert gpt.responses.retrieve(second.id) == second
        items = gpt.responses.input_items.list(second.id).data
        assert [item.type for item in items] == ["message", "message", "message"]
        with pytest.raises(openai.BadRequestError) as paged:
            gpt.responses.input_items.list(second.id, limit=1)
        assert paged.value.code == "connect.query"
        gpt.responses.delete(second.id)
        with pytest.raises(openai.NotFoundError) as gone:
            gpt.responses.retrieve(second.id)
        assert gone.value.code == "response_not_found"
    asked = [json.loads(one.body) for one in scripted.seen() if one.target == "/v1/responses"]
    assert asked[-1]["input"][0]["content"] == MARKER
    assert told[0].event in ("verified", "waived")


@pytest.mark.tpm
def test_a_closed_session_left_nothing(scripted: Scripted) -> None:
    scripted.script(BOOK)
    made = scripted.caller.post("/v1/responses", {"model": "scripted", "input": MARKER, "store": True})
    name = made.json()["id"]
    assert scripted.caller.get(f"/v1/responses/{name}").status == 200
    theirs = scripted.other.get(f"/v1/responses/{name}")
    assert (theirs.status, theirs.json()["error"]["code"]) == (404, "response_not_found")
    runtime = scripted.deployment.runtime
    assert files_with(MARKER.encode(), runtime, scripted.deployment.state) == []
    closed = scripted.caller.call("DELETE", f"/v1/rlu/sessions/{made.session}")
    assert Close.parse(unb64u(closed.json()["statement"])).scratch == "wiped"
    assert scripted.caller.get(f"/v1/responses/{name}").status == 404
    assert files_with(MARKER.encode(), runtime, scripted.deployment.state) == []
    gateway = scripted.processes["gateway"]
    assert MARKER not in gateway.output()
    opened = [os.readlink(link) for link in Path(f"/proc/{gateway.pid}/fd").iterdir()]
    assert not any("(deleted)" in path or "memfd" in path for path in opened)


@pytest.mark.tpm
def test_a_compressed_request_is_proven_as_it_was_sent(scripted: Scripted, tmp_path: Path) -> None:
    policy = load_policy(write_policy(scripted, tmp_path))
    with (
        VerifyingTransport(scripted.caller.url, policy, api_key=scripted.caller.key) as transport,
        httpx2.Client(transport=transport, timeout=60) as http,
    ):
        content = gzip.compress(json.dumps(chat(MARKER, "scripted")).encode())
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        answer = http.post(f"{scripted.caller.url}/v1/chat/completions", content=content, headers=headers)
        assert answer.status_code == 200
        (seen,) = scripted.seen()
        assert json.loads(seen.body)["messages"][0]["content"] == MARKER
        broken = http.post(
            f"{scripted.caller.url}/v1/chat/completions", content=content[:-1], headers=headers
        )
        assert (broken.status_code, broken.json()["error"]["code"]) == (400, "coding_malformed")


@pytest.mark.engine
@pytest.mark.tpm
def test_vllm_takes_its_own_items_back(served: Served) -> None:
    """What is put before a request is exactly what a client that keeps its own conversation would send."""
    plain = {"model": DEMO, "temperature": 0, "max_output_tokens": 24}
    ask = {"type": "message", "role": "user", "content": "What is RLU?"}
    first = served.caller.post("/v1/responses", {**plain, "input": ask["content"]}).json()
    call = {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "call_1", "output": "a.txt"}
    more = {"type": "message", "role": "user", "content": "And why?"}
    tail = [call, result, more]
    continued = served.caller.post(
        "/v1/responses", {**plain, "input": tail, "previous_response_id": first["id"], "stream": True}
    )
    assert continued.status == 200, continued.content
    whole = [ask, *first["output"], *tail]
    same = served.caller.post("/v1/responses", {**plain, "input": whole, "store": False}).json()
    final = json.loads(continued.content.rpartition(b"data: ")[2])["response"]
    assert final["usage"]["input_tokens"] == same["usage"]["input_tokens"] > first["usage"]["input_tokens"]
    assert final["output"][-1]["content"][0]["text"] == same["output"][-1]["content"][0]["text"]
    kept = served.caller.get(f"/v1/responses/{final['id']}")
    assert (kept.status, kept.json()["output"]) == (200, final["output"])
    third = {**plain, "input": "So?", "previous_response_id": final["id"]}
    assert served.caller.post("/v1/responses", third).status == 200
