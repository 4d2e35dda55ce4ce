"""The evidence item: written as it is read, and described."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import google
from fakes.gcp_vtpm_perturbations import PERTURBATIONS, scene
from fakes.google import Parts
from fakes.tpm_perturbations import nothing
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import gcp_vtpm, kind_of
from rlu_attestation.evidence.binding import BindingPath


def encoded(parts: Parts) -> bytes:
    return gcp_vtpm.encode(
        ak_certificate=parts.ak_certificate,
        ak_chain=parts.ak_chain,
        root_certificate=parts.root_certificate,
        crls=parts.crls,
        ak_public=parts.ak_public,
        key_public=parts.key_public,
        certify=parts.certify,
        quote=parts.quote,
        pcrs=parts.pcrs,
        binding=BindingPath(parts.leaf_index, parts.path, parts.tree_size),
        event_log=parts.event_log,
        ima_log=parts.ima_log,
    )


def test_encode_writes_what_others_write() -> None:
    plain = scene().parts
    measured = scene().with_ima(nothing)
    for parts in (plain, measured):
        assert isinstance(parts, Parts)
        assert encoded(parts) == parts.encode()
        assert kind_of(parts.encode()) == gcp_vtpm.KIND
    bare = gcp_vtpm.encode(
        **{name: getattr(plain, name) for name in ("ak_certificate", "ak_chain", "root_certificate")},
        **{name: getattr(plain, name) for name in ("ak_public", "key_public", "certify", "quote", "pcrs")},
        binding=BindingPath(plain.leaf_index, plain.path, plain.tree_size),
    )
    evidence = gcp_vtpm.parse(bare)
    assert (evidence.crls, evidence.event_log, evidence.ima_log) == ((), None, None)


def test_limits_of_arrays_are_inside() -> None:
    parts = scene().parts
    full = replace(parts, ak_chain=parts.ak_chain * 4, crls=parts.crls * 4)
    evidence = gcp_vtpm.parse(full.encode())
    assert (len(evidence.ak_chain), len(evidence.crls)) == (4, 4)


def test_encode_refuses_what_parse_would() -> None:
    parts = scene().parts
    for changes in ({"ak_certificate": b""}, {"ak_public": b""}, {"crls": (b"",)}):
        with pytest.raises(RluError):
            encoded(Parts(**{**{n: getattr(parts, n) for n in parts.__dataclass_fields__}, **changes}))


def test_description() -> None:
    measured = scene().with_ima(nothing)
    rows = gcp_vtpm.describe(gcp_vtpm.parse(measured.encode()))
    named = {name: (value, meaning) for name, value, meaning in rows}
    assert named["zone"] == ("europe-west4-b", "where the instance runs: region europe-west4")
    assert named["isProduction"][0] == "1"
    assert named["instanceId"][0] == "5780123456789012345"
    assert named["root_certificate"][0] == google.root_fingerprint()
    assert named["ak_public.type"][0] == "RSA, 2048 bits"
    assert named["quote.sigAlg"][0] == "RSASSA"
    assert named["ima_log./sbin/init"][0].startswith("sha256:")
    assert named["ima_log./var/log/messages"][0] == "violation"
    assert "pcrs.sha256:10" in named


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_whatever_parses_is_described(name: str) -> None:
    try:
        evidence = gcp_vtpm.parse(PERTURBATIONS[name][0](scene()).encode())
    except RluError:
        return
    assert all(isinstance(cell, str) for row in gcp_vtpm.describe(evidence) for cell in row)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(RluError):
        gcp_vtpm.parse(data)


@functools.cache
def sample() -> bytes:
    return scene().with_ima(nothing).encode()


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_item_raises_only_our_error(data: st.DataObject) -> None:
    item = bytearray(sample())
    position = data.draw(st.integers(0, len(item) - 1))
    item[position] = data.draw(st.sampled_from(b'A_-"{}[]:,7z'))
    try:
        evidence = gcp_vtpm.parse(bytes(item))
    except RluError:
        return
    gcp_vtpm.describe(evidence)
