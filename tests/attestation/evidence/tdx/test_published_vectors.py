"""`attestation/vectors/evidence-tdx.json`, which others build their verifiers against, says what this verifier does."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from fakes.tdx_steps import failures
from fakes.tdx_vectors import FILE, published
from rlu_attestation import x509
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.evidence.tdx import Root

VECTORS: dict[str, Any] = json.loads(FILE.read_text())
AT, BINDING = datetime.fromisoformat(VECTORS["at"]), unb64u(VECTORS["binding"])
ROOTS = [Root.of(x509.parse(unb64u(root))) for root in VECTORS["roots"]]
GENUINE = {vector["name"]: vector["item"] for vector in VECTORS["genuine"]}
PERTURBED = {vector["name"]: vector for vector in VECTORS["perturbed"]}


def encode(item: dict[str, Any]) -> bytes:
    return json.dumps(item, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def replaced(members: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (members | changes).items() if value is not None}


def item_of(vector: dict[str, Any]) -> dict[str, Any]:
    item = dict(GENUINE[vector["of"]])
    if "quote" in vector:
        offset, length, data = vector["quote"]
        quote = unb64u(item["quote"])
        item["quote"] = b64u(quote[:offset] + unb64u(data) + quote[offset + length :])
    item["collateral"] = replaced(item["collateral"], vector.get("collateral", {}))
    return replaced(item, vector.get("members", {}))


@pytest.mark.parametrize("name", GENUINE)
def test_genuine(name: str) -> None:
    assert failures(encode(GENUINE[name]), BINDING, ROOTS, AT) == []


@pytest.mark.parametrize("name", PERTURBED)
def test_perturbed(name: str) -> None:
    vector = PERTURBED[name]
    assert failures(encode(item_of(vector)), BINDING, ROOTS, AT) == vector["codes"]


def test_the_file_has_every_family_of_perturbations() -> None:
    found = {name: vector["codes"] for name, vector in PERTURBED.items()}
    assert found == {perturbation.name: list(perturbation.codes) for perturbation in published()}
