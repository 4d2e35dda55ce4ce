"""`attestation/vectors/evidence-gcp-vtpm.json`, which others build their verifiers against, says what this verifier does."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from fakes.gcp_vtpm_perturbations import OLDER, PERTURBATIONS
from fakes.gcp_vtpm_steps import failures
from fakes.machine import encode
from fakes.vtpm_vectors import GCP, own
from rlu_attestation import x509
from rlu_attestation.encoding import unb64u
from rlu_attestation.evidence.gcp_vtpm import Root

VECTORS: dict[str, Any] = json.loads(GCP.read_text())
AT, BINDING = datetime.fromisoformat(VECTORS["at"]), unb64u(VECTORS["binding"])
ROOTS = [Root.of(x509.parse(unb64u(root))) for root in VECTORS["roots"]]
GENUINE = {vector["name"]: vector["item"] for vector in VECTORS["genuine"]}
REFUSED = {vector["name"]: vector for vector in VECTORS["refused"]}


@pytest.mark.parametrize("name", GENUINE)
def test_genuine(name: str) -> None:
    assert failures(encode(GENUINE[name]), BINDING, ROOTS, AT) == []


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    vector = REFUSED[name]
    item = {key: value for key, value in GENUINE[vector["of"]].items() if key not in vector["remove"]}
    assert failures(encode(item | vector["replace"]), BINDING, ROOTS, AT) == vector["codes"]


def test_the_file_has_every_family_of_perturbations() -> None:
    expected = {**own(PERTURBATIONS), **own(OLDER)}
    assert {name: vector["codes"] for name, vector in REFUSED.items()} == {
        name: codes for name, (_, codes) in expected.items()
    }
