from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_server.selftest.forms import SHORTEST, Needle
from rlu_server.selftest.index import Index


@given(
    st.lists(st.binary(min_size=SHORTEST, max_size=40), max_size=8),
    st.lists(st.one_of(st.binary(max_size=20), st.integers(0, 7)), max_size=12),
)
def test_finds_what_a_plain_search_finds(data: list[bytes], parts: list[bytes | int]) -> None:
    buffer = b"".join(
        part if isinstance(part, bytes) else (data[part] if part < len(data) else b"") for part in parts
    )
    index = Index(Needle(one, "text", "s") for one in data)
    expected = {
        (at, one)
        for one in data
        for at in range(len(buffer))
        if buffer.startswith(one, at) and at + len(one) <= len(buffer)
    }
    # The last bytes that fill no window are only looked at together with what follows.
    padded = list(index.find(buffer + bytes(8)))
    assert len(padded) == len(set(padded))
    assert {
        (at, index.needles[n].data) for at, n in padded if at + len(index.needles[n].data) <= len(buffer)
    } == expected


def test_every_alignment() -> None:
    needle = os.urandom(SHORTEST)
    index = Index([Needle(needle, "text", "s")])
    for at in range(64):
        assert [found for found, _ in index.find(os.urandom(at) + needle + os.urandom(9))] == [at]


def test_short_needles_refuse() -> None:
    with pytest.raises(ValueError, match="at least 15"):
        Index([Needle(bytes(SHORTEST - 1), "text", "s")])


def test_no_needles() -> None:
    assert list(Index([]).find(b"anything at all")) == []
