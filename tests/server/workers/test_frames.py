"""What workers and hub say arrives as it was said, in any pieces, and nothing else does."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_server.adapters.opener import Opening
from rlu_server.core.apikeys import Principal
from rlu_server.core.conversation import Conversation, Explicit
from rlu_server.core.errors import GatewayError
from rlu_server.core.limits.accounts import Left, LimitReached, Standing
from rlu_server.workers import frames
from rlu_server.workers.desk import UNTOLD

ALICE = Principal("acme", "alice", "key", "t" * 22, "p" * 22)
MESSAGES: list[frames.Message] = [
    frames.Hello({"lock": 2, "call_filter": True, "network": "none"}),
    frames.Admit(1, ALICE, frames.Where.of(Explicit("s")), Opening(3, bytes(32))),
    frames.Admit(2, ALICE, frames.Where.of(Conversation(b"k" * 32)), Opening(3, bytes(32))),
    frames.Record(1, UNTOLD),
    frames.Leave(1, None),
    frames.Report(3, {"requests": [[["/v1/x", 200], 1]]}, {"t": 1}),
]


@given(st.lists(st.integers(0, 400), max_size=6))
def test_in_any_pieces(cuts: list[int]):
    data = frames.encode(MESSAGES[:3]) + frames.encode(MESSAGES[3:])
    reader = frames.Reader(frames.TO_HUB)
    found: list[frames.ToHub] = []
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(places):
        found += reader.feed(data[start:end])
    assert found == MESSAGES


@given(st.binary(max_size=200))
def test_garbage_is_a_frame_error_or_nothing(data: bytes):
    reader = frames.Reader(frames.TO_HUB)
    try:
        reader.feed(len(data).to_bytes(4, "big") + data)
    except frames.FrameError:
        return


def test_what_only_the_hub_says_is_not_taken_from_a_worker():
    with pytest.raises(frames.FrameError):
        frames.Reader(frames.TO_HUB).feed(frames.encode([frames.State(True, False)]))


@pytest.mark.parametrize("where", [Explicit("abc"), Conversation(b"k" * 32)])
def test_where(where: Explicit | Conversation):
    assert frames.Where.of(where).where() == where


def test_errors_keep_what_clients_are_told():
    standing = Standing(Left(5, 0, 1.5), None)
    limit = LimitReached("limit_requests", "Too many.", 7, standing)
    made = frames.Error.of(limit).error()
    assert isinstance(made, LimitReached)
    assert (made.code, made.message, made.retry_after_s, made.status) == (
        "limit_requests",
        "Too many.",
        7,
        429,
    )
    assert made.standing.requests is not None
    assert (made.standing.requests.limit, made.standing.requests.reset_s, made.standing.tokens) == (
        5,
        1.5,
        None,
    )
    plain = frames.Error.of(GatewayError("field_type", param="rlu-session")).error()
    assert (plain.code, plain.param, type(plain)) == ("field_type", "rlu-session", GatewayError)
