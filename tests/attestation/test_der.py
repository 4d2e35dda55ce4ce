"""The DER reader accepts the one encoding of a value and refuses every other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation import der
from rlu_attestation.errors import Malformed


def reader(text: str) -> der.Reader:
    return der.Reader(bytes.fromhex(text), "x", 1024)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("020100", 0),
        ("02017f", 127),
        ("02020080", 128),
        ("020180", -128),
        ("0202ff7f", -129),
        ("0203010000", 65536),
    ],
)
def test_integers(text: str, value: int) -> None:
    assert reader(text).integer("f") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0603550406", "2.5.4.6"),
        ("06092a864886f70d01010b", "1.2.840.113549.1.1.11"),
        ("060488370301", "2.999.3.1"),
        ("06022a03", "1.2.3"),
        ("060100", "0.0"),
        ("060127", "0.39"),
        ("060128", "1.0"),
        ("060150", "2.0"),
    ],
)
def test_object_identifiers(text: str, value: str) -> None:
    assert reader(text).oid("f") == value


@given(st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, 1 << 130), max_size=5))
def test_object_identifiers_have_one_encoding(first: int, second: int, rest: list[int]) -> None:
    content = b"".join(base128(arc) for arc in (40 * first + second, *rest))
    encoded = bytes([der.OID, len(content)]) + content
    dotted = ".".join(map(str, (first, second, *rest)))
    assert der.Reader(encoded, "x", 1024).oid("f") == dotted


def base128(value: int) -> bytes:
    out = bytes([value & 0x7F])
    while value := value >> 7:
        out = bytes([value & 0x7F | 0x80]) + out
    return out


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("170d3439313233313233353935395a", datetime(2049, 12, 31, 23, 59, 59, tzinfo=timezone.utc)),
        ("170d3530303130313030303030305a", datetime(1950, 1, 1, tzinfo=timezone.utc)),
        ("180f39393939313233313233353935395a", datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)),
    ],
)
def test_times(text: str, value: datetime) -> None:
    assert reader(text).time("f") == value


def test_structures_and_what_follows_them() -> None:
    outer = reader("3006020101040162" + "0500")
    inner = outer.inside(der.SEQUENCE, "f")
    assert inner.next_is(der.INTEGER)
    assert inner.integer("f") == 1
    assert not inner.next_is(der.INTEGER)
    assert inner.element(der.OCTET_STRING, "f").content == b"b"
    assert not inner.next_is(der.INTEGER)
    inner.end()
    assert outer.any("f").raw == b"\x05\x00"
    outer.end()


def test_long_lengths() -> None:
    assert der.Reader(b"\x04\x81\x80" + bytes(128), "x", 1024).element(
        der.OCTET_STRING, "f"
    ).content == bytes(128)
    assert len(der.Reader(b"\x04\x82\x01\x00" + bytes(256), "x", 1024).any("f").content) == 256


def test_booleans_and_bit_strings() -> None:
    assert reader("0101ff").boolean("f") is True
    assert reader("010100").boolean("f") is False
    assert reader("030205a0").bit_string("f") == (b"\xa0", 5)
    assert reader("030100").bit_string("f") == (b"", 0)


REFUSED: dict[str, tuple[str, Callable[[der.Reader], object]]] = {
    "nothing": ("", lambda r: r.any("f")),
    "tag-only": ("02", lambda r: r.any("f")),
    "cut-content": ("020201", lambda r: r.any("f")),
    "indefinite-length": ("3080020101" + "0000", lambda r: r.any("f")),
    "length-not-minimal": ("02810101", lambda r: r.any("f")),
    "length-with-leading-zero": ("0282000101", lambda r: r.any("f")),
    "length-of-five-bytes": ("02850000000001" + "01", lambda r: r.any("f")),
    "length-beyond-input": ("0284ffffffff", lambda r: r.any("f")),
    "multi-byte-tag": ("1f8101020101", lambda r: r.any("f")),
    "other-tag": ("040101", lambda r: r.integer("f")),
    "empty-integer": ("0200", lambda r: r.integer("f")),
    "integer-leading-zero": ("02020001", lambda r: r.integer("f")),
    "integer-leading-ones": ("0202ff80", lambda r: r.integer("f")),
    "empty-oid": ("0600", lambda r: r.oid("f")),
    "oid-cut": ("06022a86", lambda r: r.oid("f")),
    "oid-leading-zeros": ("06032a8001", lambda r: r.oid("f")),
    "boolean-one": ("010101", lambda r: r.boolean("f")),
    "boolean-long": ("0102ffff", lambda r: r.boolean("f")),
    "bit-string-empty": ("0300", lambda r: r.bit_string("f")),
    "bit-string-unused-8": ("030208a0", lambda r: r.bit_string("f")),
    "bit-string-unused-of-nothing": ("030101", lambda r: r.bit_string("f")),
    "bit-string-unused-bits-set": ("030205a1", lambda r: r.bit_string("f")),
    "time-without-seconds": ("170b343931323331323335395a", lambda r: r.time("f")),
    "time-with-offset": ("17113439313233313233353935392b30313030", lambda r: r.time("f")),
    "time-with-fraction": ("181139393939313233313233353935392e315a", lambda r: r.time("f")),
    "time-month-13": ("170d3439313333313233353935395a", lambda r: r.time("f")),
    "time-year-zero": ("180f30303030303130313030303030305a", lambda r: r.time("f")),
    "time-other-digits": ("170d2031313233313233353935395a", lambda r: r.time("f")),
    "time-as-integer": ("020101", lambda r: r.time("f")),
    "leftovers": ("0500", lambda r: r.end()),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    text, read = REFUSED[name]
    with pytest.raises(Malformed) as refused:
        read(reader(text))
    assert refused.value.code == "x"


@given(st.integers(-(1 << 80), 1 << 80))
def test_integers_have_one_encoding(value: int) -> None:
    magnitude = value if value >= 0 else ~value
    minimal = value.to_bytes(magnitude.bit_length() // 8 + 1, "big", signed=True)
    assert der.Reader(bytes([2, len(minimal)]) + minimal, "x", 64).integer("f") == value
    padded = (b"\xff" if value < 0 else b"\x00") + minimal
    with pytest.raises(Malformed):
        der.Reader(bytes([2, len(padded)]) + padded, "x", 64).integer("f")
