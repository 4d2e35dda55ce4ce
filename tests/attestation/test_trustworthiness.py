"""Trustworthiness claims (AR4SI); how verdicts become vectors is tested where they stand, in `test_ear.py`."""

from __future__ import annotations

import pytest

from rlu_attestation import trustworthiness


@pytest.mark.parametrize(
    ("value", "tier"),
    [
        *((value, "contraindicated") for value in (-128, -97, 96, 127)),
        *((value, "warning") for value in (-96, -33, 32, 95)),
        *((value, "affirming") for value in (-32, -2, 2, 31)),
        *((value, "none") for value in (-1, 0, 1)),
    ],
)
def test_the_tiers_of_ar4si(value: int, tier: str) -> None:
    assert trustworthiness.tier(value) == tier
