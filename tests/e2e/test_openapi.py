"""Our own routes, held against their own description: schemathesis draws requests from the OpenAPI document, good and bad ones, and
sends them to the real gateway with the real attestor. No answer may be a 500, or of a status, media type or shape that is not described.
"""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi import checks

from e2e.caller import chat
from e2e.proofs import open_session
from e2e.scripted_stack import MODEL, Scripted
from rlu_server.core.routes import OWN_EXACT

pytestmark = pytest.mark.tpm

CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.missing_required_header,
    checks.unsupported_method,
    checks.allow_header_conformance,
    checks.negative_data_rejection,
]
EXAMPLES = 8


@pytest.fixture(scope="module")
def document(scripted_once: Scripted) -> dict[str, Any]:
    answer = scripted_once.caller.get("/openapi.json")
    assert answer.status == 200
    found: dict[str, Any] = answer.json()
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, op) for path, item in document["paths"].items() for method, op in item.items()]


def test_every_operation_says_how_it_is_answered_and_refused(document: dict[str, Any]) -> None:
    open_to_all = {"/v1/rlu/attestation", *(path.decode() for path in OWN_EXACT)}
    for path, method, operation in operations(document):
        where = f"{method} {path}"
        answers = operation["responses"]
        good = [status for status in answers if status.startswith("2")]
        assert good, where
        for status in ("4XX", "5XX"):
            (schema,) = (content["schema"] for content in answers[status]["content"].values())
            assert set(schema["required"]) >= {"code", "detail", "request_id", "status"}, where
        assert operation.get("description") or operation.get("summary"), where
        assert bool(operation.get("security")) is (path not in open_to_all), where
    assert set(document["components"]["securitySchemes"]) == {"HTTPBearer", "APIKeyHeader"}


def ask(scripted: Scripted, operation: Any, mode: Any, session: str) -> set[int]:
    """Requests drawn for one operation; the statuses of their answers. Raises what a check found."""
    headers = {"Authorization": f"Bearer {scripted.caller.key}"}
    statuses: set[int] = set()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), mine=st.booleans())
    def one(case: Any, mine: bool) -> None:
        mine = mine and "session" in (case.path_parameters or {})
        if mine:
            case.path_parameters["session"] = session
            if "seq" in case.path_parameters:
                case.path_parameters["seq"] = "1"
        where = {"base_url": scripted.caller.url, "verify": str(scripted.caller.certificate)}
        response = case.call(headers=headers, **where)
        statuses.add(response.status_code)
        # A good id may have taken the place of a bad one.
        wanted = [check for check in CHECKS if not (mine and check is checks.negative_data_rejection)]
        case.validate_response(response, checks=wanted)

    with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with a request that has no parts
        one()
    return statuses


def held_against(
    scripted: Scripted, document: dict[str, Any], session: str
) -> tuple[dict[str, set[int]], list[str]]:
    """Every operation of a document: statuses that were seen, and what is not as it says."""
    seen: dict[str, set[int]] = {}
    findings: list[str] = []
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:
            try:
                seen.setdefault(operation.label, set()).update(ask(scripted, operation, mode, session))
            except (Failure, FailureGroup) as failure:
                findings.append(f"{operation.label} ({mode.value}): {failure}")
    return seen, findings


def test_what_says_it_needs_a_key_does(scripted: Scripted, document: dict[str, Any]) -> None:
    nobody = scripted.caller.with_key("")
    for path, method, operation in operations(document):
        where = path.replace("{session}", "A" * 22).replace("{seq}", "1").replace("{pseudonym}", "A" * 22)
        answer = nobody.call(method.upper(), where)
        assert (answer.status == 401) is bool(operation.get("security")), where


@pytest.fixture
def session(scripted: Scripted) -> str:
    """A session with a receipt."""
    opened = open_session(scripted.caller)
    good = chat("x", MODEL, max_tokens=1)
    assert scripted.caller.post("/v1/chat/completions", good, {"RLU-Session": opened}).status == 200
    return opened


def test_what_the_document_says_is_so(scripted: Scripted, document: dict[str, Any], session: str) -> None:
    seen, findings = held_against(scripted, document, session)
    assert findings == []
    # It was no drill: what can succeed with what was drawn did.
    for path in ("sessions/{session}", "receipts/{session}/{seq}", "log/head"):
        assert 200 in seen[f"GET /v1/rlu/{path}"], seen
    assert set(seen) == {f"{method.upper()} {path}" for path, method, _ in operations(document)}


@pytest.mark.parametrize("lie", ["status", "shape"])
def test_a_document_that_is_wrong_is_found(
    scripted: Scripted, document: dict[str, Any], session: str, lie: str
) -> None:
    path = "/v1/rlu/log/leaves"
    operation = copy.deepcopy(document["paths"][path]["get"])
    if lie == "status":
        del operation["responses"]["4XX"]
    else:
        answer = operation["responses"]["200"]["content"]["application/json"]
        answer["schema"] = {"type": "object", "required": ["never"]}
    _, findings = held_against(scripted, {**document, "paths": {path: {"get": operation}}}, session)
    assert findings
