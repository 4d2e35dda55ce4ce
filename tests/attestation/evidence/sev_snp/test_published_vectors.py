"""`attestation/vectors/evidence-sev-snp.json`, which others build their verifiers against, says what this verifier does."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from fakes import sev_snp_perturbations
from fakes.evidence_vectors import SEV_SNP, families
from fakes.sev_snp_steps import failures
from rlu_attestation import x509
from rlu_attestation.encoding import unb64u
from rlu_attestation.evidence.sev_snp import ProductLine, Root

VECTORS: dict[str, Any] = json.loads(SEV_SNP.read_text())
AT, BINDING = datetime.fromisoformat(VECTORS["at"]), unb64u(VECTORS["binding"])
ROOTS = [Root.of(x509.parse(unb64u(root)), ProductLine(line)) for line, root in VECTORS["roots"].items()]
GENUINE = {vector["name"]: vector["item"] for vector in VECTORS["genuine"]}
REFUSED = {vector["name"]: vector for vector in VECTORS["refused"]}


def encode(item: dict[str, Any]) -> bytes:
    return json.dumps(item, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize("name", GENUINE)
def test_genuine(name: str) -> None:
    assert failures(encode(GENUINE[name]), BINDING, ROOTS, AT) == []


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    vector = REFUSED[name]
    item = {key: value for key, value in GENUINE[vector["of"]].items() if key not in vector["remove"]}
    assert failures(encode(item | vector["replace"]), BINDING, ROOTS, AT) == vector["codes"]


def test_the_file_has_every_family_of_perturbations() -> None:
    codes = {found.name: list(found.codes) for found in sev_snp_perturbations.ALL}
    assert {name: vector["codes"] for name, vector in REFUSED.items()} == {
        name: codes[name] for name in families(list(codes))
    }
