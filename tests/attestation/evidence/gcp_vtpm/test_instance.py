"""Google's instance identity: every field read, in every form that may be left out; anything else refuses."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.google import identity
from fakes.refusals import code_of
from rlu_attestation.evidence import gcp_vtpm

ZONES = {
    "us-central1-a": "us-central1",
    "northamerica-northeast2-c": "northamerica-northeast2",
    "us-south1-ai1b": "us-south1",
    "me-central2-b": "me-central2",
}


@pytest.mark.parametrize("zone", ZONES)
def test_region_of_the_zone(zone: str) -> None:
    assert gcp_vtpm.parse_instance(identity(zone=zone)).region == ZONES[zone]


@pytest.mark.parametrize("number", range(6))
def test_properties_may_be_left_out_one_by_one(number: int) -> None:
    values: list[int | bool | None] = [7, True, True, True, True, True]
    values[number] = None
    found = gcp_vtpm.parse_instance(identity(properties=tuple(values)))
    expected = [False if value is None else value for value in values]
    assert [
        found.security_version,
        found.is_production,
        found.tpm_data_always_encrypted,
        found.suspend_resume_disabled,
        found.vmtd_disabled,
        found.always_in_vmtd,
    ] == expected


@pytest.mark.parametrize("size", [1, 128])
def test_limits_of_texts_are_inside(size: int) -> None:
    assert gcp_vtpm.parse_instance(identity(instance_name="x" * size)).instance_name == "x" * size


def test_numbers_of_64_bits() -> None:
    found = gcp_vtpm.parse_instance(identity(instance_id=2**64 - 1, project_number=0))
    assert (found.instance_id, found.project_number) == (2**64 - 1, 0)


@given(st.binary(max_size=150))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    assert code_of(functools.partial(gcp_vtpm.parse_instance, data)) == "gcp-vtpm.certificate.extension"


@given(st.data())
def test_a_changed_byte_is_refused_or_another_instance(data: st.DataObject) -> None:
    good = identity()
    damaged = bytearray(good)
    position = data.draw(st.integers(0, len(good) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    read = functools.partial(gcp_vtpm.parse_instance, bytes(damaged))
    assert code_of(read) in (None, "gcp-vtpm.certificate.extension")
    if code_of(read) is None:
        assert read() != gcp_vtpm.parse_instance(good)
