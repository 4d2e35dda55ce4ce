"""Rows for people: every field, for every kind of device, whatever state its certificates are in."""

from __future__ import annotations

import pytest

from fakes import nvidia as fake
from fakes.nvidia import Device, Node
from fakes.nvidia_changes import GPU, NONCE, Perturbation, genuine
from fakes.nvidia_perturbations import ALL
from rlu_attestation.evidence import nvidia


def rows(data: bytes) -> dict[str, tuple[str, str]]:
    found = nvidia.describe(nvidia.parse(data))
    return {name: (value, meaning) for name, value, meaning in found}


def test_every_field_has_a_row() -> None:
    found = rows(genuine().item())
    assert found["gpu 0 chip"][0] == "GH100"
    assert found["gpu 1 DRIVER_VERSION"][0] == GPU.driver
    assert found["gpu 0 VBIOS_VERSION"][0] == GPU.vbios
    assert found["gpu 0 FEATURE_FLAG"][1].startswith("PPCIE")
    assert found["gpu 0 opaque field 200"] == (b"from the future".hex(), "not known: kept, and not believed")
    assert found["gpu 0 measurement 64"][0] == GPU.measurements()[63].hex()
    assert found["switch 0 DEVICE_PDI"][1] == "the switch's own id"
    assert found["switch 0 SWITCH_GPU_PDIS"][1] == "ids of 2 GPUs, and at which port each is"
    assert found["rim 0 version"][0] == GPU.driver
    assert found[f"ocsp {GPU.brom.serial:#x}"][0] == "good"
    assert all(value and meaning for value, meaning in found.values())


def test_a_node_without_fwid_and_certified_firmware() -> None:
    parts = Node((Device(fwid=None),)).parts(NONCE)
    parts.gpus[0].chain = Device(fwid=None).chain(extensions=[])
    assert rows(parts.item())["gpu 0 certified FWID"][0] == "none"


def test_certificates_that_cannot_be_read_say_so() -> None:
    parts = genuine()
    parts.gpus[0].chain.pop()
    assert rows(parts.item())["gpu 0 certificates"][0] == "not readable"


@pytest.mark.parametrize("found", ALL, ids=lambda found: found.name)
def test_whatever_parses_has_rows(found: Perturbation) -> None:
    if not found.codes or not found.codes[0].startswith("parse: "):
        assert rows(found.item())


def test_an_answer_without_an_end() -> None:
    parts = genuine()
    parts.ocsp = [fake.ocsp(GPU.brom, next_update=None)]
    assert rows(parts.item())[f"ocsp {GPU.brom.serial:#x}"][1].endswith("until no end")
