"""Documents: parsing never raises anything but our error, and what is signed is what came."""

from __future__ import annotations

import functools
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.aws import CREATED, PROTECTED, Module
from fakes.nitro_perturbations import ROOT
from rlu_attestation.errors import RluError
from rlu_attestation.evidence.nitro import Kind, parse_document


@pytest.mark.parametrize("kind", list(Kind))
def test_fields(kind: Kind) -> None:
    module = Module(kind.value)
    fields = module.fields(ROOT) | {"nonce": b"n", "public_key": b"k"}
    found = parse_document(module.document(fields))
    assert parse_document(found.raw, kind) == found
    assert (found.kind, found.module_id, found.digest) == (kind, module.module_id, "SHA384")
    assert (found.public_key, found.user_data, found.nonce) == (b"k", ROOT, b"n")
    assert dict(found.pcrs) == module.pcrs()
    assert found.certificate.raw == fields["certificate"]
    assert [authority.raw for authority in found.cabundle] == fields["cabundle"]
    assert found.created.replace(microsecond=0) == CREATED
    assert found.created.microsecond == 387_000


def test_pcrs_are_in_order_and_cannot_be_changed() -> None:
    module = Module()
    found = parse_document(
        module.document(module.fields() | {"pcrs": {3: bytes(48), 1: bytes(48), 31: bytes(48)}})
    )
    assert list(found.pcrs) == [1, 3, 31]
    with pytest.raises(TypeError):
        found.pcrs[0] = b""  # type: ignore[index]


@pytest.mark.parametrize("size", [0, 23, 24, 255, 256, 1024])
def test_what_is_signed(size: int) -> None:
    module = Module("nitrotpm")
    payload = cbor2.dumps(module.fields(bytes(size)))
    found = parse_document(cbor2.dumps([PROTECTED, {}, payload, bytes(96)]))
    assert found.signed == cbor2.dumps(["Signature1", PROTECTED, b"", payload])
    assert found.payload == payload


def test_short_payloads_are_framed_too() -> None:
    for size in (0, 23, 24, 255, 256, 16384):
        framed = replace(parse_document(Module().document(Module().fields())), payload=bytes(size))
        assert framed.signed == cbor2.dumps(["Signature1", PROTECTED, b"", bytes(size)])


@given(st.binary(max_size=100))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    for kind in (None, *Kind):
        with pytest.raises(RluError):
            parse_document(data, kind)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_arbitrary_payloads_raise_only_our_error(payload: bytes) -> None:
    with pytest.raises(RluError):
        parse_document(cbor2.dumps([PROTECTED, {}, payload, bytes(96)]))


@functools.cache
def sample() -> bytes:
    """Made once: signatures differ in length, and a property test needs the same bytes every time."""
    return cbor2.dumps(Module().fields(ROOT))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_document_raises_only_our_error(data: st.DataObject) -> None:
    changed = bytearray(sample())
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = parse_document(cbor2.dumps([PROTECTED, {}, bytes(changed), bytes(96)]))
    except RluError:
        return
    assert found.payload == bytes(changed)
