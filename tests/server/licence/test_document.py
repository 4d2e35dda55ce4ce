"""Licences and answers: what they say, and that nothing else is one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fakes.vendor import AT, DAY, Vendor
from rlu_attestation import canonical, policy_signature, signed_json
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import RluError
from rlu_server.licence.document import ANSWER_TYPE, TYPE, Answer, Licence, Question

VENDOR = Vendor()
LICENCE = VENDOR.licence()
TEXT = LICENCE.sign(VENDOR.key)
KEYS = [VENDOR.key.public_key()]
KNOWN = (
    "eyJhbGciOiJFZDI1NTE5Iiwia2lkIjoiMUlHMnRNSDdKMndiSlpuT2Y4TEp6UWl0S2Y3TE12b0FFbHN1RE1WTTU0WSIsInR5cCI6InJsdS1saWNlbmNlK2p3dCJ9",
    "eyJleHAiOjE4MDc3NzYwMDAsImlhdCI6MTgwMDAwMDAwMCwiaXNzIjoiRXhhbXBsZSIsImp0aSI6IkEtMTciLCJuYmYiOjE4MDAwMDAwMDAsIn"
    "Byb2ZpbGUiOiJ0YWc6cmx1LmludGVybmFsLDIwMjY6bGljZW5jZSMxIiwicmx1X2ZlYXR1cmVzIjpbImF1ZGl0IiwicmVzcG9uc2VzIl0sInJs"
    "dV9ncmFjZV9zIjoxMjA5NjAwLCJybHVfbm9kZXMiOjIsInN1YiI6IkFDTUUifQ",
    "Au6YY0lwvQ-C3Pm5qUE2VBiLrrkS8VTspeqhb0cIWAWoopIlm-sP5xBIlFM8oBjaNKQPSDrMYu261jDcpWBbCw",
)
ANSWER = Answer("A-17", "good", AT, bytes(32))


def code(text: str, keys: list[Any] = KEYS) -> str:
    with pytest.raises(RluError) as caught:
        Licence.verify(text, keys)
    return caught.value.code


@pytest.mark.parametrize("alg", ["Ed25519", "ES256"])
def test_what_a_vendor_signed(alg: str) -> None:
    vendor = Vendor(alg)
    text = LICENCE.sign(vendor.key)
    assert Licence.verify(text, [*KEYS, vendor.key.public_key()]) == LICENCE


def test_byte_for_byte() -> None:
    """A licence of a known key: whoever reads FORMATS section 16 must come to the same."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    assert LICENCE.sign(key) == ".".join(KNOWN)


def test_another_key() -> None:
    assert code(TEXT, []) == "licence.key"
    assert code(TEXT, [Vendor().key.public_key(), Vendor("ES256").key.public_key()]) == "licence.key"


def test_an_algorithm_that_is_not_the_keys() -> None:
    header, payload, signature = TEXT.split(".")
    other = canonical.encode({**canonical.decode(unb64u(header)), "alg": "ES256"})
    assert code(f"{b64u(other)}.{payload}.{signature}") == "licence.key"


@pytest.mark.parametrize("name", sorted(LICENCE.to_json()))
def test_every_claim_is_signed(name: str) -> None:
    header, _, signature = TEXT.split(".")
    claims = LICENCE.to_json()
    value = claims[name]
    claims[name] = value + 1 if isinstance(value, int) else [] if isinstance(value, list) else f"{value}x"
    assert code(f"{header}.{b64u(canonical.encode(claims))}.{signature}") == "licence.signature"


@pytest.mark.parametrize(
    "change",
    [
        {"exp": AT},
        {"exp": None},
        {"exp": str(AT)},
        {"iss": ""},
        {"jti": "a b"},
        {"jti": "a" * 65},
        {"nbf": -1},
        {"profile": "tag:rlu.internal,2026:licence#2"},
        {"rlu_features": ["b", "a"]},
        {"rlu_features": ["a", "a"]},
        {"rlu_features": ["A"]},
        {"rlu_features": "a"},
        {"rlu_grace_s": 366 * DAY + 1},
        {"rlu_nodes": 0},
        {"rlu_nodes": True},
        {"rlu_nodes": 1_000_001},
        {"more": 1},
    ],
    ids=str,
)
def test_claims_that_are_none(change: dict[str, Any]) -> None:
    """Signed by the vendor, and still not a licence."""
    assert code(signed_json.sign(TYPE, {**LICENCE.to_json(), **change}, VENDOR.key)) == "licence.claims"


def test_documents_of_another_type() -> None:
    assert code(ANSWER.sign(VENDOR.key)) == "licence.encoding"
    assert code(signed_json.sign(ANSWER_TYPE, LICENCE.to_json(), VENDOR.key)) == "licence.encoding"
    with pytest.raises(RluError, match=r"licence\.answer\.encoding"):
        Answer.verify(TEXT, KEYS)


def test_what_a_licence_cannot_be() -> None:
    with pytest.raises(RluError, match=r"licence\.claims"):
        replace(LICENCE, nodes=0)


@pytest.mark.parametrize(
    "text", ["", "a.b", f"{TEXT}.x", f" {TEXT}", f"{TEXT}=", TEXT[:-4], "x" * 20_000, "..", f"{TEXT}\n"]
)
def test_what_is_not_a_jws(text: str) -> None:
    assert code(text) == "licence.encoding"


@given(
    st.text(max_size=300)
    | st.binary(max_size=200).map(lambda data: f"{b64u(data)}.{b64u(data)}.{b64u(data[:64])}")
)
def test_anything_else_is_refused_in_order(text: str) -> None:
    with pytest.raises(RluError):
        Licence.verify(text, KEYS)


def test_questions() -> None:
    question = Question("A-17", "eyJ.x.y")
    assert Question.parse(question.encode()) == question
    assert sorted(canonical.decode(question.encode())) == ["licence", "profile", "statement"]
    for wrong in (
        b"",
        b"{}",
        question.encode() + b" ",
        canonical.encode({**canonical.decode(question.encode()), "more": 1}),
    ):
        with pytest.raises(RluError, match=r"licence\.question"):
            Question.parse(wrong)


def test_answers() -> None:
    assert Answer.verify(ANSWER.sign(VENDOR.key), KEYS) == ANSWER
    with pytest.raises(RluError, match=r"licence\.answer\.key"):
        Answer.verify(ANSWER.sign(Vendor().key), KEYS)
    with pytest.raises(RluError, match=r"licence\.answer\.claims"):
        Answer.verify(replace(ANSWER, status="perhaps").sign(VENDOR.key), KEYS)


def test_keys_of_policies_are_no_vendors_by_themselves() -> None:
    """A signature on a policy is not one on a licence, with the same key."""
    assert code(policy_signature.sign(bytes(32), VENDOR.key).decode("ascii")) == "licence.encoding"
