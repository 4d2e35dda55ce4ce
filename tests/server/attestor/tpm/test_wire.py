"""The hand-made commands: parsers refuse, and nothing the TPM's answer could hold gets through unchecked."""

from __future__ import annotations

import hashlib
import hmac
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation.tpm import policy
from rlu_attestation.tpm.constants import Alg
from rlu_server.attestor.errors import HardwareUnavailable
from rlu_server.attestor.tpm import wire

AUTH, NONCE = b"a" * 32, b"n" * 32


def answer(tag: int, body: bytes, code: int = 0) -> bytes:
    return struct.pack(">HII", tag, 10 + len(body), code) + body


def signed(
    r: bytes = b"\x01" * 32, s: bytes = b"\x02" * 32, auth: bytes = AUTH, algorithm: int = 0x18
) -> bytes:
    """What a TPM answers to Sign."""
    parameters = struct.pack(">HH", algorithm, 0x0B) + wire.sized(r) + wire.sized(s)
    nonce_tpm, attributes = b"t" * 32, b"\x01"
    rp_hash = hashlib.sha256(struct.pack(">II", 0, wire.CC_SIGN) + parameters).digest()
    proof = hmac.digest(auth, rp_hash + nonce_tpm + NONCE + attributes, "sha256")
    area = wire.sized(nonce_tpm) + attributes + wire.sized(proof)
    return answer(wire.ST_SESSIONS, struct.pack(">I", len(parameters)) + parameters + area)


def parse(data: bytes) -> bytes:
    session = wire.PolicySession(0x03000000, b"o" * 32)
    signature = wire.parse_signature(wire.parse_answer(data), session, AUTH, NONCE)
    assert session.nonce_tpm == b"t" * 32
    return signature


def test_a_signature_is_r_then_s_padded_to_32_bytes() -> None:
    assert parse(signed()) == b"\x01" * 32 + b"\x02" * 32
    assert parse(signed(r=b"\x05", s=b"\x06" * 31)) == bytes(31) + b"\x05" + bytes(1) + b"\x06" * 31


@pytest.mark.parametrize(
    "data",
    [
        signed(auth=b"b" * 32),
        signed(algorithm=0x14),
        signed(r=b"\x01" * 33),
        signed()[:-1],
        signed() + b"\x00",
        signed()[:10],
        b"",
        answer(0x1234, b""),
        answer(wire.ST_NO_SESSIONS, signed()[10:]),
    ],
    ids=["other-hmac", "rsa", "long-r", "short", "trailing", "header-only", "empty", "tag", "no-sessions"],
)
def test_an_altered_answer_refuses(data: bytes) -> None:
    with pytest.raises(HardwareUnavailable, match=r"tpm\.response"):
        parse(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_refused(data: bytes) -> None:
    for attempt in (data, answer(wire.ST_SESSIONS, data), answer(wire.ST_NO_SESSIONS, data)):
        with suppress(HardwareUnavailable):
            wire.parse_session(wire.parse_answer(attempt))
        with pytest.raises(HardwareUnavailable):
            parse(attempt)


@given(st.sets(st.integers(0, 23), min_size=1), st.binary(min_size=32, max_size=32))
def test_the_policy_is_the_one_that_verifiers_expect(pcrs: set[int], composite: bytes) -> None:
    selection = wire.pcr_selection(tuple(sorted(pcrs)))
    assert selection == policy.selection_bytes(Alg.SHA256, sorted(pcrs))
    assert wire.policy_digest(tuple(pcrs), composite) == policy.key_policy(selection, composite)
