"""Fetching receipts, and the end of sessions: the receipts seen are all that a session had."""

from __future__ import annotations

from rlu_attestation import answers
from rlu_attestation.bundle import Logged
from rlu_attestation.connect.errors import Unproven
from rlu_attestation.connect.guard import Guard
from rlu_attestation.connect.session import Session
from rlu_attestation.connect.status import Status
from rlu_attestation.connect.steps import Ask, Look, Moment, Pause, Report, Talk, Told
from rlu_attestation.errors import RluError, Unreachable

CLOSING_WAIT_S = 5.0
"""How long the receipt of an answer that the client left may take at the end."""


def fetch(path: str, wait_s: float) -> Talk[Logged]:
    """A receipt, asked for until it is there.

    Raises:
        Unproven: `receipt.absent`: the server has none; `receipt.late`.
    """
    moment: Moment = yield Look()
    deadline = moment.monotonic + wait_s
    while True:
        pause = 1.0
        try:
            told: Told = yield Ask("GET", path)
        except Unreachable as error:
            why = error.message
        else:
            if told.status == 200:
                return answers.logged(answers.parse_json(told.content, "a receipt"))
            why = f"the server answered {told.status}{answers.problem(told.content)}"
            if told.status not in (429, 503):
                raise Unproven("receipt.absent", f"there is no receipt: {why}")
            pause = 0.2
        moment = yield Look()
        if moment.monotonic >= deadline:
            raise Unproven("receipt.late", f"no receipt within {wait_s:.0f} s: {why}")
        yield Pause(pause)


def close(guard: Guard) -> Talk[None]:
    """End the sessions of a run, and check that the receipts seen are all they had."""
    if guard.session is not None:
        guard.drop(guard.session)
    while guard.retired:
        yield from _close(guard, guard.retired.pop())


def close_idle(guard: Guard) -> Talk[None]:
    """End the sessions that were replaced and that no exchange uses."""
    while idle := next((session for session in guard.retired if not session.users), None):
        guard.retired.remove(idle)
        yield from _close(guard, idle)


def _close(guard: Guard, session: Session) -> Talk[None]:
    try:
        yield from _prove_close(session)
    except Unreachable as error:
        yield Report(Status(event="unreachable", code=error.code, message=error.message, session=session.id))
    except RluError as error:
        yield from guard.failed(error, session)
    else:
        yield Report(Status(event="closed", session=session.id, receipts=len(session.exchanges)))


def _prove_close(session: Session) -> Talk[None]:
    for path in session.open:
        logged = yield from fetch(path, CLOSING_WAIT_S)
        moment: Moment = yield Look()
        session.account(logged, moment.at)
    told: Told = yield Ask("DELETE", f"/v1/rlu/sessions/{session.id}")
    if told.status != 200:
        raise Unreachable(
            "server.refused",
            f"the session was not closed: the server answered {told.status}{answers.problem(told.content)}",
        )
    moment = yield Look()
    session.check_close(answers.logged(answers.parse_json(told.content, "a close")), moment.at)
