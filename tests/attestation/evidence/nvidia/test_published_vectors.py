"""`attestation/vectors/evidence-nvidia.json`, which others build their verifiers against, says what this verifier does."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from fakes.nvidia_perturbations import ALL
from fakes.nvidia_steps import failures
from fakes.nvidia_vectors import NVIDIA, apply
from rlu_attestation import x509
from rlu_attestation.encoding import unb64u
from rlu_attestation.evidence.nvidia import Root, Roots

VECTORS: dict[str, Any] = json.loads(NVIDIA.read_text())
AT, BINDING = datetime.fromisoformat(VECTORS["at"]), unb64u(VECTORS["binding"])
MAX_AGE = timedelta(seconds=VECTORS["max_age_seconds"])
DEVICE, RIM = (Root.of(x509.parse(unb64u(VECTORS["roots"][name])), name) for name in ("device", "rim"))
ROOTS = Roots((DEVICE,), (DEVICE,), (RIM,))
GENUINE = {vector["name"]: vector["item"] for vector in VECTORS["genuine"]}
REFUSED = {vector["name"]: vector for vector in VECTORS["refused"]}


@pytest.mark.parametrize("name", GENUINE)
def test_genuine(name: str) -> None:
    data = json.dumps(GENUINE[name], sort_keys=True, separators=(",", ":")).encode()
    assert failures(data, BINDING, ROOTS, AT, MAX_AGE) == []


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    vector = REFUSED[name]
    data = apply(GENUINE[VECTORS["of"]], vector)
    assert failures(data, BINDING, ROOTS, AT, MAX_AGE) == vector["codes"]


def test_the_codes_are_those_of_the_perturbations() -> None:
    codes = {found.name: list(found.codes) for found in ALL}
    assert {name: vector["codes"] for name, vector in REFUSED.items()} == {
        name: codes[name] for name in REFUSED
    }
    assert len(REFUSED) >= 150
