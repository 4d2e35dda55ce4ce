"""The strict CBOR reader: what it reads is what `cbor2` reads, and everything else refuses."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.evidence.nitro import cbor

KEYS = st.integers(-(2**64), 2**64 - 1) | st.text(max_size=8)
VALUES = st.recursive(
    st.none() | KEYS | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def read(data: bytes, **options: bool) -> Any:
    return cbor.decode(data, "test.code", 1 << 20, **options)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=1)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 1


@given(VALUES)
def test_reads_what_others_write(value: Any) -> None:
    if depth(value) <= 8:
        assert read(cbor2.dumps(value)) == value
    else:
        with pytest.raises(Malformed):
            read(cbor2.dumps(value))


@pytest.mark.parametrize(
    "value", [0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1, -1, -24, -25, -(2**64)]
)
def test_integers(value: int) -> None:
    assert read(cbor2.dumps(value)) == value


@pytest.mark.parametrize("size", [0, 23, 24, 255, 256, 65535, 65536])
def test_lengths(size: int) -> None:
    assert read(cbor2.dumps(bytes(size))) == bytes(size)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "1817",  # 23 in two bytes
        "1900ff",
        "1a0000ffff",
        "1b00000000ffffffff",
        "3817",
        "5817" + "00" * 23,
        "9817" + "00" * 23,
        "1c",
        "1d",
        "1e",
        "1f",
        "3f",
        "5f4100ff",
        "7f6161ff",
        "9f00ff",
        "bf0000ff",
        "ff",
        "00ff",
        "0000",
        "c000",
        "d9d9f700",
        "f4",
        "f5",
        "f7",
        "f816",
        "f818",
        "e0",
        "f90000",
        "fa00000000",
        "fb0000000000000000",
        "42ff",
        "61ff",
        "62c328",
        "8100" * 2,
        "81",
        "a1",
        "a100",
        "a14100f6",
        "a1f600",
        "a18000",
        "a2000000",
        "a200000001",
        "a261610061610000"[:-2],
        "9bffffffffffffffff00",
        "bbffffffffffffffff",
        "5bffffffffffffffff00",
        "7bffffffffffffffff61",
        "81" * 8 + "00",
    ],
)
def test_everything_else_refuses(data: str) -> None:
    with pytest.raises(Malformed) as refused:
        read(bytes.fromhex(data))
    assert refused.value.code == "test.code"


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("9fff", []),
        ("9f0001ff", [0, 1]),
        ("bfff", {}),
        ("bf00016161bf0000ffff", {0: 1, "a": {0: 0}}),
        ("9f9fffff", [[]]),
    ],
)
def test_indefinite_length_where_it_is_allowed(data: str, value: Any) -> None:
    assert read(bytes.fromhex(data), indefinite=True) == value
    with pytest.raises(Malformed):
        read(bytes.fromhex(data))


@pytest.mark.parametrize(
    "data",
    [
        "9f",
        "9f00",
        "bf00ff",
        "bf",
        "bf0000",
        "5f4100ff",
        "7f6161ff",
        "1fff",
        "3fff",
        "dfff",
        "ff",
        "9fffff",
        "bf00000000ff",
    ],
)
def test_indefinite_length_gone_wrong(data: str) -> None:
    with pytest.raises(Malformed):
        read(bytes.fromhex(data), indefinite=True)


def test_limits() -> None:
    assert cbor.decode(b"\x43abc", "c", 4) == b"abc"
    with pytest.raises(Malformed):
        cbor.decode(b"\x43abc", "c", 3)
    assert depth(read(bytes.fromhex("81" * 7 + "00"))) == 8


@given(st.binary(max_size=64), st.booleans())
def test_arbitrary_bytes_raise_only_our_error(data: bytes, indefinite: bool) -> None:
    try:
        value = read(data, indefinite=indefinite)
    except RluError:
        return
    assert cbor2.loads(data) == value


def test_a_bomb_of_nesting_is_cheap() -> None:
    with pytest.raises(Malformed):
        read(b"\x9f" * (1 << 20), indefinite=True)
