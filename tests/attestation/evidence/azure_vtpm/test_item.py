"""The evidence item: written as it is read, and described."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.azure import NV_SIZE, Parts, compact
from fakes.azure_vtpm_perturbations import PERTURBATIONS, TDX, scene
from fakes.refusals import code_of
from fakes.tpm_perturbations import nothing
from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.evidence import azure_vtpm, kind_of
from rlu_attestation.evidence.azure_vtpm import Hardware, SevSnpHardware, TdxHardware
from rlu_attestation.evidence.binding import BindingPath


def hardware_of(parts: Parts) -> Hardware:
    found = {name: value for name, value in parts.hardware.items() if name != "kind"}
    if parts.hardware["kind"] == "tdx":
        return TdxHardware(unb64u(found["quote"]), found["collateral"])
    return SevSnpHardware(**{name: unb64u(value) for name, value in found.items()})


def encoded(parts: Parts, **changes: Any) -> bytes:
    values = {
        "hcl_report": parts.hcl.data,
        "hardware": hardware_of(parts),
        "binding": BindingPath(parts.leaf_index, parts.path, parts.tree_size),
        **{name: getattr(parts, name) for name in ("ak_public", "key_public", "certify", "quote", "pcrs")},
        **{name: getattr(parts, name) for name in ("event_log", "ima_log")},
    }
    return azure_vtpm.encode(**values | changes)


@pytest.mark.parametrize("hardware", ["sev-snp", "tdx"])
def test_encode_writes_what_others_write(hardware: str) -> None:
    plain = scene(hardware).parts
    for parts in (plain, scene(hardware).with_ima(nothing)):
        assert isinstance(parts, Parts)
        assert encoded(parts) == parts.encode()
        assert kind_of(parts.encode()) == azure_vtpm.KIND
    held = azure_vtpm.parse(plain.encode())
    assert held.hardware == hardware_of(plain)
    assert held.hcl.raw == plain.hcl.data


def test_what_may_be_left_out() -> None:
    parts = scene().parts
    held = hardware_of(parts)
    assert isinstance(held, SevSnpHardware)
    bare = SevSnpHardware(held.vek_certificate, held.ask_certificate, held.ark_certificate)
    assert azure_vtpm.parse(encoded(parts, hardware=bare, event_log=None)).hardware == bare
    parts = scene("tdx").parts
    quote = TdxHardware(unb64u(parts.hardware["quote"]))
    assert azure_vtpm.parse(encoded(parts, hardware=quote)).hardware == quote


def test_encode_refuses_what_parse_would() -> None:
    parts = scene().parts
    changes: list[dict[str, Any]] = [{"hcl_report": b""}, {"ak_public": b""}, {"hardware": TdxHardware(b"")}]
    for change in changes:
        with pytest.raises(RluError):
            encoded(parts, **change)


@pytest.mark.parametrize(("hardware", "report"), [("sev-snp", "1184 bytes"), ("tdx", "1024 bytes")])
def test_description(hardware: str, report: str) -> None:
    parts = scene(hardware).with_ima(nothing)
    named = {
        name: (value, meaning)
        for name, value, meaning in azure_vtpm.describe(azure_vtpm.parse(parts.encode()))
    }
    assert named["report_type"][0] == ("SNP" if hardware == "sev-snp" else "TDX")
    assert named["hardware_report"][0] == report
    assert named["hardware"][0] == hardware
    assert named["keys"][0] == "HCLAkPub, HCLEkPub"
    assert named["HCLAkPub"][0] == "RSA, 2048 bits"
    assert named["vm-configuration.secure-boot"] == ("true", "Secure Boot is on for the guest")
    assert named["vm-configuration.tpm-persisted"][0] == "false"
    assert named["user-data"][0] == "00" * 64
    assert named["ak_public.type"][0] == "RSA, 2048 bits"
    assert named["ima_log./sbin/init"][0].startswith("sha256:")


def test_settings_that_are_not_known_are_shown() -> None:
    found = scene("tdx")
    value = json.loads(found.parts.hcl.runtime)
    value["vm-configuration"] = {"new": 7, "nested": []}
    del value["user-data"]
    parts = found.with_runtime(compact(value))
    hardware = {name: parts.hardware[name] for name in ("kind", "quote")}
    rows = azure_vtpm.describe(azure_vtpm.parse(Parts(**{**fields(parts), "hardware": hardware}).encode()))
    assert ("vm-configuration.new", "7", "as Microsoft names it") in rows
    assert ("vm-configuration.nested", "not shown", "as Microsoft names it") in rows
    assert ("hardware", "tdx", "a quote of the TDREPORT comes beside it, without Intel's collateral") in rows
    assert "user-data" not in [name for name, *_ in rows]


def fields(parts: Parts) -> dict[str, Any]:
    return {name: getattr(parts, name) for name in parts.__dataclass_fields__}


@pytest.mark.parametrize("name", [*PERTURBATIONS, *TDX])
def test_whatever_parses_is_described(name: str) -> None:
    perturb, _ = PERTURBATIONS.get(name) or TDX[name]
    try:
        evidence = azure_vtpm.parse(perturb(scene("tdx" if name in TDX else "sev-snp")).encode())
    except RluError:
        return
    assert all(isinstance(cell, str) for row in azure_vtpm.describe(evidence) for cell in row)


def test_limits_of_the_runtime_data_are_inside() -> None:
    found = scene()
    value = json.loads(found.parts.hcl.runtime)
    only = {**value, "keys": value["keys"][:1]}
    many = {**value, "keys": [*value["keys"], *[{"kid": "x" * 256}] * 6]}
    numbered = {**value, "vm-configuration": {str(n): "y" * 256 for n in range(63)} | {"z": 10**20 - 1}}
    for data in (only, many, numbered):
        assert azure_vtpm.parse_runtime_data(compact(data)).ak is not None
    for data in (
        {**value, "vm-configuration": {"z": 10**20}},
        {**value, "keys": [*value["keys"], {"kid": "x" * 257}]},
    ):
        assert code_of(functools.partial(azure_vtpm.parse_runtime_data, compact(data))) is not None


def test_padding_in_nv_is_trimmed() -> None:
    report = scene().parts.hcl.data
    assert azure_vtpm.trim_nv(report) == azure_vtpm.trim_nv(report.ljust(NV_SIZE + 4000, b"\0")) == report
    for garbled in (report[:-1], report + b"\0\1", report[:11], b"", bytes(20_000)):
        with pytest.raises(Malformed) as refused:
            azure_vtpm.trim_nv(garbled)
        assert refused.value.code == "azure-vtpm.hcl.encoding"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(RluError):
        azure_vtpm.parse(data)
    for start in (b"", b"HCLA", b"HCLA\1\0\0\0"):
        with pytest.raises(RluError):
            azure_vtpm.parse_hcl_report(start + data)
        code_of(functools.partial(azure_vtpm.trim_nv, start + data))
    assert code_of(functools.partial(azure_vtpm.parse_runtime_data, data)) == "azure-vtpm.runtime.encoding"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLACES = ("keys", "vm-configuration", "user-data", "kid", "kty", "key_ops", "e", "n")


@given(st.sampled_from(PLACES), JSON)
def test_any_json_in_the_runtime_data_raises_only_our_error(place: str, value: Any) -> None:
    found = json.loads(scene_runtime())
    (found if place in found else found["keys"][0])[place] = value
    code = code_of(functools.partial(azure_vtpm.parse_runtime_data, compact(found)))
    assert code in (None, "azure-vtpm.runtime.encoding")


@functools.cache
def scene_runtime() -> bytes:
    return scene().parts.hcl.runtime


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
        evidence = azure_vtpm.parse(bytes(item))
    except RluError:
        return
    azure_vtpm.describe(evidence)
