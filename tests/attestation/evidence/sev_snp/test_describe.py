"""Rows for people: every field, for every report, whatever state its certificate is in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.amd import FIELDS, Chip
from fakes.sev_snp_perturbations import ALL, genuine
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import sev_snp
from rlu_attestation.evidence.sev_snp import parse_report

PARTS = ("CURRENT_M", "CURRENT_B", "COMMITTED_M", "COMMITTED_B")
JOINED = {"KEY_INFO", "R", "S"} | {name for name in FIELDS if name.startswith(PARTS)}


def rows(chip: Chip, **fields: int | bytes) -> dict[str, tuple[str, str]]:
    parts = genuine(chip)
    parts.report = chip.report(**fields)
    found = sev_snp.describe(sev_snp.parse(parts.item()))
    named = {name: (value, meaning) for name, value, meaning in found}
    assert len(named) == len(found)
    return named


def test_every_field_has_a_row() -> None:
    named = rows(Chip("Genoa", version=5))
    expected = {name for name in FIELDS if "RESERVED" not in name and "PADDING" not in name} - JOINED
    assert expected | {"CURRENT_MIT_VECTOR"} <= named.keys()
    assert {
        "SIGNING_KEY",
        "AUTHOR_KEY_EN",
        "MASK_CHIP_KEY",
        "CURRENT_VERSION",
        "hwID",
        "productName",
    } <= named.keys()
    assert all(value and meaning for value, meaning in named.values())


def test_meanings() -> None:
    named = rows(Chip(), POLICY=0x3001F | 1 << 19, CHIP_ID=bytes(64), VMPL=0xFFFFFFFF)
    assert named["POLICY.DEBUG"] == ("1", "the host may read the guest's memory: never for secrets")
    assert named["CHIP_ID"][1] == "masked by the host"
    assert named["VMPL"][0] == "host"
    assert named["REPORTED_TCB"][0].endswith("(boot_loader=4 tee=0 snp=24 microcode=219)")
    assert named["CPUID_MOD_ID"][1] == "product line Milan"
    assert rows(Chip(csp_id="CN=csp"))["cspID"][0] == "CN=csp"
    assert rows(Chip("Turin"))["REPORTED_TCB"][0].endswith("(fmc=1 boot_loader=2 tee=0 snp=3 microcode=9)")


def test_version_2_takes_its_line_from_the_certificate() -> None:
    named = rows(Chip(version=2))
    assert named["REPORTED_TCB"][0].endswith("microcode=219)")
    assert "CPUID_FAM_ID" not in named
    bare = dict(row[:2] for row in sev_snp.describe_report(parse_report(Chip(version=2).report())))
    assert bare["REPORTED_TCB"] == Chip().tcb.hex()


def test_unknown_cpu_and_reserved_tcb_are_shown_as_they_are() -> None:
    named = rows(Chip(), CPUID_FAM_ID=0x1B)
    assert named["CPUID_MOD_ID"][1] == "not a known product line"
    named = rows(Chip(), CURRENT_TCB=b"\4\0\1\0\0\0\x18\xdb")
    assert named["CURRENT_TCB"][0] == "040001000000 18db".replace(" ", "")
    assert "reserved" in named["CURRENT_TCB"][1]


@pytest.mark.parametrize("found", ALL, ids=lambda found: found.name)
def test_whatever_parses_is_described(found: object) -> None:
    perturbation = found
    parts = perturbation.perturb(genuine(perturbation.chip))  # type: ignore[attr-defined]
    try:
        evidence = sev_snp.parse(replace(parts).item())
    except RluError:
        return
    assert all(isinstance(cell, str) for row in sev_snp.describe(evidence) for cell in row)
