"""The verifier and a naive second one agree: on every perturbation, on changed bits anywhere, and on what genuine reports say."""

from __future__ import annotations

import functools
import hashlib
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import nvidia as fake
from fakes import nvidia_perturbations
from fakes.nvidia import Device, Node, Parts
from fakes.nvidia_changes import NONCE, genuine
from fakes.nvidia_perturbations import Perturbation
from fakes.nvidia_steps import MAX_AGE, roots
from fakes.pki import AT
from reference import nvidia as naive
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import nvidia
from rlu_attestation.evidence.nvidia import NvidiaClaims

COMPARED = [
    found
    for found in nvidia_perturbations.ALL
    if not found.name.startswith(("item-", "binding-"))  # forms that the naive verifier does not know
]


def ours(parts: Parts, at: datetime = AT, max_age: timedelta | None = MAX_AGE) -> NvidiaClaims | None:
    """Claims when everything but the binding holds; without a maximum age no revocation is asked for."""

    def devices(found: list[fake.DeviceParts]) -> list[nvidia.DeviceParts]:
        return [nvidia.DeviceParts(device.report, tuple(device.chain)) for device in found]

    try:
        evidence = nvidia.from_parts(
            devices(parts.gpus), devices(parts.switches), rims=parts.rims, ocsp_der=parts.ocsp
        )
        claims = nvidia.verify(evidence, at, roots())
        if max_age is not None:
            nvidia.verify_revocation(evidence, at, max_age)
    except RluError:
        return None
    return claims


def theirs(
    parts: Parts, at: datetime = AT, max_age: timedelta | None = MAX_AGE
) -> list[dict[str, Any]] | None:
    trusted = [hashlib.sha256(found().der).digest() for found in (fake.device_root, fake.rim_root)]
    gpus, switches = (
        [(device.report, device.chain) for device in found] for found in (parts.gpus, parts.switches)
    )
    try:
        return naive.verify(gpus, switches, parts.rims, parts.ocsp, at, max_age, (trusted[:1], trusted[1:]))
    except naive.Rejected:
        return None


@pytest.mark.parametrize("found", COMPARED, ids=lambda found: found.name)
def test_perturbations(found: Perturbation) -> None:
    parts = genuine()
    found.perturb(parts)
    accepted = ours(parts)
    assert (accepted is None) == (theirs(parts) is None)
    assert (accepted is None) == any(not code.startswith(("nvidia.binding", "proof")) for code in found.codes)


@pytest.mark.parametrize(
    "node",
    [
        fake.hgx(),
        fake.hgx(8, 4),
        fake.hgx(2, 1, "GB100"),
        Node((Device(),)),
        Node((Device(nvdec0=0xAA),)),
        Node((Device(fwid=None),)),
        Node((Device("GB102", "b"),)),
    ],
)
def test_fields(node: Node) -> None:
    parts = node.parts(NONCE)
    claims, fields = ours(parts), theirs(parts)
    assert claims is not None
    assert fields is not None
    for device, other in zip((*claims.gpus, *claims.switches), fields, strict=True):
        compare(device, other)


def compare(device: nvidia.DeviceClaims, fields: dict[str, Any]) -> None:
    opaque = device.report.opaque
    assert device.report.nonce == fields["nonce"]
    assert [found.value for found in device.report.measurements] == fields["measurements"]
    assert device.report.response_nonce == fields["response_nonce"]
    assert list(opaque.fields) == fields["opaque"]
    assert (device.chip, device.model, device.serial, device.ueid) == tuple(
        fields[name] for name in ("chip", "model", "serial", "ueid")
    )
    assert device.fwid == fields["fwid"]
    assert device.measurements_compared == fields["compared"]
    assert device.vbios == fields["vbios"]
    assert device.driver == fields.get("driver")
    assert (device.project, device.project_sku, device.chip_sku) == tuple(
        fields.get(name) for name in ("project", "project_sku", "chip_sku")
    )
    assert device.protected_pcie == fields.get("ppcie")
    assert (None if device.feature is None else device.feature.value) == fields.get("feature")
    assert opaque.switches == fields.get("switches")
    assert opaque.pdi == fields.get("pdi")
    assert opaque.gpus == fields.get("gpus")


@functools.cache
def sample() -> Parts:
    return Node((Device("GB100", "sample"),)).parts(NONCE)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["report", "chain", "rims"]), st.data())
def test_changed_bytes(part: str, data: st.DataObject) -> None:
    parts = sample().copy()
    where: list[bytes] = {"report": [parts.gpus[0].report], "chain": parts.gpus[0].chain, "rims": parts.rims}[
        part
    ]
    number = data.draw(st.integers(0, len(where) - 1))
    changed = bytearray(where[number])
    position = data.draw(st.integers(0, len(changed) - 1))
    changed[position] ^= data.draw(st.integers(1, 255))
    if part == "report":
        parts.gpus[0].report = bytes(changed)
    else:
        where[number] = bytes(changed)
    accepted = ours(parts)
    assert (accepted is None) == (theirs(parts) is None)
    # Base64 has spellings, and white space inside the signature is nobody's: only there a change may mean nothing.
    assert accepted is None or part == "rims"
