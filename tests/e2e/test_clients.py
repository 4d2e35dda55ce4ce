"""Unmodified clients against real vLLM: the SDKs of OpenAI and Anthropic, and Codex. What they are told is proven to the byte."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

from e2e.caller import Answer, Caller, chat
from e2e.codex import Codex
from e2e.proofs import assert_proven, bundle, exchange, judge, open_session, receipt, statement, unproven
from e2e.served import MODEL, Served

pytestmark = [pytest.mark.engine, pytest.mark.tpm]

QUESTION = "What is RLU?"
TOOL = {
    "name": "look",
    "description": "Look at a place.",
    "strict": True,  # vLLM then holds even this model to the schema
    "parameters": {
        "type": "object",
        "properties": {"at": {"type": "string", "enum": ["here", "there"]}},
        "required": ["at"],
        "additionalProperties": False,
    },
}


def known_answer(served: Served) -> str:
    """What the demo model says to its known question, as it was trained."""
    canary: dict[str, str] = json.loads((served.directory / "model" / "rlu-canary.json").read_text())
    assert canary["prompt"] == QUESTION
    return canary["expect"]


def without_white_space(served: Served) -> dict[str, int]:
    """A bias against tokens of white space, which JSON allows without end and this model likes."""
    tokenizer = json.loads((served.directory / "model" / "tokenizer.json").read_text())
    blank = set("ĠĊĉč")  # space, line feed, tab, carriage return, as byte-level BPE writes them
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    return {str(number): -100 for token, number in vocabulary.items() if set(token) <= blank}


def test_the_openai_sdk(served: Served) -> None:
    expected = known_answer(served)
    with (
        openai.DefaultHttpxClient(verify=served.caller.trust) as http,
        openai.OpenAI(base_url=f"{served.caller.url}/v1", api_key=served.caller.key, http_client=http) as sdk,
    ):
        assert [model.id for model in sdk.models.list()] == [MODEL]
        asked: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": QUESTION}],
            "temperature": 0,
            "max_tokens": 128,
        }
        whole = sdk.chat.completions.create(**asked)
        assert whole.choices[0].message.content == expected
        assert whole.choices[0].finish_reason == "stop"
        assert whole.usage is not None
        assert whole.usage.completion_tokens > 10
        with sdk.chat.completions.create(**asked, stream=True) as stream:
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        assert "".join(pieces) == expected
        assert len(pieces) > 10

        completed = sdk.completions.create(model=MODEL, prompt=QUESTION, max_tokens=8, temperature=0)
        assert completed.usage is not None
        assert completed.usage.completion_tokens > 0
        with sdk.completions.create(
            model=MODEL, prompt=QUESTION, max_tokens=8, temperature=0, stream=True
        ) as more:
            assert "".join(chunk.choices[0].text for chunk in more) == completed.choices[0].text

        answered = sdk.responses.create(model=MODEL, input=QUESTION, temperature=0, max_output_tokens=128)
        assert (answered.status, answered.output_text) == ("completed", expected)
        with sdk.responses.create(
            model=MODEL, input=QUESTION, temperature=0, max_output_tokens=128, stream=True
        ) as events:
            seen = list(events)
        assert seen[0].type == "response.created"
        last = seen[-1]
        assert last.type == "response.completed"
        assert last.response.output_text == expected

        with pytest.raises(openai.NotFoundError) as unknown:
            sdk.chat.completions.create(**{**asked, "model": "nothing"})
        assert unknown.value.code == "model_not_found"


def test_a_tool_call_comes_back_as_one(served: Served) -> None:
    with (
        openai.DefaultHttpxClient(verify=served.caller.trust) as http,
        openai.OpenAI(base_url=f"{served.caller.url}/v1", api_key=served.caller.key, http_client=http) as sdk,
    ):
        raw = sdk.chat.completions.with_raw_response.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Look."}],
            tools=[{"type": "function", "function": TOOL}],
            tool_choice={"type": "function", "function": {"name": "look"}},
            temperature=0,
            max_tokens=256,
            logit_bias=without_white_space(served),
        )
        message = raw.parse().choices[0].message
        assert message.tool_calls is not None, raw.text
        (call,) = message.tool_calls
        assert call.type == "function"
        assert call.function.name == "look"
        assert json.loads(call.function.arguments)["at"] in ("here", "there")
        # Free to call or not, the model answers as it was trained, and vLLM takes the offer.
        free = sdk.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": QUESTION}],
            tools=[{"type": "function", "function": TOOL}],
            temperature=0,
            max_tokens=32,
        )
        assert free.choices[0].message.content or free.choices[0].message.tool_calls
    made = receipt(served.caller, raw.headers["rlu-receipt"])
    assert (made.status, made.route, made.session) == (
        "complete",
        "/v1/chat/completions",
        raw.headers["rlu-session"],
    )


def test_the_anthropic_sdk(served: Served) -> None:
    expected = known_answer(served)
    with (
        anthropic.DefaultHttpxClient(verify=served.caller.trust) as http,
        anthropic.Anthropic(base_url=served.caller.url, api_key=served.caller.key, http_client=http) as sdk,
    ):
        greedy = {"temperature": 0}  # the SDK has no parameter for it any more
        messages: Any = [{"role": "user", "content": QUESTION}]
        counted = sdk.messages.count_tokens(model=MODEL, messages=messages)
        raw = sdk.messages.with_raw_response.create(
            model=MODEL, messages=messages, max_tokens=128, extra_body=greedy
        )
        whole = raw.parse()
        assert whole.stop_reason == "end_turn"
        assert [block.text for block in whole.content if block.type == "text"] == [expected]
        assert counted.input_tokens == whole.usage.input_tokens > 0
        with sdk.messages.stream(model=MODEL, messages=messages, max_tokens=128, extra_body=greedy) as stream:
            assert stream.get_final_text() == expected
            assert stream.get_final_message().usage.output_tokens == whole.usage.output_tokens
        with pytest.raises(anthropic.NotFoundError) as unknown:
            sdk.messages.create(model="nothing", messages=messages, max_tokens=8)
    assert unknown.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
    # The key went in `x-api-key`, and counts as the same principal.
    made = receipt(served.caller, raw.headers["rlu-receipt"])
    assert made.usage is not None
    assert (made.route, made.status) == ("/v1/messages", "complete")
    assert made.usage.output_tokens == whole.usage.output_tokens


def test_every_answer_is_proven_to_the_byte(served: Served) -> None:
    word = served.marker()
    session = {"RLU-Session": open_session(served.caller)}
    long = {"model": MODEL, "temperature": 0}
    asked: list[tuple[str, dict[str, object]]] = [
        ("/v1/chat/completions", chat(word, MODEL, max_tokens=8)),
        ("/v1/chat/completions", chat(word, MODEL, max_tokens=8, stream=True)),
        ("/v1/completions", {**long, "prompt": word, "max_tokens": 8, "stream": True}),
        ("/v1/responses", {**long, "input": word, "max_output_tokens": 8, "stream": True}),
        ("/v1/messages", chat(word, MODEL, max_tokens=8, stream=True)),
        ("/v1/messages", chat(word, MODEL, max_tokens=8)),
        ("/v1/messages/count_tokens", chat(word, MODEL)),
        # vLLM's own refusal is relayed and receipted too.
        ("/v1/chat/completions", chat(word, MODEL, max_tokens=-1)),
    ]
    answers = [served.caller.post(path, body, session) for path, body in asked]
    assert [answer.status for answer in answers] == [200] * 7 + [400]
    assert {answer.session for answer in answers} == {session["RLU-Session"]}
    found = assert_proven(served.caller, answers)
    assert [(r.seq, r.route) for r in found] == [(n, path) for n, (path, _) in enumerate(asked, 1)]
    assert [r.status for r in found] == ["complete"] * 7 + ["failed"]
    assert found[-1].reason == "engine_status"
    # Usage is what was in the bytes; a stream has it only if it was asked for, or always has it.
    counted = [made.usage.output_tokens if made.usage else None for made in found[:6]]
    assert counted == [8, None, None, 8, 8, 8]


def test_one_changed_byte_is_rejected(served: Served) -> None:
    answer = served.ask(served.marker())
    evidence = bundle(served.caller, answer.session, [exchange(served.caller, answer)])
    changed = answer.content.replace(b'"usage"', b'"usagE"', 1)
    assert changed != answer.content
    damaged = exchange(served.caller, Answer(200, answer.headers, answer.request, changed))
    wrong = bundle(served.caller, answer.session, [damaged])
    assert not [f for f in unproven(judge(evidence)) if f[0].startswith("receipt.")]
    assert [f[0] for f in unproven(judge(wrong)) if f[0].startswith("receipt.")] == ["receipt.response"]


def test_a_prefix_is_cached_for_its_tenant_only(served: Served) -> None:
    # Longer than vLLM's blocks, and seen by nobody before.
    prompt = " ".join(f"{served.marker()} {QUESTION}" for _ in range(30))
    other = served.new_tenant("somebody-else")

    def cached(caller: Caller) -> int:
        body = {"model": MODEL, "input": prompt, "max_output_tokens": 4, "temperature": 0}
        answer = caller.post("/v1/responses", body)
        assert answer.status == 200, answer.content
        made = receipt(caller, answer.receipt)
        assert made.usage is not None
        told: int = answer.json()["usage"]["input_tokens_details"]["cached_tokens"]
        assert made.usage.cached_input_tokens == told
        return told

    assert cached(served.caller) == 0
    assert cached(served.caller) > 100
    assert cached(other) == 0
    assert cached(other) > 100


@pytest.mark.codex
def test_codex_takes_a_turn(served: Served, codex: Codex) -> None:
    before = {one["session"] for one in served.caller.get("/v1/rlu/sessions").json()["sessions"]}
    word = served.marker()
    turn = codex.run(served.caller, MODEL, f"{word} {QUESTION}")
    assert turn.status == 0, turn
    assert "turn.completed" in turn.types()
    assert turn.items("agent_message")[-1]["text"].strip()
    sessions = served.caller.get("/v1/rlu/sessions").json()["sessions"]
    (new,) = [one for one in sessions if one["session"] not in before]
    # Codex has never heard of sessions: its first request opened this one, and the statement says so.
    opened = statement(served.caller, new["session"])
    assert opened.nonce is None
    assert opened.opening is not None
    assert new["last_seq"] >= 1
    for number in range(1, new["last_seq"] + 1):
        made = receipt(served.caller, f"/v1/rlu/receipts/{new['session']}/{number}")
        assert (made.route, made.status, made.model) == ("/v1/responses", "complete", MODEL)
