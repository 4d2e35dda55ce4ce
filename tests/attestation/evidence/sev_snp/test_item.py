"""The evidence item: written as it is read."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.sev_snp_perturbations import genuine
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import kind_of, sev_snp
from rlu_attestation.evidence.binding import BindingPath


def encoded(**changes: bytes | None) -> bytes:
    parts = genuine()
    values = {
        "report": parts.report,
        "vek": parts.vek,
        "ask": parts.ask,
        "ark": parts.ark,
        "crl_der": parts.crl,
    }
    return sev_snp.encode(binding=BindingPath(0, (), 1), **values | changes)  # type: ignore[arg-type]


def test_encode_writes_what_others_write() -> None:
    assert kind_of(encoded()) == sev_snp.KIND
    evidence = sev_snp.parse(encoded())
    assert evidence.crl is not None
    assert evidence.binding == BindingPath(0, (), 1)
    assert sev_snp.parse(encoded(crl_der=None)).crl is None
    parts = genuine()
    parts.report = evidence.report.raw
    parts.vek, parts.ask, parts.ark, parts.crl = (
        evidence.vek.raw,
        evidence.ask.raw,
        evidence.ark.raw,
        evidence.crl.raw,
    )
    assert sev_snp.parse(parts.item()) == evidence


def test_encode_refuses_what_parse_would() -> None:
    for changes in ({"report": b""}, {"vek": b""}, {"crl_der": b"\x30\x00"}):
        with pytest.raises(RluError):
            encoded(**changes)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(RluError):
        sev_snp.parse(data)


@functools.cache
def sample() -> bytes:
    return genuine().item()


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_damaged_item_raises_only_our_error(data: st.DataObject) -> None:
    item = bytearray(sample())
    position = data.draw(st.integers(0, len(item) - 1))
    item[position] = data.draw(st.sampled_from(b'A_-"{}[]:,7z'))
    try:
        evidence = sev_snp.parse(bytes(item))
    except RluError:
        return
    for step in (sev_snp.verify_vek, sev_snp.verify_signature, sev_snp.describe):
        try:
            step(evidence)
        except RluError:
            continue
