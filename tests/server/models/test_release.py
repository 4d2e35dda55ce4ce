"""The number of a release."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation.errors import Malformed
from rlu_server.models.release import MOST, encode, parse


@given(st.integers(1, MOST))
def test_there_and_back(number: int) -> None:
    assert parse(encode(number)) == number


BAD = [
    b"",
    b"7",
    b"null",
    b'{"release":0}',
    b'{"release":-1}',
    b'{"release":true}',
    b'{"release":1.0}',
    b'{"release":"1"}',
    b'{"release":9007199254740992}',
    b'{"release":1,"note":""}',
    b'{"number":1}',
    b'{"release":1}' + b" " * 5000,
    b"[" * 3000,
    b"\xff",
]


@pytest.mark.parametrize("data", BAD)
def test_what_is_none(data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        parse(data)
    assert (caught.value.code, caught.value.exit_code) == ("model.release", 30)


@given(st.binary(max_size=64))
def test_arbitrary_bytes_refuse_or_are_a_number(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        assert parse(data) >= 1
