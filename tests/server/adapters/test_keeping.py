"""The end of a stream is seen as soon as it was sent, however it was cut; of anything else nothing is taken."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_server.adapters.keeping import Keeping
from rlu_server.adapters.observation import Observation
from rlu_server.core.routes import Api

RESPONSE = {
    "id": "resp_1",
    "status": "completed",
    "model": "m",
    "output": [{"type": "message", "x": "é" * 9}],
}


def event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


DELTAS = event("response.created", response={**RESPONSE, "status": "in_progress"}) + b"".join(
    event("response.output_text.delta", delta=text) for text in ("say response.completed", "now", "x" * 40)
)
LAST = event("response.completed", response=RESPONSE)


def watch(kind: str, pieces: list[bytes], *, ends: bool = True) -> list[tuple[int, bytes | None]]:
    """After which bytes which answer was there."""
    observation, keeping = Observation(), Keeping(7)
    observation.expect(Api.RESPONSES, kind, wanted=True)
    told, sent = [], 0
    for index, piece in enumerate(pieces):
        observation.add(piece)
        sent += len(piece)
        told.append((sent, keeping.sent(piece, ends and index == len(pieces) - 1, observation)))
    return told


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted({place % len(data) for place in places} - {0}), len(data)]
    return [data[a:b] for a, b in pairwise(marks)]


@given(st.lists(st.integers(0, 10_000), max_size=30))
def test_the_cut_does_not_matter(places: list[int]):
    data = DELTAS + LAST
    for sent, answer in watch("text/event-stream", cut(data, places), ends=False):
        # The line is complete one byte before the event is.
        if sent >= len(data) - 1:
            assert answer is not None
            assert json.loads(answer) == RESPONSE
        else:
            assert answer is None


@pytest.mark.parametrize("size", [1, 5, 17])
def test_not_even_when_no_piece_holds_the_name(size: int):
    data = DELTAS + LAST
    told = watch("text/event-stream", [data[at : at + size] for at in range(0, len(data), size)], ends=False)
    assert told[-1][1] is not None


def test_it_is_there_before_the_engine_ends_its_answer():
    told = watch("text/event-stream", [DELTAS, LAST, b""])
    assert [answer is not None for _, answer in told] == [False, True, True]


@pytest.mark.parametrize(
    "end",
    [
        b"",
        event("response.failed", response={**RESPONSE, "status": "failed"}),
        event("error", message="response.completed"),
        LAST[:-9],
    ],
)
def test_another_end_leaves_nothing(end: bytes):
    assert [answer for _, answer in watch("text/event-stream", [DELTAS, end])] == [None, None]


def test_a_document_counts_once_it_is_whole():
    whole = json.dumps(RESPONSE).encode()
    told = watch("application/json", [whole[:20], whole[20:]])
    assert [answer for _, answer in told] == [None, whole]
    failed = json.dumps({**RESPONSE, "status": "failed"}).encode()
    assert watch("application/json", [failed])[-1][1] is None
    assert watch("application/json", [whole[:-1]])[-1][1] is None


def test_what_nobody_wants_is_not_held():
    observation = Observation()
    observation.expect(Api.RESPONSES, "text/event-stream")
    observation.add(DELTAS + LAST)
    assert observation.answer() is None
