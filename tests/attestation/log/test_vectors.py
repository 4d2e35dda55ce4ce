"""The published vectors of FORMATS section 11 say what the code does."""

from __future__ import annotations

import json
from pathlib import Path

from rlu_attestation import cose
from rlu_attestation.log.cosignature import (
    Cosignature,
    WitnessKey,
    checkpoint,
    message,
    verify_cosignature,
)
from rlu_attestation.log.gap import Gap
from rlu_attestation.merkle import leaf_hash
from rlu_server.attestor.tiles import bucket

VECTORS = json.loads(
    (Path(__file__).resolve().parents[3] / "attestation" / "vectors" / "following.json").read_text("ascii")
)


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
