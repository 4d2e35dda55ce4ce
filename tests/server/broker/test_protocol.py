"""What instance and broker say to each other, held against RFC 9180's functions and a second reading of the document."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation import canonical
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.instance import binding
from rlu_attestation.models import Software
from rlu_server.broker import protocol
from rlu_server.broker.errors import BadRequest, SealBroken
from rlu_server.broker.protocol import Claims
from rlu_server.broker.sealing import key_id

KEY = b"k" * 32
PRIVATE = X25519PrivateKey.from_private_bytes(b"p" * 32)
CLAIMS = Claims(
    challenge=bytes(64),
    public_key=PRIVATE.public_key().public_bytes_raw(),
    kid=key_id(KEY),
    manifest=b"m" * 32,
    software=Software("rlu", "0.1.0"),
)


def test_what_evidence_binds() -> None:
    encoded = CLAIMS.encode()
    inner = hashlib.sha256(b"rlu/key-request/v1" + encoded).digest()
    assert protocol.root_of(encoded) == hashlib.sha256(b"\0" + inner).digest()
    # Evidence of an instance statement is about another thing, whatever the statement says.
    assert inner != binding(encoded)
    assert Claims.parse(encoded) == CLAIMS


def test_a_key_goes_to_the_key_that_asked() -> None:
    answer = protocol.seal_key(KEY, CLAIMS)
    assert KEY not in answer
    assert b64u(KEY).encode() not in answer
    assert protocol.open_key(answer, CLAIMS, PRIVATE) == KEY
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    info = b"rlu/weights-key/v1" + hashlib.sha256(CLAIMS.encode()).digest()
    assert suite.decrypt(unb64u(json.loads(answer)["sealed"]), PRIVATE, info) == KEY


def test_an_answer_to_another_request() -> None:
    answer = protocol.seal_key(KEY, replace(CLAIMS, challenge=b"c" * 64))
    with pytest.raises(SealBroken) as caught:
        protocol.open_key(answer, CLAIMS, PRIVATE)
    assert caught.value.code == "weights.answer.key"
    with pytest.raises(SealBroken):
        protocol.open_key(protocol.seal_key(KEY, CLAIMS), CLAIMS, X25519PrivateKey.generate())


def test_a_broker_that_gives_another_key() -> None:
    with pytest.raises(SealBroken) as caught:
        protocol.open_key(protocol.seal_key(b"x" * 32, CLAIMS), CLAIMS, PRIVATE)
    assert caught.value.code == "weights.answer.key"
    with pytest.raises(SealBroken):
        protocol.open_key(protocol.seal_key(KEY + b"k", CLAIMS), CLAIMS, PRIVATE)


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"kid":"AA","sealed":"AA"}', b"\xff" * 100])
def test_answers_that_are_none(answer: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        protocol.open_key(answer, CLAIMS, PRIVATE)
    assert caught.value.code == "weights.answer"
    with pytest.raises(BadRequest):
        protocol.parse_challenge(answer)


def test_a_public_key_that_nobody_holds() -> None:
    with pytest.raises(BadRequest) as caught:
        protocol.seal_key(KEY, replace(CLAIMS, public_key=bytes(32)))
    assert caught.value.code == "broker.request"


def changed(**members: object) -> bytes:
    return canonical.encode({**json.loads(CLAIMS.encode()), **members})


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "broker.request"),
        (changed(eat_profile="tag:rlu.internal,2026:instance#1"), "broker.request"),
        (changed(more=1), "broker.request"),
        (changed(eat_nonce=b64u(bytes(32))), "broker.request"),
        (changed(rlu_hpke={"aead": 2, "kdf": 1, "kem": 32, "public_key": b64u(bytes(31))}), "broker.request"),
        (changed(rlu_hpke={"aead": 1, "kdf": 1, "kem": 32, "public_key": b64u(bytes(32))}), "broker.suite"),
        (changed(rlu_hpke={"aead": 2, "kdf": 1, "kem": 16, "public_key": b64u(bytes(32))}), "broker.suite"),
        (CLAIMS.encode() + b" ", "broker.request"),
    ],
)
def test_claims_that_are_none(data: bytes, code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        Claims.parse(data)
    assert caught.value.code == code


def item(kind: object = "sev-snp", data: object = "AA", **more: object) -> dict[str, object]:
    return {"kind": kind, "data": data, **more}


@pytest.mark.parametrize(
    "evidence",
    [
        [],
        {},
        [1],
        [item()] * 2,
        [item(kind=f"k{i}") for i in range(5)],
        [item(more=1)],
        [item(data=1)],
        [item(data="A" * (400 * 1024))],
        [item(data="=")],
    ],
)
def test_requests_that_are_none(evidence: object) -> None:
    data = canonical.encode({"claims": b64u(CLAIMS.encode()), "evidence": evidence})
    with pytest.raises(BadRequest) as caught:
        protocol.parse_request(data)
    assert caught.value.code == "broker.request"


def test_requests_are_read_as_they_are_written() -> None:
    found = {"sev-snp": b"{}", "nvidia": b"{" + b" " * (300 * 1024)}
    assert protocol.parse_request(protocol.encode_request(CLAIMS.encode(), found)) == (CLAIMS.encode(), found)


@given(st.binary(max_size=300))
def test_arbitrary_bytes(data: bytes) -> None:
    for parse in (protocol.parse_request, Claims.parse, protocol.parse_challenge):
        with pytest.raises(RluError):
            parse(data)
