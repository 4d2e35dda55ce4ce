"""The verifier, a naive second one and `tpm2_checkquote` agree: on every perturbation, and on changed bytes anywhere."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import azure
from fakes.azure import Parts
from fakes.azure_vtpm_perturbations import BINDING, PERTURBATIONS, TDX, Scene, scene
from fakes.azure_vtpm_steps import failures, hardware_steps
from fakes.tools import checkquote
from reference import azure_vtpm as naive
from reference.tpm import Rejected
from rlu_attestation import merkle
from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import azure_vtpm

TD_CHECKED = [
    *range(32),
    *(32 + at + n for at, _, size in azure.TD_FIELDS.values() for n in range(size)),
    *range(32 + 1024, 32 + 1184 + 100),
]
ROOT = merkle.leaf_hash(BINDING)
ELSEWHERE = ("quote.eventlog", "quote.ima")
"""What the naive verifier does not look at."""
UNKNOWN = ("item-", "hardware-", "binding-", "ima-", "hcl-of-tdx-", "tdx-collateral-", "tdx-without-")
"""Perturbations of forms that it does not know."""


def theirs(parts: Parts) -> bool:
    """The naive verdict, over what the hardware proved; when the real verifier cannot read the item, over what it would have."""
    try:
        proved = hardware_steps(azure_vtpm.parse(parts.encode()))
    except RluError:
        proved = (parts.hcl.hardware[0x50:0x90], 0, b"", azure.PARAVISOR["sev-snp"])
    try:
        naive.verify(parts, unb64u(parts.item()["hcl_report"]), ROOT, proved, azure.PARAVISOR.values())
    except Rejected:
        return False
    return True


COMPARED = [
    name
    for name, (_, codes) in (PERTURBATIONS | TDX).items()
    if not name.startswith(UNKNOWN) and not codes[0].startswith(("tdx.", "sev-snp."))
]


@pytest.mark.parametrize("name", COMPARED)
def test_perturbations(name: str) -> None:
    perturb, codes = PERTURBATIONS.get(name) or TDX[name]
    parts = perturb(scene("tdx" if name in TDX else "sev-snp"))
    assert theirs(parts) is all(code.startswith(ELSEWHERE) for code in codes)


@pytest.mark.parametrize("hardware", ["sev-snp", "tdx"])
def test_what_the_report_says(hardware: str) -> None:
    report = scene(hardware).parts.hcl.data
    ours, found = azure_vtpm.parse_hcl_report(report), naive.decode(report)
    assert found == {
        "kind": ours.report_type,
        "hardware": ours.hardware_report,
        "report_data": ours.report_data,
        "ak": ours.runtime.ak,
        "settings": ours.runtime.vm_configuration,
    }


@functools.cache
def sample(hardware: str) -> Scene:
    return scene(hardware)


@settings(max_examples=120)
@given(st.sampled_from(["sev-snp", "tdx"]), st.data())
def test_changed_bytes_of_the_report(hardware: str, data: st.DataObject) -> None:
    """Only the header's version can change unnoticed, between the two that exist, and of a TDREPORT what no quote repeats."""
    parts = sample(hardware).parts
    good = parts.hcl.data
    damaged = bytearray(good)
    checked = range(len(good)) if hardware == "sev-snp" else TD_CHECKED
    position = data.draw(st.sampled_from([*checked]))
    damaged[position] ^= data.draw(st.integers(1, 255))
    changed = replace(parts, further={"hcl_report": azure.b64u(bytes(damaged))})
    try:
        evidence = azure_vtpm.parse(changed.encode())
    except RluError:
        evidence = None
    if position == 4 and evidence is not None:
        assert evidence.hcl.version == 1
        return
    assert failures(changed.encode(), BINDING) != []


@settings(max_examples=80)
@given(st.sampled_from(["ak_public", "key_public", "certify", "quote"]), st.data())
def test_changed_bytes_of_the_tpms_parts(field: str, data: st.DataObject) -> None:
    parts = sample("sev-snp").parts
    value = getattr(parts, field)
    part = data.draw(st.integers(0, 1)) if isinstance(value, tuple) else None
    damaged = bytearray(value if part is None else value[part])
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    changed = (
        bytes(damaged)
        if part is None
        else tuple(bytes(damaged) if n == part else v for n, v in enumerate(value))
    )
    other = replace(parts, **{field: changed})
    assert failures(other.encode(), BINDING) != []
    assert theirs(other) is False


@pytest.mark.parametrize("name", ["quote-signature-flipped", "pcr-value-flipped", "ak-of-another-vm"])
def test_tpm2_tools_refuse_the_same_quotes(name: str, tmp_path: Path) -> None:
    assert checkquote(scene().parts, ROOT, tmp_path) is True
    assert checkquote(PERTURBATIONS[name][0](scene()), ROOT, tmp_path) is False
