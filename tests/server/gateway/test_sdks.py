"""Unmodified SDKs: streams, tool calls and, above all, the exceptions they raise for our refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anthropic
import openai
import pytest

from fakes.rig import Rig

BOOK = {
    "default": {
        "turns": [{"text": "Grüße 🙂", "calls": [{"name": "run", "arguments": {"cmd": "ls"}}]}],
        "piece": 3,
        "cached_tokens": 4,
    },
    "scripts": {"close": {"events": 50, "interval_ms": 40, "fault": {"kind": "close", "after": 3}}},
}
RUN = {"type": "object", "properties": {"cmd": {"type": "string"}}}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with Rig(tmp_path, {}, BOOK) as rig:
        yield rig


@pytest.fixture
async def gpt(rig: Rig) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"http://127.0.0.1:{rig.gateway.port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=rig.keys["alice"], max_retries=0) as client:
        yield client


@pytest.fixture
async def claude(rig: Rig) -> AsyncIterator[anthropic.AsyncAnthropic]:
    url = f"http://127.0.0.1:{rig.gateway.port}"
    async with anthropic.AsyncAnthropic(base_url=url, api_key=rig.keys["alice"], max_retries=0) as client:
        yield client


async def test_openai_chat(gpt: openai.AsyncOpenAI):
    tools = [{"type": "function", "function": {"name": "run", "parameters": RUN}}]
    messages = [{"role": "user", "content": "hi"}]
    whole = await gpt.chat.completions.create(model="scripted", messages=messages, tools=tools)  # type: ignore[call-overload]
    assert whole.choices[0].message.content == "Grüße 🙂"
    assert whole.choices[0].message.tool_calls[0].function.name == "run"
    text = ""
    async with gpt.chat.completions.stream(model="scripted", messages=messages, tools=tools) as stream:  # type: ignore[arg-type]
        async for event in stream:
            if event.type == "content.delta":
                text += event.delta
    assert text == "Grüße 🙂"


async def test_openai_responses(gpt: openai.AsyncOpenAI):
    tools = [{"type": "function", "name": "run", "parameters": RUN, "strict": False}]
    async with gpt.responses.stream(model="scripted", input="hi", tools=tools) as stream:  # type: ignore[arg-type]
        final = await stream.get_final_response()
    assert final.output_text == "Grüße 🙂"
    assert final.usage is not None
    assert final.usage.input_tokens_details.cached_tokens == 4


async def test_openai_models(gpt: openai.AsyncOpenAI):
    assert [model.id async for model in gpt.models.list()] == ["scripted"]


async def test_anthropic_messages(claude: anthropic.AsyncAnthropic):
    tools = [{"name": "run", "input_schema": RUN}]
    messages = [{"role": "user", "content": "hi"}]
    async with claude.messages.stream(
        model="scripted", max_tokens=99, messages=messages, tools=tools
    ) as stream:  # type: ignore[arg-type]
        final = await stream.get_final_message()
    assert final.content[0].text == "Grüße 🙂"  # type: ignore[union-attr]
    assert final.content[1].name == "run"  # type: ignore[union-attr]
    counted = await claude.messages.count_tokens(model="scripted", messages=messages)  # type: ignore[arg-type]
    assert counted.input_tokens > 0
    assert [model.id async for model in claude.models.list()] == ["scripted"]


async def test_refusals_raise_what_the_sdks_document(
    rig: Rig, gpt: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic
):
    hello = [{"role": "user", "content": "hi"}]
    with pytest.raises(openai.NotFoundError) as missing:
        await gpt.chat.completions.create(model="gpt-9", messages=hello)  # type: ignore[arg-type]
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        await gpt.with_options(api_key="rlu_x_y").models.list()
    with pytest.raises(openai.BadRequestError) as field:
        await gpt.chat.completions.create(model="scripted", messages=hello, extra_body={"vllm_xargs": {}})  # type: ignore[arg-type]
    assert field.value.param == "vllm_xargs"
    with pytest.raises(openai.BadRequestError):
        await gpt.responses.create(model="scripted", input="x", previous_response_id="resp_1")
    with pytest.raises(anthropic.NotFoundError):
        await claude.messages.create(model="claude-9", max_tokens=9, messages=hello)  # type: ignore[arg-type]
    with pytest.raises(anthropic.AuthenticationError):
        await claude.with_options(api_key="rlu_x_y").messages.create(
            model="scripted", max_tokens=9, messages=hello
        )  # type: ignore[arg-type]
    rig.gateway.readiness.draining = True
    with pytest.raises(openai.InternalServerError):
        await gpt.chat.completions.create(model="scripted", messages=hello)  # type: ignore[arg-type]
    with pytest.raises(anthropic.APIStatusError) as draining:
        await claude.messages.create(model="scripted", max_tokens=9, messages=hello)  # type: ignore[arg-type]
    assert draining.value.status_code == 503


async def test_an_engine_lost_in_a_stream_raises(gpt: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic):
    hello = [{"role": "user", "content": "hi"}]
    script = {"metadata": {"script": "close"}}
    stream = await gpt.chat.completions.create(
        model="scripted", messages=hello, stream=True, extra_body=script
    )  # type: ignore[call-overload]
    with pytest.raises(openai.APIError):
        async for _ in stream:
            pass
    responses = await gpt.responses.create(model="scripted", input="x", stream=True, extra_body=script)
    kinds = [event.type async for event in responses]
    assert "response.completed" not in kinds
    assert kinds[-1] == "error"
    events = await claude.messages.create(
        model="scripted", max_tokens=9, messages=hello, stream=True, extra_body=script
    )  # type: ignore[call-overload]
    with pytest.raises(anthropic.APIError):
        async for _ in events:
            pass
