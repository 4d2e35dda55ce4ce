"""Nonces: good once, for two minutes, of this run only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation.errors import RluError
from rlu_server.broker import challenges
from rlu_server.broker.challenges import LIFE_S, Challenges
from rlu_server.broker.errors import BrokerUnready

SECRET, RANDOM = b"s" * 32, b"r" * 24


def code_of(of: Challenges, challenge: bytes, now: float) -> str:
    with pytest.raises(RluError) as caught:
        of.use(challenge, now)
    return caught.value.code


def test_once() -> None:
    made = Challenges(SECRET)
    challenge = made.make(10.0, RANDOM)
    made.use(challenge, 11.0)
    assert code_of(made, challenge, 11.0) == "broker.challenge.used"
    assert code_of(made, challenge, 10.0 + LIFE_S) == "broker.challenge.used"


def test_for_two_minutes() -> None:
    made = Challenges(SECRET)
    first, second = made.make(10.0, RANDOM), made.make(10.0, b"q" * 24)
    made.use(first, 10.0 + LIFE_S)
    assert code_of(made, second, 10.01 + LIFE_S) == "broker.challenge.expired"


def test_of_this_run() -> None:
    challenge = Challenges(b"t" * 32).make(10.0, RANDOM)
    assert code_of(Challenges(SECRET), challenge, 10.0) == "broker.challenge.unknown"


@given(st.integers(0, 63), st.integers(1, 255))
def test_altered(place: int, flip: int) -> None:
    made = Challenges(SECRET)
    challenge = bytearray(made.make(10.0, RANDOM))
    challenge[place] ^= flip
    assert code_of(made, bytes(challenge), 10.0) == "broker.challenge.unknown"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenges, "MAX_USED", 3)
    made = Challenges(SECRET)
    for number in range(3):
        made.use(made.make(10.0, bytes([number]) * 24), 10.0)
    one_more = made.make(10.0, RANDOM)
    with pytest.raises(BrokerUnready) as caught:
        made.use(one_more, 10.0)
    assert caught.value.code == "broker.busy"
    later = 11.0 + LIFE_S
    for number in range(3):
        made.use(made.make(later, bytes([number]) * 24), later)


def test_randomness_is_asked_for() -> None:
    with pytest.raises(ValueError, match="24"):
        Challenges(SECRET).make(1.0, b"short")
