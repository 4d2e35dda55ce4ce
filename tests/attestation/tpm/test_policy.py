"""PCR digests and the key's policy, against digests worked out by hand from the specification."""

from __future__ import annotations

import hashlib

import pytest

from fakes import tpm_marshal as marshal
from rlu_attestation.errors import Malformed, Untrusted
from rlu_attestation.tpm.attest import parse_pcr_selection
from rlu_attestation.tpm.constants import Alg
from rlu_attestation.tpm.policy import key_policy, pcr_digest, without_pcr

SELECTION = marshal.selection({"sha256": (0, 7)})
VALUES = {"sha256": {7: b"\x77" * 32, 0: b"\x11" * 32}}


def test_values_are_hashed_in_ascending_order_whatever_the_order_given() -> None:
    selection = parse_pcr_selection(SELECTION)
    expected = hashlib.sha256(b"\x11" * 32 + b"\x77" * 32).digest()
    assert pcr_digest(Alg.SHA256, selection, VALUES) == expected
    assert pcr_digest(Alg.SHA384, selection, VALUES) == hashlib.sha384(b"\x11" * 32 + b"\x77" * 32).digest()


def test_banks_are_hashed_in_the_selections_order() -> None:
    selection = parse_pcr_selection(marshal.selection({"sha384": (1,), "sha1": (), "sha256": (0,)}))
    values = {"sha256": {0: b"\x11" * 32}, "sha384": {1: b"\x22" * 48}}
    expected = hashlib.sha256(b"\x22" * 48 + b"\x11" * 32).digest()
    assert pcr_digest(Alg.SHA256, selection, values) == expected


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"sha256": {0: bytes(32)}},
        {"sha256": {0: bytes(32), 7: bytes(32), 8: bytes(32)}},
        {"sha384": {0: bytes(48), 7: bytes(48)}},
        {"sha256": {0: bytes(32), 7: bytes(32)}, "sha1": {0: bytes(20)}},
    ],
)
def test_values_must_be_exactly_those_selected(values: dict[str, dict[int, bytes]]) -> None:
    with pytest.raises(Untrusted) as refused:
        pcr_digest(Alg.SHA256, parse_pcr_selection(SELECTION), values, "step.selection")
    assert refused.value.code == "step.selection"


def test_the_policy_byte_for_byte() -> None:
    pcrs = hashlib.sha256(b"\x11" * 32 + b"\x77" * 32).digest()
    first = hashlib.sha256(
        bytes(32) + bytes.fromhex("0000017f") + bytes.fromhex("00000001000b03810000") + pcrs
    ).digest()
    assert key_policy(SELECTION, pcrs) == hashlib.sha256(first + bytes.fromhex("0000016b")).digest()


def test_a_digest_of_another_hash_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        key_policy(SELECTION, bytes(48))


def test_a_garbled_selection_has_no_policy() -> None:
    with pytest.raises(Malformed) as refused:
        key_policy(SELECTION + b"\x00", bytes(32))
    assert refused.value.code == "tpm2.pcr_selection"


def test_a_selection_without_one_pcr() -> None:
    selection = parse_pcr_selection(marshal.selection({"sha384": (10,), "sha256": (0, 10, 23)}, size=4))
    values = {"sha384": {10: bytes(48)}, "sha256": {0: b"\1" * 32, 10: b"\2" * 32, 23: b"\3" * 32}}
    kept, left = without_pcr(selection, values, 10)
    assert kept.raw == marshal.selection({"sha384": (), "sha256": (0, 23)})
    assert left == {"sha256": {0: b"\1" * 32, 23: b"\3" * 32}}
    assert pcr_digest(Alg.SHA256, kept, left) == hashlib.sha256(b"\1" * 32 + b"\3" * 32).digest()


def test_a_selection_beyond_pcr_23_keeps_its_four_bytes() -> None:
    selection = parse_pcr_selection(marshal.selection({"sha256": (10, 31)}, size=4))
    kept, left = without_pcr(selection, {"sha256": {31: bytes(32)}}, 10)
    assert kept.raw == marshal.selection({"sha256": (31,)}, size=4)
    assert left == {"sha256": {31: bytes(32)}}


def test_a_selection_that_never_had_the_pcr_stays() -> None:
    selection = parse_pcr_selection(SELECTION)
    assert without_pcr(selection, VALUES, 10) == (selection, VALUES)
