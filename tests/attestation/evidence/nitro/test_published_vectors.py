"""`attestation/vectors/evidence-nitro.json`, which others build their verifiers against, says what this verifier does."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from fakes import nitro_perturbations
from fakes.evidence_vectors import NITRO, families
from fakes.nitro_steps import MAX_AGE, failures
from rlu_attestation import x509
from rlu_attestation.encoding import unb64u
from rlu_attestation.evidence.nitro import Root

VECTORS: dict[str, Any] = json.loads(NITRO.read_text())
AT, BINDING = datetime.fromisoformat(VECTORS["at"]), unb64u(VECTORS["binding"])
ROOTS = [Root.of(x509.parse(unb64u(root))) for root in VECTORS["roots"]]
GENUINE = {vector["name"]: vector["item"] for vector in VECTORS["genuine"]}
REFUSED = {vector["name"]: vector for vector in VECTORS["refused"]}


def encode(item: dict[str, Any]) -> bytes:
    return json.dumps(item, sort_keys=True, separators=(",", ":")).encode()


def test_genuine() -> None:
    assert set(GENUINE) == {"nitro", "nitrotpm"}
    assert MAX_AGE.total_seconds() == VECTORS["max_age_seconds"]
    for item in GENUINE.values():
        assert failures(encode(item), BINDING, ROOTS, AT) == []


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    vector = REFUSED[name]
    item = {key: value for key, value in GENUINE[vector["of"]].items() if key not in vector["remove"]}
    assert failures(encode(item | vector["replace"]), BINDING, ROOTS, AT) == vector["codes"]


def test_the_file_has_every_family_that_is_not_about_form() -> None:
    codes = {found.name: found.expected("nitro") for found in nitro_perturbations.ALL}
    about_more = [name for name, found in codes.items() if not found[0].startswith("parse")]
    assert len(REFUSED) >= 40
    assert set(families(about_more)) <= REFUSED.keys()
    assert all(codes[name] == vector["codes"] for name, vector in REFUSED.items())
