"""What waits for the receipt: the end of every answer, every complete tool call, and everything that is not recognised."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.connected import TURNS
from rlu_attestation.connect import screen as module
from rlu_attestation.connect.apis import Api
from rlu_attestation.connect.errors import Unproven
from rlu_attestation.connect.screen import StreamScreen, WholeScreen, screen
from scripted import chat, load_book, messages, responses
from scripted.answer import compose

EVENTS = "text/event-stream; charset=utf-8"
BOOK = load_book(TURNS)


def stream(api: Api, script: str = "tool") -> list[bytes]:
    """An answer as vLLM streams it."""
    chosen = BOOK.named.get(script, BOOK.default)
    answer = compose(chosen, 0, chosen.turn(None)[1], BOOK.model, "0" * 32, {})
    makers = {
        Api.CHAT: lambda: chat.chat(answer, True),
        Api.COMPLETIONS: lambda: chat.completion(answer, True),
        Api.RESPONSES: lambda: responses.response(answer),
        Api.MESSAGES: lambda: messages.message(answer),
    }
    return makers[api]().events


def first_held(api: Api, events: Sequence[bytes]) -> int:
    """The place of the first event that waits."""
    judged = StreamScreen(api)
    passed = judged.feed(b"".join(events))
    assert passed + judged.held() == b"".join(events)
    return next(
        (n for n in range(len(events)) if not passed.startswith(b"".join(events[: n + 1]))), len(events)
    )


def event(name: str, **members: Any) -> bytes:
    """A named event, as of the Responses and Messages APIs."""
    return f"event: {name}\ndata: {json.dumps({'type': name, **members})}\n\n".encode()


def data(**members: Any) -> bytes:
    return b"data: " + json.dumps(members).encode() + b"\n\n"


STREAMS = [Api.CHAT, Api.COMPLETIONS, Api.RESPONSES, Api.MESSAGES]


@pytest.mark.parametrize("api", STREAMS)
@pytest.mark.parametrize("script", ["tool", "default"])
@settings(max_examples=25)
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=20))
def test_however_a_stream_is_cut_the_bytes_are_the_same_and_the_same_wait(
    api: Api, script: str, sizes: list[int]
) -> None:
    whole = b"".join(stream(api, script))
    expected = StreamScreen(api)
    passes = expected.feed(whole)
    judged, passed, at = StreamScreen(api), b"", 0
    for size in itertools.cycle(sizes):
        passed += judged.feed(whole[at : at + size])
        at += size
        if at >= len(whole):
            break
    assert (passed, judged.held()) == (passes, expected.held())
    assert passed + judged.held() == whole


def test_chat_waits_when_a_second_call_begins() -> None:
    events = stream(Api.CHAT)
    second = next(n for n, raw in enumerate(events) if b'"index":1,"function":{"name"' in raw)
    assert first_held(Api.CHAT, events) == second


def test_chat_waits_at_its_finish() -> None:
    events = stream(Api.CHAT, "default")
    assert b'"finish_reason":"stop"' in events[first_held(Api.CHAT, events)]
    assert first_held(Api.CHAT, events) == len(events) - 3  # and the usage and [DONE] after it


def test_completions_wait_at_their_finish() -> None:
    events = stream(Api.COMPLETIONS, "default")
    assert b'"finish_reason":"stop"' in events[first_held(Api.COMPLETIONS, events)]


def test_responses_wait_at_the_first_complete_call() -> None:
    events = stream(Api.RESPONSES)
    assert events[first_held(Api.RESPONSES, events)].startswith(
        b"event: response.function_call_arguments.done"
    )


def test_responses_wait_at_their_end() -> None:
    events = stream(Api.RESPONSES, "default")
    assert first_held(Api.RESPONSES, events) == len(events) - 1
    assert events[-1].startswith(b"event: response.completed")


def test_messages_wait_at_the_first_complete_call() -> None:
    events = stream(Api.MESSAGES)
    waits = events[first_held(Api.MESSAGES, events)]
    assert json.loads(waits.partition(b"data: ")[2]) == {"type": "content_block_stop", "index": 2}


def test_messages_wait_at_their_end() -> None:
    events = stream(Api.MESSAGES, "default")
    assert events[first_held(Api.MESSAGES, events)].startswith(b"event: message_delta")


_CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
_BLOCK = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
_ITEM = {"type": "function_call", "arguments": "{}", "call_id": "c", "name": "look"}


@pytest.mark.parametrize(
    ("api", "raw"),
    [
        # chat
        (Api.CHAT, b"data: [DONE]\n\n"),
        (Api.CHAT, data(choices=[])),
        (Api.CHAT, data(error={"message": "x"}, choices=[{"index": 0, "delta": {}}])),
        (Api.CHAT, data(choices=[{"index": 0, "delta": {}, "finish_reason": "tool_calls"}])),
        (
            Api.CHAT,
            data(choices=[{"index": 0, "delta": {}}, {"index": 1, "delta": {}, "finish_reason": "stop"}]),
        ),
        (Api.CHAT, data(choices=[{"index": 0, "delta": {"tool_calls": [_CALL, {**_CALL, "index": 1}]}}])),
        (Api.CHAT, data(choices=[{"index": 0, "delta": {"tool_calls": [{**_CALL, "index": True}]}}])),
        (Api.CHAT, data(choices=[{"index": 0, "delta": {"tool_calls": _CALL}}])),
        (Api.CHAT, data(choices=[{"index": 0, "delta": {"tool_calls": ["x"]}}])),
        (Api.CHAT, data(choices=[{"index": 0, "message": {"content": "x"}}])),
        (Api.CHAT, data(choices=["x"])),
        (Api.CHAT, b'event: x\ndata: {"choices":[{"index":0,"delta":{}}]}\n\n'),
        (
            Api.CHAT,
            b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop","finish_reason":null}]}\n\n',
        ),
        (Api.CHAT, b'data: {"choices":[{"index":0,"delta":{}}]}\ndata: [DONE]\n\n'),
        (Api.CHAT, b'data: {"choices":[{"index":0,"delta":{}}]}\rdata: [DONE]\n\n'),
        (Api.CHAT, b"data: " + b"[" * 100_000 + b"\n\n"),
        (Api.CHAT, b"data: \xff\n\n"),
        (Api.CHAT, b"event: done\n\n"),
        (Api.COMPLETIONS, data(choices=[{"index": 0, "text": "x", "finish_reason": "length"}])),
        (Api.COMPLETIONS, data(choices=[])),
        # responses
        (Api.RESPONSES, event("response.completed", response={})),
        (Api.RESPONSES, event("response.incomplete", response={})),
        (Api.RESPONSES, event("response.failed", response={})),
        (Api.RESPONSES, event("response.made_up_tomorrow")),
        (Api.RESPONSES, event("response.function_call_arguments.done", arguments="{}")),
        (Api.RESPONSES, event("response.output_item.done", item=_ITEM)),
        (Api.RESPONSES, event("response.output_item.added", item=_ITEM)),
        (Api.RESPONSES, event("response.output_item.added", item={"type": "custom_tool_call", "input": "x"})),
        (Api.RESPONSES, event("response.output_item.added", item={"type": "mcp_call"})),
        (Api.RESPONSES, event("response.output_item.done", item={"type": "local_shell_call"})),
        (Api.RESPONSES, event("response.created", response={"status": "completed"})),
        (Api.RESPONSES, event("response.created", response={"status": "in_progress", "output": [_ITEM]})),
        (Api.RESPONSES, event("response.created")),
        (Api.RESPONSES, event("response.output_text.delta", delta="x", error={"message": "x"})),
        (Api.RESPONSES, b'event: response.completed\ndata: {"type":"response.output_text.delta"}\n\n'),
        (Api.RESPONSES, b'data: {"type":"response.output_text.delta","type":"response.completed"}\n\n'),
        (Api.RESPONSES, b"data: [DONE]\n\n"),
        (Api.RESPONSES, b"data: {}\n\n"),
        # messages
        (Api.MESSAGES, event("message_stop")),
        (Api.MESSAGES, event("message_delta", delta={"stop_reason": "end_turn"})),
        (Api.MESSAGES, event("error", error={"type": "x"})),
        (Api.MESSAGES, event("message_start", message={"stop_reason": "end_turn", "content": []})),
        (Api.MESSAGES, event("message_start", message={"stop_reason": None, "content": [_BLOCK]})),
        (Api.MESSAGES, event("content_block_start", index=0, content_block={**_BLOCK, "input": {"a": 1}})),
        (Api.MESSAGES, event("content_block_start", index=0, content_block={"type": "server_tool_use"})),
        (Api.MESSAGES, event("content_block_start", index="0", content_block={"type": "text"})),
        (Api.MESSAGES, event("content_block_stop", index=7)),
        (Api.MESSAGES, event("content_block_stop", index=True)),
        (Api.MESSAGES, b'event: ping\ndata: {"type":"message_stop"}\n\n'),
        (Api.MESSAGES, b'data: {"type":"ping"}\n\n'),
    ],
)
def test_it_waits_and_so_does_all_after_it(api: Api, raw: bytes) -> None:
    judged = StreamScreen(api)
    harmless = stream(api, "default")[1]
    assert judged.feed(raw + harmless) == b""
    assert judged.feed(harmless) == b""
    assert judged.held() == raw + harmless + harmless


def test_a_block_that_begins_as_text_does_not_end_as_a_call() -> None:
    started = event("content_block_start", index=0, content_block=_BLOCK)
    again = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    judged = StreamScreen(Api.MESSAGES)
    assert judged.feed(started + again) == started


@pytest.mark.parametrize("api", STREAMS)
def test_comments_pass(api: Api) -> None:
    assert StreamScreen(api).feed(b": keep alive\n\n") == b": keep alive\n\n"


@pytest.mark.parametrize("api", STREAMS)
def test_an_unfinished_event_waits(api: Api) -> None:
    raw = stream(api, "default")[1]
    judged = StreamScreen(api)
    assert judged.feed(raw[:-1]) == b""
    assert judged.held() == raw[:-1]
    assert judged.feed(raw[-1:]) == raw
    assert judged.held() == b""


def test_an_error_at_the_front_of_what_waits_is_found() -> None:
    error = data(error={"message": "x"})
    judged = StreamScreen(Api.CHAT)
    judged.feed(error + b"data: [DONE]\n\n")
    assert judged.error() == error
    judged = StreamScreen(Api.CHAT)
    judged.feed(b"data: [DONE]\n\n" + error)
    assert judged.error() == b""


def test_what_is_no_stream_waits_as_a_whole() -> None:
    judged = WholeScreen()
    assert judged.feed(b"{") + judged.feed(b"}") == b""
    assert (judged.held(), judged.error()) == (b"{}", b"")


@pytest.mark.parametrize(
    ("api", "status", "content_type", "kind"),
    [
        (Api.CHAT, 200, EVENTS, StreamScreen),
        (Api.CHAT, 200, "TEXT/Event-Stream", StreamScreen),
        (Api.CHAT, 200, "application/json", WholeScreen),
        (Api.CHAT, 200, "", WholeScreen),
        (Api.CHAT, 500, EVENTS, WholeScreen),
        (Api.EMBEDDINGS, 200, EVENTS, WholeScreen),
        (None, 200, EVENTS, WholeScreen),
    ],
)
def test_which_screen(api: Api | None, status: int, content_type: str, kind: type) -> None:
    assert type(screen(api, status, content_type)) is kind


@pytest.mark.parametrize("make", [WholeScreen, lambda: StreamScreen(Api.CHAT)])
def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    monkeypatch.setattr(module, "MAX_HELD", 100)
    judged = make()
    judged.feed(b"data: [DONE]\n\n")
    with pytest.raises(Unproven) as refused:
        judged.feed(b"x" * 100)
    assert refused.value.code == "response.too_large"
