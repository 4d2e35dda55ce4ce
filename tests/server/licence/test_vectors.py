"""The published vectors of FORMATS sections 16 and 17 say what the code does; they were put together without it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.policy_signature import key_id, load_public_key
from rlu_server.licence.document import Answer, Licence, Question, digest
from rlu_server.telemetry import report

VECTORS = json.loads(
    (Path(__file__).resolve().parents[3] / "attestation" / "vectors" / "documents.json").read_text("ascii")
)
KEYS = {name: load_public_key(pem.encode()) for name, pem in VECTORS["keys"].items()}


def named(case: dict[str, Any]) -> str:
    return str(case["name"])


@pytest.mark.parametrize("case", VECTORS["licences"], ids=lambda case: case["alg"])
def test_licences(case: dict[str, Any]) -> None:
    key = KEYS[case["alg"]]
    assert key_id(key).hex() == case["kid"]
    assert Licence.verify(case["text"], [key]).to_json() == VECTORS["claims"]
    assert digest(case["text"]).hex() == case["digest"]


@pytest.mark.parametrize("case", VECTORS["refused_licences"], ids=named)
def test_what_is_no_licence(case: dict[str, Any]) -> None:
    with pytest.raises(RluError) as refusal:
        Licence.verify(case["text"], [KEYS["ES256"], KEYS["Ed25519"]])
    assert refusal.value.code == case["code"]


def test_question_and_answer() -> None:
    data = VECTORS["question"]["bytes"].encode()
    question = Question.parse(data)
    assert question.encode() == data
    assert question.statement == VECTORS["question"]["statement"]
    claims = VECTORS["answer"]["claims"]
    answer = Answer.verify(VECTORS["answer"]["text"], [KEYS["ES256"]])
    assert (answer.licence, answer.status, answer.issued_at) == (
        claims["jti"],
        claims["status"],
        claims["iat"],
    )
    assert answer.statement == hashlib.sha256(question.statement.encode()).digest()


def test_telemetry() -> None:
    case = VECTORS["telemetry"]
    found = report.parse(case["text"], KEYS["telemetry"])
    assert {name: getattr(found, name) for name in found.__struct_fields__} == case["claims"]


@pytest.mark.parametrize("case", VECTORS["refused_telemetry"], ids=named)
def test_what_is_no_telemetry(case: dict[str, Any]) -> None:
    with pytest.raises(Malformed, match=r"telemetry\.report"):
        report.parse(case["text"], KEYS["telemetry"])
