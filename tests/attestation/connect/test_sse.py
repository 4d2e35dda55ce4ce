"""Cutting a stream into blocks: nothing is lost or changed, and what readers could differ about is called odd."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlu_attestation.connect import sse
from rlu_attestation.connect.errors import Unproven
from rlu_attestation.connect.sse import Block, Splitter

_PIECES = (
    b"data: x",
    b"event: e",
    b": c",
    b"\n",
    b"\r\n",
    b"\r",
    b"\n\n",
    b"data",
    b"id: 1",
    b"\xff",
    b"\xef\xbb\xbf",
)


@settings(max_examples=150)
@given(st.lists(st.sampled_from(_PIECES) | st.binary(max_size=4), max_size=30), st.data())
def test_the_blocks_are_the_stream_however_it_is_cut(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    whole = Splitter()
    expected = whole.feed(stream)
    assert b"".join(block.raw for block in expected) + whole.rest == stream
    splitter, blocks, at = Splitter(), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 7))
        blocks += splitter.feed(stream[at : at + size])
        at += size
    assert (blocks, splitter.rest) == (expected, whole.rest)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_a_plain_event(end: bytes) -> None:
    raw = b"event: delta" + end + b'data: {"a":1}' + end + b": a comment" + end + end
    assert Splitter().feed(raw) == [Block(raw, "delta", b'{"a":1}')]


def test_only_one_space_is_taken_off() -> None:
    assert Splitter().feed(b"data:  x\n\ndata:y\n\n") == [
        Block(b"data:  x\n\n", "", b" x"),
        Block(b"data:y\n\n", "", b"y"),
    ]


def test_empty_lines_before_an_event_belong_to_it() -> None:
    assert Splitter().feed(b"\ndata: x\n\n") == [Block(b"\ndata: x\n\n", "", b"x")]


@pytest.mark.parametrize(
    "raw",
    [
        b"data: a\rdata: b\n\n",
        b"data: a\ndata: b\n\n",
        b"event: a\nevent: b\ndata: c\n\n",
        b"data\n\n",
        b"id: 1\ndata: a\n\n",
        b"\xef\xbb\xbfdata: a\n\n",
        b"Data: a\n\n",
        b"data : a\n\n",
        b"event: \xc3\xa9\ndata: a\n\n",
        b": a comment\rdata: a\n\n",
    ],
)
def test_what_readers_could_differ_about_is_odd(raw: bytes) -> None:
    assert Splitter().feed(raw) == [Block(raw, odd=True)]


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_BLOCK", 100)
    splitter = Splitter()
    splitter.feed(b"x" * 100)
    with pytest.raises(Unproven) as refused:
        splitter.feed(b"x")
    assert refused.value.code == "response.too_large"
