"""Asking the vendor about a licence: a job of its own, never the server, and never needed.

What is sent is the licence's id and the instance statement (`Question`). Nothing that goes wrong here changes anything: without an answer a
licence is what it says of itself, until its own end and grace period. Only an answer that the vendor signed, for this very statement, is
kept, and the attestor reads it within seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rlu_attestation.errors import Malformed, Untrusted
from rlu_server.licence.document import WITHDRAWN, Answer, Question
from rlu_server.licence.place import Place
from rlu_server.outreach.key_sets import put

APART_S = 86400
"""How far the vendor's clock and ours may be apart."""


@dataclass(frozen=True, slots=True)
class Said:
    """What the vendor answered, checked; `text` is it as it came."""

    answer: Answer
    text: bytes


def ask(place: Place, statement: str, post: Callable[[bytes], bytes], now: int) -> Said:
    """Ask, and check the answer; nothing is kept.

    Raises:
        RluError: as `Place.find`, `post`, `Answer.verify`; `licence.answer.other`: it answers another question; `licence.answer.time`: it
            is from another time, or older than the one that is kept.
    """
    found = place.find()
    data = post(Question(found.licence.id, statement).encode())
    try:
        text = data.decode("ascii").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise Malformed("licence.answer.encoding", "the answer is not a compact JWS") from error
    answer = Answer.verify(text, place.keys())
    asked = hashlib.sha256(statement.encode("utf-8")).digest()
    if answer.licence != found.licence.id or answer.statement != asked:
        raise Untrusted("licence.answer.other", "the answer is to another question; nothing was changed")
    before = (
        found.answer.issued_at if found.answer is not None and found.answer.licence == answer.licence else 0
    )
    if abs(answer.issued_at - now) > APART_S or answer.issued_at < before:
        raise Untrusted(
            "licence.answer.time",
            "the answer is not of today, or older than the one that is kept: compare the clocks; nothing was changed",
        )
    return Said(answer, data)


def validate(place: Place, statement: str, post: Callable[[bytes], bytes], now: int) -> Answer:
    """Ask, check, and keep the answer.

    Raises:
        RluError: as `ask`.
        OSError: it cannot be kept.
    """
    said = ask(place, statement, post, now)
    put(place.answer, said.text)
    return said.answer


def decisive(answers: Iterable[Said]) -> Said | None:
    """Of answers to several instances at one time, the one that counts for all: a withdrawal, and then the latest."""
    return max(answers, key=lambda one: (one.answer.status == WITHDRAWN, one.answer.issued_at), default=None)
