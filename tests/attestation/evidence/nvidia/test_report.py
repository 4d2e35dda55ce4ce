"""Reports: arbitrary bytes refuse, and what is read is what the device wrote."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.nvidia import Device
from fakes.nvidia_changes import GPU, NONCE, SWITCH
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import nvidia
from rlu_attestation.evidence.nvidia import DeviceKind
from rlu_attestation.evidence.nvidia.opaque import parse_opaque

KINDS = st.sampled_from(DeviceKind)


@given(st.binary(max_size=300), KINDS)
def test_arbitrary_bytes_raise_only_our_error(data: bytes, kind: DeviceKind) -> None:
    with pytest.raises(RluError):
        nvidia.parse_report(data, kind)


@given(st.lists(st.tuples(st.integers(0, 40), st.binary(max_size=20)), max_size=12), KINDS)
def test_arbitrary_fields_raise_only_our_error(fields: list[tuple[int, bytes]], kind: DeviceKind) -> None:
    data = b"".join(
        number.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value for number, value in fields
    )
    try:
        found = parse_opaque(data, kind)
    except RluError:
        return
    assert list(found.fields) == fields


@functools.cache
def sample() -> bytes:
    return GPU.report(NONCE)


@settings(max_examples=200)
@given(st.integers(0, 4000), st.integers(1, 255))
def test_a_damaged_report_raises_only_our_error(position: int, change: int) -> None:
    data = bytearray(sample())
    data[position % len(data)] ^= change
    try:
        report = nvidia.parse_report(bytes(data), DeviceKind.GPU)
    except RluError:
        return
    assert report.raw == bytes(data)
    assert nvidia.describe_report(report)


def test_fields() -> None:
    report = nvidia.parse_report(sample(), DeviceKind.GPU)
    opaque = report.opaque
    assert report.nonce == NONCE
    assert [found.value for found in report.measurements] == GPU.measurements()
    assert [found.index for found in report.measurements] == list(range(1, 65))
    assert (opaque.driver, opaque.vbios, opaque.board_id) == (GPU.driver, GPU.vbios, 1079)
    assert opaque.switches == {SWITCH.pdi}
    assert (200, b"from the future") in opaque.fields
    assert report.signed + report.signature == sample()


def test_empty_text_counts_as_not_given() -> None:
    report = nvidia.parse_report(Device().report(NONCE, opaque={17: bytes(5), 18: None}), DeviceKind.GPU)
    assert (report.opaque.project, report.opaque.project_sku) == (None, None)


def test_unused_gpus_of_a_switch_are_no_gpus() -> None:
    ports = b"\x00".ljust(64, b"\xff")
    pdis = (b"a" * 8 + b"b" * 8).ljust(64, b"\0")
    report = nvidia.parse_report(SWITCH.report(NONCE, opaque={26: pdis + ports}), DeviceKind.SWITCH)
    assert report.opaque.gpus == {b"a" * 8}
