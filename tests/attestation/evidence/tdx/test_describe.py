"""Rows for people: every field, for every quote, whatever state its certificate and collateral are in."""

from __future__ import annotations

import pytest

from fakes.intel import BODY, Platform
from fakes.tdx_changes import V4, V15, Perturbation, genuine, quoted
from fakes.tdx_perturbations import ALL
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import tdx


def rows(platform: Platform = V4, **fields: int | bytes) -> dict[str, tuple[str, str]]:
    found = tdx.describe(tdx.parse(quoted(platform, **fields)(genuine(platform)).item()))
    named = {name: (value, meaning) for name, value, meaning in found}
    assert len(named) == len(found)
    return named


def test_every_field_has_a_row() -> None:
    named = rows(V15)
    assert BODY.keys() <= named.keys()
    assert {"Version", "TEE Type", "Body type", "User Data", "Attestation Key", "QE MRSIGNER"} <= named.keys()
    assert {"FMSPC", "PCE-ID", "PPID", "PCESVN", "SGX Type", "SMT Enabled"} <= named.keys()
    assert {"tcbInfo.fmspc", "tcbInfo.TDX_01", "enclaveIdentity.nextUpdate", "PCK CRL"} <= named.keys()
    assert all(value and meaning for value, meaning in named.values())
    assert not {"TEE_TCB_SVN_2", "MRSERVICETD"} & rows().keys()


def test_meanings() -> None:
    named = rows(TDATTRIBUTES=1)
    assert named["TDATTRIBUTES.DEBUG"] == ("1", "the host may read the TD's memory: never for secrets")
    assert named["TDATTRIBUTES.SEPT_VE_DISABLE"][0] == "0"
    assert named["TEE_TCB_SVN"][1] == "TDX module 1.6 with microcode patch 3 launched the TD"
    assert rows(V15)["TEE_TCB_SVN_2"][1] == "TDX module 1.7 with microcode patch 4 runs now"
    assert named["Body type"][1] == "TD report 1.0"
    assert named["tcbInfo.tcbLevels"] == ("3", "newest: UpToDate")
    assert named["PCK CRL"][0] == "1"
    assert "SMT Enabled" not in rows(Platform(processor=True))


@pytest.mark.parametrize("found", ALL, ids=lambda found: found.name)
def test_whatever_parses_is_described(found: Perturbation) -> None:
    try:
        evidence = tdx.parse(found.perturb(genuine(found.platform)).item())
    except RluError:
        return
    described = tdx.describe(evidence)
    assert all(isinstance(cell, str) and cell.isprintable() for row in described for cell in row)
    unreadable = {name for name, value, _ in described if value == "not readable"}
    names = {
        "PCK certificate": "tdx.pck",
        "TCB information": "tdx.tcb_info",
        "QE identity": "tdx.qe_identity",
    }
    assert all(any(code.startswith(names[name]) for code in found.codes) for name in unreadable)
    assert ("Collateral" in {row[0] for row in described}) == (evidence.collateral is None)
