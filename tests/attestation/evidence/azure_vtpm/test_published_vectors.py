"""`attestation/vectors/evidence-azure-vtpm.json`, which others build their verifiers against, says what this verifier does."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from fakes.azure_vtpm_perturbations import PERTURBATIONS, TDX
from fakes.azure_vtpm_steps import failures
from fakes.machine import encode
from fakes.vtpm_vectors import AZURE, own
from rlu_attestation.encoding import unb64u

VECTORS: dict[str, Any] = json.loads(AZURE.read_text())
AT, BINDING = datetime.fromisoformat(VECTORS["at"]), unb64u(VECTORS["binding"])
ROOTS = {kind: unb64u(root) for kind, root in VECTORS["roots"].items()}
PARAVISORS = [unb64u(measurement) for measurement in VECTORS["paravisors"]]
GENUINE = {vector["name"]: vector["item"] for vector in VECTORS["genuine"]}
REFUSED = {vector["name"]: vector for vector in VECTORS["refused"]}


@pytest.mark.parametrize("name", GENUINE)
def test_genuine(name: str) -> None:
    assert failures(encode(GENUINE[name]), BINDING, PARAVISORS, AT, ROOTS) == []


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    vector = REFUSED[name]
    item = {key: value for key, value in GENUINE[vector["of"]].items() if key not in vector["remove"]}
    assert failures(encode(item | vector["replace"]), BINDING, PARAVISORS, AT, ROOTS) == vector["codes"]


def test_the_file_has_every_family_of_perturbations() -> None:
    expected = {**own(PERTURBATIONS), **own(TDX)}
    assert {name: vector["codes"] for name, vector in REFUSED.items()} == {
        name: codes for name, (_, codes) in expected.items()
    }
