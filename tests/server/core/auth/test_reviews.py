"""TokenReview: what is asked, and what of an answer counts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_server.core.auth import reviews
from rlu_server.core.errors import GatewayError

USER = "system:serviceaccount:team-a:runner"
GOOD: dict[str, Any] = {
    "apiVersion": "authentication.k8s.io/v1",
    "kind": "TokenReview",
    "metadata": {"creationTimestamp": None},
    "spec": {"token": "t", "audiences": ["rlu"]},
    "status": {"authenticated": True, "user": {"username": USER, "groups": ["x"]}, "audiences": ["rlu"]},
}


def test_the_question_is_a_token_review():
    question = reviews.question("a.b.c", {"rlu", "other"})
    assert json.loads(question) == {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": "a.b.c", "audiences": ["other", "rlu"]},
    }
    reviews.check_question(question)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"spec":{"token":"t"}}',
        b'{"spec":{"token":"t","audiences":[]}}',
        b'{"spec":{"token":"","audiences":["a"]}}',
        b'{"spec":{"token":"t","audiences":["a"],"more":1}}',
        b'{"spec":{"token":"t","audiences":["a"]},"kind":"Secret"}',
        b'{"spec":{"token":"t","audiences":["a"]},"apiVersion":"v1"}',
    ],
)
def test_what_is_not_a_question_is_not_passed_on(data: bytes):
    with pytest.raises(ValueError):
        reviews.check_question(data)


def test_the_cluster_names_the_user():
    assert reviews.username(json.dumps(GOOD).encode(), {"rlu"}) == USER


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({}, "token_refused"),
        ({"authenticated": False, "error": "no"}, "token_refused"),
        ({**GOOD["status"], "authenticated": False}, "token_refused"),
        ({**GOOD["status"], "audiences": ["other"]}, "token_refused"),
        ({"authenticated": True, "user": {"username": USER}}, "token_refused"),
        ({**GOOD["status"], "user": {}}, "token_refused"),
        ({**GOOD["status"], "authenticated": "yes"}, "token_unverifiable"),
        ([], "token_unverifiable"),
    ],
)
def test_answers_that_give_no_access(status: Any, code: str):
    with pytest.raises(GatewayError) as caught:
        reviews.username(json.dumps({**GOOD, "status": status}).encode(), {"rlu"})
    assert caught.value.code == code


@pytest.mark.parametrize("change", [{"kind": "Status"}, {"apiVersion": "v1"}])
def test_another_document_is_no_answer(change: dict[str, str]):
    with pytest.raises(GatewayError) as caught:
        reviews.username(json.dumps({**GOOD, **change}).encode(), {"rlu"})
    assert caught.value.code == "token_unverifiable"


@given(st.binary(max_size=200))
def test_arbitrary_answers_raise_only_our_error(data: bytes):
    with pytest.raises(GatewayError):
        reviews.username(data, {"rlu"})
