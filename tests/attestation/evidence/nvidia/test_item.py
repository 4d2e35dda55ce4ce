"""The evidence item: written as it is read, and larger than others may be."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.nvidia_changes import genuine
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.evidence import MAX_ITEM, kind_of, max_item, nvidia
from rlu_attestation.evidence.binding import SINGLE


def encoded(**changes: list[bytes]) -> bytes:
    parts = genuine()
    values = {"rims": parts.rims, "ocsp_der": parts.ocsp} | changes
    return nvidia.encode(
        gpus=[nvidia.DeviceParts(device.report, tuple(device.chain)) for device in parts.gpus],
        switches=[nvidia.DeviceParts(device.report, tuple(device.chain)) for device in parts.switches],
        binding=SINGLE,
        **values,
    )


def test_encode_writes_what_others_write() -> None:
    assert encoded() == genuine().item()
    assert kind_of(encoded()) == nvidia.KIND == "nvidia"
    assert nvidia.parse(encoded()).binding == SINGLE
    assert nvidia.parse(encoded(rims=[], ocsp_der=[])).rims == ()


def test_encode_refuses_what_parse_would() -> None:
    for changes in ({"rims": [b""]}, {"ocsp_der": [b"\x30\x00"]}):
        with pytest.raises(RluError):
            encoded(**changes)


def test_an_item_may_be_larger_than_others() -> None:
    limit = max_item(nvidia.KIND)
    assert limit == 8 * 1024 * 1024 > max_item("tpm2") == 2 * 1024 * 1024 > MAX_ITEM == max_item("unheard of")
    padding = b"x" * MAX_ITEM
    assert kind_of(b'{"a":"' + padding + b'","kind":"nvidia"}') == "nvidia"
    with pytest.raises(Malformed):
        kind_of(b'{"a":"' + padding + b'","kind":"sev-snp"}')
    with pytest.raises(Malformed, match="longer"):
        nvidia.parse(b'{"a":"' + b"x" * limit + b'","kind":"nvidia"}')


def test_lxml_is_imported_with_the_first_rim_only() -> None:
    code = "import sys\nfrom rlu_attestation.evidence import nvidia\nassert 'lxml' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(RluError):
        nvidia.parse(data)


@functools.cache
def sample() -> bytes:
    return genuine().item()


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_a_damaged_item_raises_only_our_error(data: st.DataObject) -> None:
    item = bytearray(sample())
    position = data.draw(st.integers(0, len(item) - 1))
    item[position] = data.draw(st.sampled_from(b'A_-"{}[]:,7z'))
    try:
        evidence = nvidia.parse(bytes(item))
    except RluError:
        return
    for step in (
        nvidia.verify_devices,
        nvidia.verify_identity,
        nvidia.verify_fwid,
        nvidia.verify_signature,
        nvidia.verify_topology,
        nvidia.describe,
    ):
        try:
            step(evidence)
        except RluError:
            continue
