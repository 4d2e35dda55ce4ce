"""Tallies: the same bytes again, and nothing that does not add up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation import canonical
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.instance import Predecessor
from rlu_attestation.log.tally import OfProfile, Stated, Tally
from rlu_attestation.mentions import CanaryMention, LicenceMention

STATED = Stated("sovereign", "h100x8", ("large", "small"), "eu-central-1", "hall 3")
TALLY = Tally(
    issuer="urn:rlu:instance:A",
    issued_at=2000,
    blind=b"b" * 16,
    number=2,
    first=11,
    next=20,
    since=1000,
    start_count=4,
    key_created=500,
    key_hardware="tpm2",
    predecessor=Predecessor("urn:rlu:instance:B", b"head"),
    sessions=3,
    profiles=(OfProfile(b"\x01" * 32, 2, 7, 1, STATED), OfProfile(b"\x02" * 32, 0, 0, 1, None)),
    receipts={"complete": 2, "partial": 1, "aborted": 0, "failed": 0},
    closes=2,
    gaps=1,
    refused={"drift": 5},
    drift={"policy.pcrs": 1},
    policy=b"p" * 32,
    canary=CanaryMention(b"c" * 32, 900, "clean"),
    licence=LicenceMention(b"l" * 32, 9000),
    successor="urn:rlu:instance:C",
)
FIRST = replace(
    TALLY, number=1, first=0, next=9, since=None, predecessor=None, policy=None, canary=None, licence=None
)


@pytest.mark.parametrize("tally", [TALLY, FIRST])
def test_the_same_bytes_again(tally: Tally) -> None:
    assert Tally.parse(tally.encode()) == tally


@pytest.mark.parametrize(
    "change",
    [
        {"sessions": 4},
        {"closes": 3},
        {"gaps": 0},
        {"receipts": {**TALLY.receipts, "failed": 1}},
        {"next": 21},
        {"first": 10},
        {"number": 1},
        {"since": None},
        {"since": 2001},
        {"profiles": (OfProfile(b"\x01" * 32, 4, 0, 0, None),)},
    ],
)
def test_what_does_not_add_up(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        replace(TALLY, **change)


def _with(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda claims: claims.__setitem__(name, value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda claims: claims.pop("rlu_sessions"),
        _with("rlu_prompt", "secret"),
        _with("rlu_number", 0),
        _with("rlu_closes", 1),
        _with("rlu_since", 2001),
        _with("rlu_refused", {"A sentence.": 1}),
        _with("rlu_refused", {"drift": 0}),
        _with("rlu_drift", {f"c{n}": 1 for n in range(65)}),
        _with("rlu_policy", "AAAA"),
        lambda claims: claims["rlu_profiles"].reverse(),
        lambda claims: claims["rlu_profiles"].append(claims["rlu_profiles"][-1]),
        lambda claims: claims["rlu_profiles"][0]["stated"].__setitem__("models", []),
        lambda claims: claims["rlu_profiles"][0].__setitem__("sessions", 9),
        lambda claims: claims["rlu_receipts"].__setitem__("lost", 0),
    ],
)
def test_what_is_no_tally(damage: Callable[[dict[str, Any]], None]) -> None:
    claims = canonical.decode(TALLY.encode())
    damage(claims)
    with pytest.raises(Malformed):
        Tally.parse(canonical.encode(claims))


@given(st.binary(max_size=200))
def test_arbitrary_bytes(data: bytes) -> None:
    with pytest.raises(RluError):
        Tally.parse(data)
