"""Quotes are read to the last byte, and only what is known is read."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.refusals import code_of
from fakes.tdx_changes import V4, V5, V15, genuine
from rlu_attestation.errors import Malformed
from rlu_attestation.evidence import tdx
from rlu_attestation.evidence.tdx import BodyType, parse_quote, trim
from rlu_attestation.evidence.tdx.quote import MAX_QUOTE, pem_chain


@functools.cache
def sample(version: int = 4) -> bytes:
    return genuine(V4 if version == 4 else V15).quote.data


def test_what_is_read_is_what_was_written() -> None:
    for platform, body in ((V4, BodyType.TD10), (V5, BodyType.TD10), (V15, BodyType.TD15)):
        parts = genuine(platform).quote
        quote = parse_quote(parts.data)
        assert (quote.raw, quote.version, quote.body_type) == (parts.data, platform.version, body)
        assert quote.signed == parts.signed
        assert (quote.signature, quote.attestation_key) == (parts.signature, parts.attestation_key)
        assert (quote.qe_report.raw, quote.qe_report_signature) == (
            parts.qe_report,
            parts.qe_report_signature,
        )
        assert quote.qe_authentication_data == parts.auth
        assert quote.user_data == b"\x0b" * 16 + bytes(4)
        assert tdx.is_quote(parts.data)


def test_the_size_is_bounded() -> None:
    assert code_of(lambda: parse_quote(bytes(MAX_QUOTE + 1))) == "tdx.quote.encoding"
    buffer = sample() + bytes(MAX_QUOTE)
    assert trim(buffer) == buffer


@pytest.mark.parametrize("version", [4, 5])
def test_trim_takes_zeros_away_and_nothing_else(version: int) -> None:
    quote = sample(version)
    assert trim(quote) == quote
    assert trim(quote + bytes(3000)) == quote
    assert trim(quote + b"\0\1") == quote + b"\0\1"
    assert trim(quote[:-1]) == quote[:-1]
    assert trim(b"") == b""


@pytest.mark.parametrize("size", [0, 1, 47, 48, 54, 600, 632, 636, 700, 1000])
def test_any_shorter_refuses(size: int) -> None:
    for version in (4, 5):
        assert code_of(lambda version=version: parse_quote(sample(version)[:size])) == "tdx.quote.encoding"  # type: ignore[misc]


def test_other_files_are_no_quotes() -> None:
    for data in (b"", b"{}", bytes(48), b"\4\0\2\0\0\0\0\0" + bytes(40)):
        assert not tdx.is_quote(data)


def test_a_chain_may_end_as_pem_does() -> None:
    found = genuine().quote.chain.rstrip(b"\0")
    for text in (found, found + b"\0", found.rstrip(b"\n"), found.replace(b"\n", b"\r\n")):
        assert len(pem_chain(text, 3, "tdx.quote.chain")) == 3
    for text in (found + b"\0\0", b"\n" + found, found + b"x", found.replace(b"-----\n-", b"----- -")):
        with pytest.raises(Malformed):
            pem_chain(text, 3, "tdx.quote.chain")


def test_a_chain_has_one_form() -> None:
    """Nobody signed the PEM: what can be changed in it and mean the same would be evidence that somebody else made."""
    found = genuine().quote.chain
    lines = found.splitlines(keepends=True)
    last = next(number for number, line in enumerate(lines) if line.endswith(b"=\n"))
    spare = lines[last].rstrip(b"=\n")
    other = spare[:-1] + bytes([spare[-1] + 1]) + lines[last][len(spare) :]
    for text in (
        found.replace(lines[1], lines[1][:20] + b"\n" + lines[1][20:]),
        found.replace(lines[1], lines[1].strip()),
        found.replace(lines[1], lines[1] + b"\n"),
        found.replace(lines[1], lines[1][:-1] + b"\r"),
        found.replace(lines[last], other),
        found.replace(b"-----END CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n\n", 1),
    ):
        assert text != found
        with pytest.raises(Malformed) as raised:
            pem_chain(text, 3, "tdx.quote.chain")
        assert raised.value.code == "tdx.quote.chain"


@given(st.binary(max_size=1500))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    code_of(lambda: parse_quote(data))
    code_of(lambda: parse_quote(sample()[:12] + data))
    assert data.startswith(trim(data))


@settings(max_examples=150)
@given(st.sampled_from([4, 5]), st.data())
def test_a_damaged_quote_raises_only_our_error(version: int, data: st.DataObject) -> None:
    quote = bytearray(sample(version))
    position = data.draw(st.integers(0, len(quote) - 1))
    quote[position] ^= data.draw(st.integers(1, 255))
    code_of(lambda: parse_quote(bytes(quote)))
    code_of(lambda: parse_quote(trim(bytes(quote))))
