"""`attestation/vectors/evidence-tpm2.json`, which others build their verifiers against, says what this verifier does."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from fakes.machine import encode
from fakes.tpm2_perturbations import PERTURBATIONS
from fakes.tpm2_steps import failures
from fakes.tpm2_vectors import FILE
from rlu_attestation import canonical, endorsement, x509
from rlu_attestation.encoding import unb64u
from rlu_attestation.evidence import tpm2

VECTORS: dict[str, Any] = json.loads(FILE.read_text())
AT = datetime.fromisoformat(VECTORS["at"])
BINDING = unb64u(VECTORS["binding"])
ROOTS = [x509.parse(unb64u(root)) for root in VECTORS["ek_roots"]]
REGISTRARS = [x509.parse(unb64u(root)) for root in VECTORS["registrars"]]
GENUINE = {vector["name"]: vector for vector in VECTORS["genuine"]}
REFUSED = {vector["name"]: vector for vector in VECTORS["refused"]}


@pytest.mark.parametrize("name", GENUINE)
def test_genuine(name: str) -> None:
    vector = GENUINE[name]
    data = canonical.encode(vector["item"])
    assert failures(data, BINDING, ROOTS, REGISTRARS, AT) == []
    evidence = tpm2.parse(data)
    assert tpm2.name_of(evidence.ak_public) == unb64u(vector["ak_name"])
    assert tpm2.name_of(evidence.key_public) == unb64u(vector["key_name"])
    assert evidence.key_public.auth_policy == unb64u(vector["key_policy"])
    endorsed = tpm2.verify_ak_certificate(evidence, REGISTRARS, AT)
    assert endorsed == endorsement.parse(canonical.encode(vector["endorsement"]))


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    vector = REFUSED[name]
    item = {key: value for key, value in GENUINE[vector["of"]]["item"].items() if key not in vector["remove"]}
    assert failures(encode(item | vector["replace"]), BINDING, ROOTS, REGISTRARS, AT) == vector["codes"]


def test_the_file_has_every_perturbation() -> None:
    assert {name: vector["codes"] for name, vector in REFUSED.items()} == {
        name: codes for name, (_, codes) in PERTURBATIONS.items()
    }
