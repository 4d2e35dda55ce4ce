"""JSON that Intel signs has one reading."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import intel
from fakes.refusals import code_of
from rlu_attestation.errors import Malformed, Unsupported
from rlu_attestation.evidence.tdx import parse_qe_identity, parse_tcb_info
from rlu_attestation.evidence.tdx.signed_json import MAX_TEXT, Fields, decode, read

CODE = "test.encoding"


def fields(**members: object) -> Fields:
    return Fields(members, CODE, "a text")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"a":1,"a":1}',
        '{"a":{"b":1,"b":2}}',
        '{"a":1.0}',
        '{"a":1e2}',
        '{"a":NaN}',
        '{"a":-Infinity}',
        '{"a":12345678901}',
        "[" * 100_000,
        "{} {}",
        '{"a":1,}',
        " " * MAX_TEXT + "{}",
    ],
)
def test_not_accepted(text: str) -> None:
    assert code_of(lambda: decode(text, CODE)) == CODE


def test_accepted() -> None:
    assert decode('{"a":[1,{"b":"c"}],"d":-123456789}', CODE) == {"a": [1, {"b": "c"}], "d": -123456789}
    assert code_of(lambda: read("[]", CODE, "a text")) == CODE


@pytest.mark.parametrize("value", [True, -1, 6, "5", None, [5]])
def test_numbers(value: object) -> None:
    assert fields(n=5).number("n", 5) == 5
    with pytest.raises(Malformed):
        fields(n=value).number("n", 5)


@pytest.mark.parametrize("value", ["", "0", "000", "0g", "٠٠", 0, None, " 00"])
def test_hexadecimal(value: object) -> None:
    assert fields(n="aB").hexadecimal("n", 1) == b"\xab"
    with pytest.raises(Malformed):
        fields(n=value).hexadecimal("n", 1)


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-01",
        "2026-13-01T00:00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00Z\n",
        5,
        "٢026-01-01T00:00:00Z",
    ],
)
def test_times(value: object) -> None:
    assert fields(n="2026-01-31T23:59:59Z").time("n").isoformat() == "2026-01-31T23:59:59+00:00"
    with pytest.raises(Malformed):
        fields(n=value).time("n")


@pytest.mark.parametrize("value", ["", "x" * 129, "é", "a\n", 5, None])
def test_texts(value: object) -> None:
    assert fields(n="x" * 128).text("n") == "x" * 128
    assert fields(n=["a", "b"]).texts("n", 2) == ("a", "b")
    assert fields().texts("n", 2) == ()
    with pytest.raises(Malformed):
        fields(n=value).text("n")
    with pytest.raises(Malformed):
        fields(n=[value]).texts("n", 2)
    with pytest.raises(Malformed):
        fields(n=value).skip("n")


def test_arrays_are_bounded() -> None:
    with pytest.raises(Malformed):
        fields(n=["a"] * 3).texts("n", 2)
    with pytest.raises(Malformed):
        fields(n=[{}] * 3).objects("n", 2)
    with pytest.raises(Malformed):
        fields(n={}).objects("n", 2)
    with pytest.raises(Malformed):
        fields(n=[5]).objects("n", 2)


def test_everything_is_read_once() -> None:
    found = fields(a=1, b=2)
    found.number("a", 1)
    with pytest.raises(Unsupported) as refused:
        found.end()
    assert refused.value.code == "test.encoding.member"
    with pytest.raises(Malformed):
        found.number("a", 1)
    found.number("b", 2)
    found.end()
    assert "b" not in found


@given(st.text(max_size=200))
def test_arbitrary_text_raises_only_our_error(text: str) -> None:
    for parse in (parse_tcb_info, parse_qe_identity):
        assert code_of(lambda parse=parse: parse(text)) is not None  # type: ignore[misc]


@given(st.data())
def test_damaged_texts_raise_only_our_error(data: st.DataObject) -> None:
    for value, parse in ((intel.tcb_info(), parse_tcb_info), (intel.qe_identity(), parse_qe_identity)):
        text = intel.text_of(value)
        position = data.draw(st.integers(0, len(text) - 1))
        damaged = text[:position] + data.draw(st.sampled_from('Aé"{}[]:,7-')) + text[position + 1 :]
        code_of(lambda parse=parse, damaged=damaged: parse(damaged))  # type: ignore[misc]
