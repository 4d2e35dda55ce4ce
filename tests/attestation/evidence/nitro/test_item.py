"""The evidence item: written as it is read."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import aws
from fakes.aws import Module
from fakes.nitro_perturbations import ROOT, genuine
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.evidence import kind_of, nitro
from rlu_attestation.evidence.binding import BindingPath
from rlu_attestation.evidence.nitro import Kind


@pytest.mark.parametrize("kind", list(Kind))
def test_encode_writes_what_others_write(kind: Kind) -> None:
    parts = genuine(Module(kind.value))
    binding = BindingPath(0, (), 1)
    item = nitro.encode(kind, document=parts.document, binding=binding, crls=parts.crls or ())
    assert item == parts.item()
    assert kind_of(item) == kind.value
    assert len(nitro.parse(item).crls) == 2
    parts.crls = None
    assert nitro.encode(kind, document=parts.document, binding=binding) == parts.item()
    assert nitro.parse(parts.item()).crls == ()


def test_encode_refuses_what_parse_would() -> None:
    document, binding = genuine(Module()).document, BindingPath(0, (), 1)
    with pytest.raises(RluError):
        nitro.encode(Kind.NITROTPM, document=document, binding=binding)
    with pytest.raises(RluError):
        nitro.encode(Kind.NITRO, document=document, binding=binding, crls=[b"\x30\x00"])


def test_another_kind_refuses() -> None:
    parts = genuine(Module())
    parts.further = {"kind": "tpm2"}
    with pytest.raises(Malformed) as refused:
        nitro.parse(parts.item())
    assert refused.value.code == "nitro.item"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(RluError):
        nitro.parse(data)


@functools.cache
def sample() -> bytes:
    """Made once: signatures differ in length, and a property test needs the same bytes every time."""
    return aws.parts(Module(), ROOT).item()


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_damaged_item_raises_only_our_error(data: st.DataObject) -> None:
    item = bytearray(sample())
    position = data.draw(st.integers(0, len(item) - 1))
    item[position] = data.draw(st.sampled_from(b'A_-"{}[]:,7z'))
    try:
        evidence = nitro.parse(bytes(item))
    except RluError:
        return
    for step in (nitro.verify_certificate, nitro.verify_signature):
        try:
            step(evidence)
        except RluError:
            continue
    nitro.describe(evidence.document)
