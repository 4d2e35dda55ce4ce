"""Searching finds what Python's own search finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_server.core import search
from rlu_server.core.search import LONG, contains

PARTS = st.binary(min_size=1, max_size=9)


@given(
    PARTS, st.binary(max_size=20), st.integers(0, LONG + 50), st.sampled_from([0, LONG - 5, LONG, 3 * LONG])
)
def test_the_same_as_in(part: bytes, piece: bytes, at: int, size: int) -> None:
    data = b"\x00" * min(at, size) + piece + b"\x00" * max(size - at, 0)
    assert contains(data, part) == (part in data)
    found = data[: len(data) // 2] + part + data[len(data) // 2 :]
    assert contains(found, part)
    assert contains(data + part, part)
    assert contains(part + data, part)


def test_without_the_c_library_s_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_memmem", None)
    assert contains(b"a" * LONG + b"_url", b"_url")
    assert not contains(b"a" * LONG, b"_url")
