"""The scripted engine speaks to unmodified SDKs and shows the faults it is asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from scripted import Engine, ScriptError, load_book, serve
from waiting import until

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
TOOLS = {"run": {"type": "object", "properties": {"cmd": {"type": "string"}}}}
TWO_TURNS = {
    "turns": [
        {
            "reasoning": "let me look",
            "text": "Looking.",
            "calls": [{"any_of": {"absent": {}, "run": {"cmd": "ls"}}}],
        },
        {"text": "It is Grüße 🙂 done."},
    ],
    "piece": 3,
    "cached_tokens": 4,
}


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    engine = Engine(load_book({"default": TWO_TURNS}), inspect=True)
    server = await serve(engine, uds=tmp_path / "engine.sock")
    transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / "engine.sock"))
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
        yield engine, client
    server.close()


async def test_chat_turns_through_the_openai_sdk(engine: tuple[Engine, httpx.AsyncClient]) -> None:
    client = openai.AsyncOpenAI(base_url="http://engine/v1", api_key="k", http_client=engine[1])
    tools: Any = [{"type": "function", "function": {"name": n, "parameters": p}} for n, p in TOOLS.items()]
    messages: list[Any] = [{"role": "user", "content": "what is here?"}]
    first = await client.chat.completions.create(model="scripted", messages=messages, tools=tools)
    calls = first.choices[0].message.tool_calls
    assert first.choices[0].finish_reason == "tool_calls"
    assert calls is not None
    assert (calls[0].function.name, json.loads(calls[0].function.arguments)) == ("run", {"cmd": "ls"})
    messages += [first.choices[0].message, {"role": "tool", "tool_call_id": calls[0].id, "content": "a b"}]
    text, usage = "", None
    stream = await client.chat.completions.create(
        model="scripted", messages=messages, tools=tools, stream=True, stream_options={"include_usage": True}
    )
    async for chunk in stream:
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert text == "It is Grüße 🙂 done."
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens) == (11, 4)


async def test_responses_turns_through_the_openai_sdk(engine: tuple[Engine, httpx.AsyncClient]) -> None:
    client = openai.AsyncOpenAI(base_url="http://engine/v1", api_key="k", http_client=engine[1])
    tools: Any = [{"type": "function", "name": n, "parameters": p, "strict": False} for n, p in TOOLS.items()]
    given: list[Any] = [{"role": "user", "content": "what is here?"}]
    kinds, final = [], None
    stream = await client.responses.create(model="scripted", input=given, tools=tools, stream=True)
    async for event in stream:
        kinds.append(event.type)
        if event.type == "response.completed":
            final = event.response
    assert kinds[:3] == ["response.created", "response.in_progress", "response.output_item.added"]
    assert kinds.count("response.output_item.done") == 3
    assert final is not None
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]
    call: Any = final.output[2]
    given += [
        call.model_dump(),
        {"type": "function_call_output", "call_id": call.call_id, "output": "a b"},
    ]
    second = await client.responses.create(model="scripted", input=given, tools=tools)
    assert second.output_text == "It is Grüße 🙂 done."
    assert second.usage is not None
    assert second.usage.input_tokens_details.cached_tokens == 4


async def test_a_tool_in_a_namespace(engine: tuple[Engine, httpx.AsyncClient]) -> None:
    call = {"any_of": {"team__run": {"who": "me"}, "run": {"cmd": "ls"}}}
    engine[0].book = load_book({"default": {"turns": [{"calls": [call]}]}})
    client = openai.AsyncOpenAI(base_url="http://engine/v1", api_key="k", http_client=engine[1])
    run: Any = {"type": "function", "name": "run", "parameters": TOOLS["run"], "strict": False}
    team: Any = {"type": "namespace", "name": "team", "description": "", "tools": [run]}
    for tools, expected in (
        ([run, team], ("run", "team", {"who": "me"})),
        ([run], ("run", None, {"cmd": "ls"})),
    ):
        answer = await client.responses.create(model="scripted", input="x", tools=tools)
        made: Any = answer.output[-1]
        assert (made.name, made.namespace, json.loads(made.arguments)) == expected


async def test_messages_turns_through_the_anthropic_sdk(
    engine: tuple[Engine, httpx.AsyncClient], tmp_path: Path
) -> None:
    transport = httpx2.AsyncHTTPTransport(uds=str(tmp_path / "engine.sock"))
    http = httpx2.AsyncClient(transport=transport)
    client = anthropic.AsyncAnthropic(base_url="http://engine", api_key="k", http_client=http)
    tools: Any = [{"name": n, "input_schema": p} for n, p in TOOLS.items()]
    messages: list[Any] = [{"role": "user", "content": "what is here?"}]
    async with client.messages.stream(
        model="scripted", max_tokens=64, messages=messages, tools=tools
    ) as stream:
        first = await stream.get_final_message()
    assert [block.type for block in first.content] == ["thinking", "text", "tool_use"]
    assert first.stop_reason == "tool_use"
    use: Any = first.content[2]
    assert use.input == {"cmd": "ls"}
    messages += [
        {"role": "assistant", "content": [block.model_dump() for block in first.content]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "a b"}]},
    ]
    second: Any = await client.messages.create(
        model="scripted", max_tokens=64, messages=messages, tools=tools
    )
    assert second.content[0].text == "It is Grüße 🙂 done."
    assert (second.usage.input_tokens, second.usage.cache_read_input_tokens) == (7, 4)
    counted = await client.messages.count_tokens(model="scripted", messages=messages[:1])
    assert counted.input_tokens == 11
    await http.aclose()


async def test_other_routes(engine: tuple[Engine, httpx.AsyncClient]) -> None:
    client = engine[1]
    assert (await client.get("/health")).status_code == 200
    assert (await client.get("/v1/models")).json()["data"][0]["id"] == "scripted"
    assert (
        'vllm:num_requests_running{engine="0",model_name="scripted"} ' in (await client.get("/metrics")).text
    )
    vectors = await client.post("/v1/embeddings", json={"model": "scripted", "input": ["a", "b"]})
    assert [len(item["embedding"]) for item in vectors.json()["data"]] == [8, 8]
    text = await client.post("/v1/completions", json={"model": "scripted", "prompt": "a", "stream": True})
    assert text.text.endswith("data: [DONE]\n\n")
    assert (await client.get("/elsewhere")).status_code == 404
    assert (await client.post("/v1/responses", content=b"{")).status_code == 400
    unknown = await client.post("/v1/messages", json={"model": "other", "messages": []})
    assert (unknown.status_code, unknown.json()["type"]) == (404, "error")


@pytest.mark.parametrize("route", ["chat/completions", "completions", "responses", "messages", "embeddings"])
async def test_illegal_salt_is_refused_like_vllm(
    engine: tuple[Engine, httpx.AsyncClient], route: str
) -> None:
    for salt, status in [("a/b", 400), ("", 400), ("x" * 129, 400), (5, 400), ("x" * 128, 200)]:
        answer = await engine[1].post(
            f"/v1/{route}", json={"model": "scripted", "cache_salt": salt, "input": "a"}
        )
        assert answer.status_code == status, salt
    counted = await engine[1].post(
        "/v1/messages/count_tokens", json={"model": "scripted", "cache_salt": "a/b"}
    )
    assert counted.status_code == 200


async def test_faults(engine: tuple[Engine, httpx.AsyncClient]) -> None:
    server, client = engine
    body = {"model": "scripted", "stream": True, "messages": []}

    def use(**fault: Any) -> None:
        server.book = load_book({"default": {"events": 5, "fault": fault}})

    use(kind="status", status=503)
    assert (await client.post("/v1/chat/completions", json=body)).status_code == 503
    use(kind="error_event", after=2)
    answer = await client.post("/v1/chat/completions", json=body)
    assert '{"error":{' in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")
    for kind in ("close", "reset", "garbage_head"):
        use(kind=kind, after=2)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/v1/chat/completions", json=body)
    server.seen.clear()
    use(kind="stall", after=2)
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/v1/chat/completions", json=body, timeout=httpx.Timeout(60, read=0.2))
    await until(lambda: server.seen[0].outcome == "aborted")
    assert [seen.outcome for seen in server.seen] == ["aborted"]
    assert json.loads(server.seen[0].body) == body


async def test_split_and_joined_events_carry_the_same_bytes(engine: tuple[Engine, httpx.AsyncClient]) -> None:
    server, client = engine
    texts = set()
    for more in ({}, {"split_bytes": 7}, {"join_events": 3}, {"interval_ms": 1}):
        server.book = load_book({"default": {"events": 5, **more}})
        texts.add((await client.post("/v1/messages", json={"model": "scripted", "stream": True})).text)
    assert len(texts) == 1


async def test_named_scripts_and_inspection_from_outside(engine: tuple[Engine, httpx.AsyncClient]) -> None:
    server, client = engine
    book = {"default": {"events": 1}, "scripts": {"long": {"events": 40}}}
    assert (await client.put("/_scripted", json=book)).status_code == 200
    body = {"model": "scripted", "stream": True, "metadata": {"script": "long"}}
    assert (await client.post("/v1/completions", json=body)).text.count("data: ") == 41
    seen = (await client.get("/_scripted")).json()
    assert [(entry["method"], entry["target"], entry["outcome"]) for entry in seen] == [
        ("POST", "/v1/completions", "complete")
    ]
    assert (await client.put("/_scripted", json={"nonsense": 1})).status_code == 400
    server.inspect = False
    assert (await client.get("/_scripted")).status_code == 404


@pytest.mark.parametrize(
    "bad",
    [
        {"default": {"evnets": 1}},
        {"default": {"events": -1}},
        {"default": {"piece": 0}},
        {"default": {"fault": {"kind": "boom"}}},
        {"default": {"turns": [{"calls": [{}]}]}},
        {"scripts": []},
    ],
)
def test_a_wrong_book_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ScriptError):
        load_book(bad)


def test_the_command_serves_on_uvloop_until_it_is_told_to_stop(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    script = BENCHMARKS / "scripts" / "codex.json"
    command = [
        sys.executable,
        str(BENCHMARKS / "scripted_engine.py"),
        "--uds",
        str(path),
        "--script",
        str(script),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline()) == {"uds": str(path), "tcp": None}
            with httpx.Client(
                transport=httpx.HTTPTransport(uds=str(path)), base_url="http://engine"
            ) as client:
                for _ in range(2):
                    answer = client.post(
                        "/v1/responses", json={"model": "scripted", "stream": True, "input": "hi"}
                    )
                    assert "event: response.completed" in answer.text
        finally:
            process.terminate()
        assert process.wait(60) == 0
