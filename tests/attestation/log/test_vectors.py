"""The published vectors of FORMATS section 11 say what the code does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.deployment import Deployment
from rlu_attestation import bundle as bundles
from rlu_attestation import cose, x509
from rlu_attestation.encoding import unb64u
from rlu_attestation.log.cosignature import (
    Cosignature,
    WitnessKey,
    checkpoint,
    message,
    verify_cosignature,
)
from rlu_attestation.log.gap import Gap
from rlu_attestation.merkle import leaf_hash
from rlu_attestation.verifier import Context, verify
from rlu_server.attestor.tiles import bucket

HERE = Path(__file__).resolve().parents[3] / "attestation" / "vectors"
VECTORS = json.loads((HERE / "following.json").read_text("ascii"))
WITNESSED = json.loads((HERE / "witnessed.json").read_text("ascii"))


def test_checkpoint_and_cosignature() -> None:
    head = cose.parse_head(bytes.fromhex(VECTORS["head"]))
    assert checkpoint(head).decode() == VECTORS["checkpoint"]
    assert message(head, VECTORS["time"]).decode() == VECTORS["message"]
    witness = WitnessKey.parse(VECTORS["verifier_key"])
    cosignature = Cosignature.parse(VECTORS["cosignature"])
    assert (witness.text, cosignature.line) == (VECTORS["verifier_key"], VECTORS["cosignature"])
    assert verify_cosignature(head, cosignature, witness) == VECTORS["time"]


def test_gap() -> None:
    data = VECTORS["gap"].encode()
    gap = Gap.parse(data)
    assert gap.encode() == data
    assert (gap.first, gap.next) == (3, 9)
    assert leaf_hash(data).hex() == VECTORS["gap_leaf"]


def test_buckets() -> None:
    for case in VECTORS["buckets"]:
        assert bucket(case["tokens"]) == case["bucket"]


@pytest.mark.parametrize("case", WITNESSED["cases"], ids=lambda case: case["name"])
def test_cosignatures_in_a_bundle(case: dict[str, Any]) -> None:
    """The bundle of bundle.json with further members: the codes that they lead to, and the time by which its entries existed."""
    made = json.loads((HERE / "bundle.json").read_text("ascii"))
    value = {**json.loads(made["bundle"]), **{name: case[name] for name in ("cosignatures", "consistency")}}
    policy = replace(
        Deployment().policy(),
        ek_roots=tuple(x509.parse(unb64u(der)) for der in made["ek_roots"]),
        registrars=tuple(x509.parse(unb64u(der)) for der in made["registrars"]),
        witnesses=tuple(WitnessKey.parse(text) for text in WITNESSED["witnesses"]),
        witnesses_required=case["required"],
    )
    bundle = bundles.parse(json.dumps(value).encode())
    verdict = verify(Context(bundle=bundle, policy=policy, at=WITNESSED["at"]))
    found = {step.code for step in verdict.failures if not step.code.endswith(".not_checked")}
    about = {code for code in found if code.startswith(("log.", "policy.witnesses"))}
    assert about == set(case["codes"])
    assert (verdict.witnessed and verdict.witnessed.by) == case["witnessed_by"]
