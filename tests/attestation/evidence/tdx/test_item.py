"""The evidence item: written as it is read."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.pki import AT
from fakes.refusals import code_of
from fakes.tdx_changes import genuine
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import kind_of, tdx
from rlu_attestation.evidence.binding import SINGLE


def encoded(**changes: Any) -> bytes:
    parts = genuine()
    values: dict[str, Any] = {
        "quote": parts.quote.data,
        "collateral": tdx.collateral_from_json(parts.pccs()),
        "binding": SINGLE,
    }
    return tdx.encode(**values | changes)


def test_encode_writes_what_others_write() -> None:
    assert encoded() == genuine().item()
    assert kind_of(encoded()) == tdx.KIND
    evidence = tdx.parse(encoded())
    assert evidence.binding == SINGLE
    assert evidence.collateral is not None
    assert evidence.event_log is None
    assert tdx.parse(encoded(collateral=None)).collateral is None
    assert tdx.parse(encoded(event_log=b"log")).event_log == b"log"


def test_encode_refuses_what_parse_would() -> None:
    for changes in ({"quote": b""}, {"quote": genuine().quote.data + b"\0"}):
        with pytest.raises(RluError):
            encoded(**changes)


def test_an_event_log_is_base64url() -> None:
    parts = genuine()
    parts.further = {"event_log": "AA=="}
    assert code_of(lambda: tdx.parse(parts.item())) == "encoding.base64url"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(RluError):
        tdx.parse(data)


@functools.cache
def sample() -> bytes:
    return genuine().item()


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_item_raises_only_our_error(data: st.DataObject) -> None:
    item = bytearray(sample())
    position = data.draw(st.integers(0, len(item) - 1))
    item[position] = data.draw(st.sampled_from(b'A_-"{}[]:,7z\\'))
    try:
        evidence = tdx.parse(bytes(item))
    except RluError:
        return
    tdx.describe(evidence)
    for step in (
        lambda: tdx.verify_pck(evidence),
        lambda: tdx.verify_qe_report(evidence),
        lambda: tdx.verify_attestation_key(evidence),
        lambda: tdx.verify_signature(evidence),
        lambda: tdx.verify_tcb_info(evidence, AT),
        lambda: tdx.verify_qe_identity(evidence, AT),
        lambda: tdx.verify_revocation(evidence, AT),
    ):
        code_of(step)
