"""Sessions and receipts as their principal has them checked: with the verifier's own API, against the bytes of the wire."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from e2e.caller import Answer, Caller
from rlu_attestation import Bundle, Exchange, Logged, Outcome, Policy, Verdict, verify
from rlu_attestation import Context as Verification
from rlu_attestation.client import Client
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.statements import Receipt, SessionStatement

NONCE = bytes(range(32))
SIGNED = ("statement.", "session.", "receipt.", "close.", "log.")
"""Prefixes of the steps that depend on signatures and bytes only, whatever the policy accepts."""


def logged(value: dict[str, Any]) -> Logged:
    return Logged(unb64u(value["statement"]), unb64u(value["receipt"]))


def receipt(caller: Caller, where: str) -> Receipt:
    """The receipt, asked for until it is there; nothing of it is verified."""
    return Receipt.parse(fetch(caller, where).statement)


def fetch(caller: Caller, where: str) -> Logged:
    deadline = time.monotonic() + 60
    while True:
        answer = caller.get(where)
        if answer.status == 200:
            return logged(answer.json())
        assert answer.status == 503, answer.content
        assert time.monotonic() < deadline, answer.content
        time.sleep(0.2)


def statement(caller: Caller, session: str) -> SessionStatement:
    return SessionStatement.parse(unb64u(caller.get(f"/v1/rlu/sessions/{session}").json()["statement"]))


def open_session(caller: Caller, nonce: bytes = NONCE, **more: object) -> str:
    made = caller.post("/v1/rlu/sessions", {"nonce": b64u(nonce), **more})
    assert made.status == 201, made.content
    return str(made.json()["session"])


def bundle(caller: Caller, session: str, exchanges: Sequence[Exchange], *, close: bool = False) -> Bundle:
    """Everything that the principal of a session can have verified."""
    detail = caller.get(f"/v1/rlu/sessions/{session}").json()
    key = caller.get(f"/v1/rlu/sessions/{session}/commitment-key").json()["commitment_key"]
    ended = logged(caller.call("DELETE", f"/v1/rlu/sessions/{session}").json()) if close else None
    with Client(caller.url) as client:
        attested = client.attestation(NONCE)
    return Bundle(
        statement=attested.statement,
        evidence=attested.evidence,
        channel=attested.channel,
        nonce=NONCE,
        session=logged(detail),
        commitment_key=unb64u(key),
        exchanges=tuple(exchanges),
        close=ended,
        head=unb64u(caller.get("/v1/rlu/log/head").json()["head"]),
    )


def exchange(caller: Caller, answer: Answer) -> Exchange:
    """An answer with its receipt, as evidence."""
    return Exchange(fetch(caller, answer.receipt), answer.request, answer.content)


def judge(made: Bundle, policy: Policy | None = None, at: int | None = None) -> Verdict:
    """The verdict, now or at another time; an empty policy accepts nothing, but the steps before it are judged all the same."""
    moment = int(time.time()) if at is None else at
    return verify(Verification(bundle=made, policy=policy or Policy(), at=moment, nonce=made.nonce))


def unproven(verdict: Verdict) -> list[tuple[str, str, str]]:
    """Of the steps over signatures and bytes, those that did not pass though they apply."""
    return [
        (step.id, step.subject, step.code)
        for step in verdict.steps
        if step.id.startswith(SIGNED) and step.outcome not in (Outcome.PASSED, Outcome.NOT_APPLICABLE)
    ]


def assert_proven(caller: Caller, answers: Sequence[Answer]) -> list[Receipt]:
    """These answers are all of one session: each has a receipt over exactly its bytes, under signed heads.

    Closes the session. Returns the receipts.
    """
    session = answers[0].session
    exchanges = [exchange(caller, answer) for answer in answers]
    made = bundle(caller, session, exchanges, close=True)
    assert unproven(judge(made)) == []
    return [Receipt.parse(item.logged.statement) for item in exchanges]


def error_of(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.content)
    return found
