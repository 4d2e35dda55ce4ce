"""The published vectors of FORMATS sections 11.6 and 18 say what the code does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlu_attestation.boundary.check import check
from rlu_attestation.boundary.report import Report
from rlu_attestation.errors import Malformed
from rlu_attestation.log.tally import Tally
from rlu_attestation.merkle import leaf_hash
from rlu_attestation.policy_signature import load_public_key

VECTORS = json.loads(
    (Path(__file__).resolve().parents[3] / "attestation" / "vectors" / "boundary.json").read_text("ascii")
)
KEY = load_public_key(VECTORS["key"].encode())


def named(case: dict[str, Any]) -> str:
    return str(case["name"])


def test_tallies() -> None:
    for case in VECTORS["tallies"]:
        data = case["statement"].encode()
        assert Tally.parse(data).encode() == data
        assert leaf_hash(data).hex() == case["leaf_hash"]


@pytest.mark.parametrize("case", VECTORS["refused_tallies"], ids=named)
def test_what_is_no_tally(case: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        Tally.parse(case["statement"].encode())


def test_an_honest_report() -> None:
    found = check(Report.verify(VECTORS["report"], [KEY]), VECTORS["instances"], VECTORS["at"])
    assert found.result == "verified"
    assert [figure.to_json() for figure in found.report.figures] == VECTORS["figures"]
    sessions = next(f for f in VECTORS["figures"] if f["name"] == "sessions" and not f["of"])
    assert (sessions["value"], sessions["tallies"]) == (7, [[0, 2, 2], [0, 4, 4], [1, 1, 2]])


@pytest.mark.parametrize("case", VECTORS["others"], ids=named)
def test_other_reports(case: dict[str, Any]) -> None:
    found = check(Report.verify(case["report"], [KEY]), VECTORS["instances"], VECTORS["at"])
    assert {point.code for point in found.false} == set(case["false"])
    assert {point.code for point in found.open} >= set(case["open"])
