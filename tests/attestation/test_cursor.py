"""The cursor gives what is there and refuses everything else, under the caller's code."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation.cursor import Cursor
from rlu_attestation.errors import Malformed


def test_reads_in_order_and_ends() -> None:
    cursor = Cursor(bytes(range(1, 31)), "x", 64)
    assert cursor.peek() == 1
    assert (cursor.u8("a"), cursor.u16("b"), cursor.u32("c")) == (1, 0x0203, 0x04050607)
    assert cursor.u64("d") == 0x08090A0B0C0D0E0F
    assert (cursor.u16_le("e"), cursor.u32_le("f")) == (0x1110, 0x15141312)
    assert cursor.u64_le("g") == 0x1D1C1B1A19181716
    assert (cursor.position, cursor.remaining) == (29, 1)
    assert cursor.since(27) == bytes([28, 29])
    assert cursor.take(1, "h") == bytes([30])
    assert cursor.peek() is None
    cursor.end()


@pytest.mark.parametrize(
    "read",
    [
        lambda c: c.u8("f"),
        lambda c: c.u16("f"),
        lambda c: c.u32("f"),
        lambda c: c.u64("f"),
        lambda c: c.u16_le("f"),
        lambda c: c.u32_le("f"),
        lambda c: c.u64_le("f"),
        lambda c: c.take(1, "f"),
        lambda c: c.take(-1, "f"),
        lambda c: c.sized16("f", 9),
        lambda c: c.reserved(1, "f"),
    ],
)
def test_short_input_refuses_naming_the_field(read: Callable[[Cursor], object]) -> None:
    with pytest.raises(Malformed, match=r"^some\.code: f needs") as refused:
        read(Cursor(b"", "some.code", 8))
    assert refused.value.code == "some.code"


def test_a_failed_read_consumes_nothing() -> None:
    cursor = Cursor(b"\x01", "x", 8)
    with pytest.raises(Malformed):
        cursor.u16("f")
    assert cursor.u8("f") == 1


def test_leftovers_refuse() -> None:
    with pytest.raises(Malformed, match="1 bytes are left over"):
        Cursor(b"\x00", "x", 8).end()


def test_oversize_refuses_at_once() -> None:
    Cursor(bytes(8), "x", 8)
    with pytest.raises(Malformed, match="at most 8"):
        Cursor(bytes(9), "x", 8)


def test_reserved_bytes_must_be_zero() -> None:
    Cursor(bytes(4), "x", 8).reserved(4, "f")
    with pytest.raises(Malformed, match="reserved"):
        Cursor(b"\x00\x00\x00\x01", "x", 8).reserved(4, "f")


def test_sized_fields_have_a_limit() -> None:
    assert Cursor(b"\x00\x02ab", "x", 8).sized16("f", 2) == b"ab"
    with pytest.raises(Malformed, match="at most 1"):
        Cursor(b"\x00\x02ab", "x", 8).sized16("f", 1)


def test_other_types_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError):
        Cursor("text", "x", 8)  # type: ignore[arg-type]


@given(st.binary(max_size=40), st.lists(st.integers(-2, 12), max_size=8))
def test_what_is_taken_is_the_input_in_order(data: bytes, sizes: list[int]) -> None:
    cursor, taken = Cursor(data, "x", 40), b""
    for size in sizes:
        try:
            taken += cursor.take(size, "f")
        except Malformed:
            assert size < 0 or size > len(data) - len(taken)
    assert data.startswith(taken)
    assert cursor.remaining == len(data) - len(taken)
