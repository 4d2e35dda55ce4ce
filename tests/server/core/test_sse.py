"""The readers: what they see, and that no way of cutting the stream changes it."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlu_server.core import sse
from rlu_server.core.routes import Api
from rlu_server.core.usage import End, Usage

STREAM = "text/event-stream; charset=utf-8"


def data(event: dict[str, Any] | str) -> bytes:
    return (
        b"data: "
        + (event if isinstance(event, str) else json.dumps(event, separators=(",", ":"))).encode()
        + b"\n\n"
    )


def named(event: dict[str, Any]) -> bytes:
    return b"event: " + event["type"].encode() + b"\n" + data(event)


CHAT_DELTA = data({"choices": [{"delta": {"content": "hi"}, "finish_reason": None}]})
CHAT_USAGE = data(
    {
        "choices": [],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}},
    }
)
DONE = data("[DONE]")
COMPLETED = named(
    {
        "type": "response.completed",
        "response": {
            "status": "completed",
            "usage": {"input_tokens": 9, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}},
        },
    }
)
MESSAGE_START = named(
    {
        "type": "message_start",
        "message": {"usage": {"input_tokens": 8, "output_tokens": 0, "cache_read_input_tokens": 6}},
    }
)
MESSAGE_DELTA = named(
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}
)
MESSAGE_STOP = named({"type": "message_stop"})


def read(api: Api, *pieces: bytes, content_type: str = STREAM) -> tuple[End, Usage | None]:
    reader = sse.reader(api, content_type)
    for piece in pieces:
        reader.feed(piece)
    end = reader.end()
    return end, reader.usage


@pytest.mark.parametrize(
    ("api", "stream", "end", "usage"),
    [
        (Api.CHAT, CHAT_DELTA * 3 + DONE, End.ORDINARY, None),
        (Api.CHAT, CHAT_DELTA + CHAT_USAGE + DONE, End.ORDINARY, Usage(5, 7, 3)),
        (Api.COMPLETIONS, CHAT_USAGE + DONE, End.ORDINARY, Usage(5, 7, 3)),
        (Api.CHAT, CHAT_DELTA, End.NONE, None),
        (Api.CHAT, b"", End.NONE, None),
        (Api.CHAT, b": ping\n\n" + CHAT_DELTA + b": ping\n\n" + DONE, End.ORDINARY, None),
        (Api.CHAT, (CHAT_DELTA + DONE).replace(b"\n", b"\r\n"), End.ORDINARY, None),
        (Api.CHAT, CHAT_DELTA + data({"error": {"message": "x"}}) + DONE, End.ERROR, None),
        (Api.CHAT, DONE.rstrip(b"\n"), End.NONE, None),
        (Api.CHAT, data({"choices": [{"delta": {"content": 'data: [DONE]\n "error"'}}]}), End.NONE, None),
        (Api.CHAT, data({"x": "[DONE]"}), End.NONE, None),
        (Api.CHAT, b"event: [DONE]\n\n", End.NONE, None),
        (
            Api.CHAT,
            data({"choices": [], "error": None, "usage": {"prompt_tokens": -1}}) + DONE,
            End.ORDINARY,
            None,
        ),
        (
            Api.RESPONSES,
            named({"type": "response.created", "response": {"error": None}}) + COMPLETED,
            End.ORDINARY,
            Usage(9, 2, 4),
        ),
        (
            Api.RESPONSES,
            COMPLETED.replace(b"response.completed", b"response.incomplete"),
            End.ORDINARY,
            Usage(9, 2, 4),
        ),
        (
            Api.RESPONSES,
            COMPLETED.replace(b"response.completed", b"response.failed"),
            End.ERROR,
            Usage(9, 2, 4),
        ),
        (Api.RESPONSES, named({"type": "error", "message": "x"}), End.ERROR, None),
        (
            Api.RESPONSES,
            named({"type": "response.output_text.delta", "delta": "response.completed"}),
            End.NONE,
            None,
        ),
        (Api.RESPONSES, DONE, End.NONE, None),
        (Api.MESSAGES, MESSAGE_START + MESSAGE_DELTA + MESSAGE_STOP, End.ORDINARY, Usage(8, 3, 6)),
        (Api.MESSAGES, MESSAGE_START + MESSAGE_DELTA, End.NONE, Usage(8, 3, 6)),
        (
            Api.MESSAGES,
            MESSAGE_START + named({"type": "error", "error": {"type": "x"}}),
            End.ERROR,
            Usage(8, 0, 6),
        ),
        (Api.EMBEDDINGS, DONE, End.NONE, None),
    ],
)
def test_streams(api: Api, stream: bytes, end: End, usage: Usage | None):
    assert read(api, stream) == (end, usage)
    assert read(api, *(stream[i : i + 1] for i in range(len(stream)))) == (end, usage)


lines = st.sampled_from(
    [
        CHAT_DELTA,
        CHAT_USAGE,
        DONE,
        COMPLETED,
        MESSAGE_START,
        MESSAGE_DELTA,
        MESSAGE_STOP,
        b"\n",
        b"\r\n",
        b": comment\n",
        b"data: [DONE]",
        b"data:[DONE]\r\n",
        b'data: {"error": {}}\n',
        b'data: {"usage":{"prompt_tokens":1}}\n',
        b'data: {"usage" : {"prompt_tokens":2}, "type":"message_stop"}\n',
        b'"type":"message_stop"}',
        b"data: " + b"x" * 60 + b'"type": "response.completed"}\n',
        b"\xff\xfe",
    ]
) | st.binary(max_size=12)


@settings(max_examples=400)
@given(
    api=st.sampled_from(list(Api)),
    pieces=st.lists(lines, max_size=12),
    cuts=st.lists(st.integers(0, 2000), max_size=20),
)
def test_no_way_of_cutting_changes_what_is_seen(api: Api, pieces: list[bytes], cuts: list[int]):
    # Small limits, so that long lines and long documents are met as well.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sse, "MAX_LINE", 64)
        patch.setattr(sse, "TAIL", 48)
        patch.setattr(sse, "MAX_DOCUMENT", 200)
        stream = b"".join(pieces)
        at = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
        cut = [stream[a:b] for a, b in itertools.pairwise(at)]
        for content_type in (STREAM, "application/json"):
            whole = read(api, stream, content_type=content_type)
            assert read(api, *cut, content_type=content_type) == whole


def test_the_end_of_an_event_is_recognised():
    reader = sse.StreamReader(Api.CHAT)
    assert reader.at_boundary()
    for piece, boundary in (
        (b"data: x", False),
        (b"\n", False),
        (b"\n", True),
        (b"d\r\n\r", False),
        (b"\n", True),
    ):
        reader.feed(piece)
        assert reader.at_boundary() is boundary


def test_a_long_terminal_event_still_ends_the_stream():
    event = {
        "response": {"output": "x" * (sse.MAX_LINE + 10)},
        "sequence_number": 7,
        "type": "response.completed",
    }
    stream = data(event)
    pieces = [stream[i : i + 65536] for i in range(0, len(stream), 65536)]
    assert read(Api.RESPONSES, *pieces) == (End.ORDINARY, None)
    assert read(Api.RESPONSES, stream) == (End.ORDINARY, None)


def test_memory_is_bounded_by_the_longest_line():
    reader = sse.StreamReader(Api.CHAT)
    for _ in range(40):
        reader.feed(b"x" * (1 << 20))
    assert sum(map(len, reader._carry)) <= sse.MAX_LINE + 2 * (1 << 20)


@pytest.mark.parametrize(
    ("api", "document", "end", "usage"),
    [
        (
            Api.CHAT,
            {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1}},
            End.ORDINARY,
            Usage(5, 1),
        ),
        (
            Api.EMBEDDINGS,
            {"data": [], "usage": {"prompt_tokens": 5, "total_tokens": 5}},
            End.ORDINARY,
            Usage(5, 0),
        ),
        (
            Api.RESPONSES,
            {"status": "completed", "error": None, "usage": {"input_tokens": 1, "output_tokens": 2}},
            End.ORDINARY,
            Usage(1, 2),
        ),
        (Api.RESPONSES, {"status": "failed", "usage": None}, End.ERROR, None),
        (
            Api.MESSAGES,
            {"type": "message", "usage": {"input_tokens": 1, "output_tokens": 2}},
            End.ORDINARY,
            Usage(1, 2),
        ),
        (Api.COUNT_TOKENS, {"input_tokens": 12}, End.ORDINARY, None),
        (Api.CHAT, {"error": {"message": "x"}}, End.ERROR, None),
        (Api.CHAT, {"usage": {"prompt_tokens": True, "completion_tokens": 1.5}}, End.ORDINARY, None),
    ],
)
def test_documents(api: Api, document: dict[str, Any], end: End, usage: Usage | None):
    raw = json.dumps(document).encode()
    assert read(api, raw, content_type="application/json") == (end, usage)
    assert read(api, raw[:7], raw[7:], content_type="application/json") == (end, usage)


@pytest.mark.parametrize("raw", [b"", b"[]", b"not json", b"\xff", b'{"usage":' + b"[" * 5000])
def test_an_answer_that_is_no_document_is_an_error(raw: bytes):
    assert read(Api.CHAT, raw, content_type="application/json") == (End.ERROR, None)


def test_usage_of_a_long_document_is_read_from_its_end():
    raw = json.dumps(
        {
            "data": [0.25] * 600_000,
            "usage": {"prompt_tokens": 4, "total_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}},
            "id": "x",
        }
    ).encode()
    assert len(raw) > sse.MAX_DOCUMENT
    assert read(Api.EMBEDDINGS, raw, content_type="application/json") == (End.ORDINARY, Usage(4, 0, 2))
