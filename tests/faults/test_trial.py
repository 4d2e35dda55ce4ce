"""A bounded version of `make faults`: the real deployment under its lock, broken in every way but few times, for one and two workers.

And the observer is tried: each promise is broken on purpose in what a real schedule left, or in the deployment, and must be missed.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faults import observer, trial
from faults.observer import Observed
from faults.schedule import KINDS, Schedule, Step
from faults.traffic import Traffic
from faults.trial import Outcome
from rlu_attestation.encoding import b64u

pytestmark = [pytest.mark.tpm, pytest.mark.timeout(400)]

ONE = Schedule(
    101,
    1,
    (
        Step("flood_tls", 0.1, 0.6, "", 40),
        Step("signer_slow", 0.2, 0.8, "", 0.1),
        Step("terminate", 0.9, 0.3, "engine"),
        Step("clock", 1.1, 1.8, "", -600.0),
        Step("disk_full", 3.0, 1.6),
        Step("flood_requests", 3.4, 0.5, "", 30),
        Step("engine_bad", 4.2, 1.2),
        Step("few_files", 4.4, 0.8, "gateway", 2),
        Step("kill", 5.4, 0.3, "engine"),
        Step("kill", 5.8, 0.3, "gateway"),
        Step("disk_stall", 6.2, 0.5),
        Step("restart", 7.5, 0.3, "supervisor"),
    ),
)
TWO = Schedule(
    102,
    2,
    (
        Step("rotate", 0.1, 0.3, "retire"),
        Step("stall", 0.2, 1.5, "gateway"),
        Step("kill", 1.9, 0.3, "worker"),
        Step("flood_leaving", 2.1, 0.5, "", 30),
        Step("signer_fails", 2.5, 1.0, "", 0.8),
        Step("signer_garbles", 3.6, 0.6, "", 0.5),
        Step("kill", 4.2, 1.0, "tpm"),
        Step("signer_hangs_up", 5.2, 0.6, "", 0.3),
        Step("switch", 5.6, 0.3),
        Step("kill", 6.0, 0.3, "attestor"),
        Step("kill", 6.0, 0.0, "supervisor"),
    ),
)


@pytest.fixture(scope="module")
def one(manufactured_tpm: Path) -> Outcome:
    return trial.run(ONE, manufactured_tpm)


def judged(outcome: Outcome) -> None:
    assert [str(found) for found in outcome.violations] == [], outcome.said[-6000:]
    seen = outcome.observed
    assert {call.outcome for call in seen.calls} > {"whole", "left"}
    assert len(seen.opened) > 4
    assert outcome.proven > 0
    assert set(seen.memory) == {"supervisor", "attestor", "gateway", "filter", "engine"}


def said(outcome: Outcome) -> set[tuple[str, object]]:
    events = [json.loads(line) for line in outcome.said.splitlines() if line.startswith("{")]
    return {(event["event"], event.get("code", event.get("status"))) for event in events}


def test_everything_holds_with_one_worker(one: Outcome) -> None:
    judged(one)
    # The faults were there.
    assert said(one) >= {
        ("signer.failed", "clock.set_back"),
        ("gateway.exited", -9),
        ("engine.exited", -9),
        ("engine.exited", 0),
    }
    assert one.observed.restarted == [0]
    assert (("log.write_failed", "errno.28") in said(one)) == (os.geteuid() == 0)
    assert bool(one.omitted) == (os.geteuid() != 0)


def test_everything_holds_with_two_workers(manufactured_tpm: Path) -> None:
    two = trial.run(TWO, manufactured_tpm)
    judged(two)
    assert said(two) >= {("worker_lost", -9), ("signer.failed", "tpm.unreachable"), ("attestor.exited", -9)}
    assert ("model.switching", None) in said(two)
    assert {"key.rotated", "key.rotation_failed"} & {event for event, _ in said(two)}
    assert two.said.count('"event": "measuring"') == 2, "the supervisor was killed, and started again"


def test_every_kind_is_among_them() -> None:
    assert {step.kind for step in (*ONE.steps, *TWO.steps)} == set(KINDS)


def test_another_tenants_text_is_noticed(manufactured_tpm: Path) -> None:
    """The engine says what another tenant asked, which no part of the server could know."""

    def plant(traffic: Traffic) -> None:
        asked = traffic.ask

        async def leaking(tenant: str, script: str = "short", *rest: Any, **named: Any) -> Any:
            return await asked(tenant, "leak" if script == "short" else script, *rest, **named)

        traffic.ask = leaking  # type: ignore[method-assign]

    outcome = trial.run(Schedule(103, 1, (Step("engine_bad", 0.1, 0.1),)), manufactured_tpm, plant)
    assert {found.invariant for found in outcome.violations} == {"tenants"}


# --- what is broken in what a schedule left ---


def lines(seen: Observed) -> list[dict[str, Any]]:
    (log,) = seen.logs.values()
    return [json.loads(line) for line in log.splitlines()]


def rewritten(seen: Observed, records: list[dict[str, Any]]) -> Observed:
    log = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    return replace(seen, logs=dict.fromkeys(seen.logs, log))


def a_receipt_lost(seen: Observed) -> Observed:
    named = {call.receipt for call in seen.calls}
    records = lines(seen)
    records.remove(next(r for r in records if r["kind"] == "receipt" and (r["session"], r["seq"]) in named))
    return rewritten(seen, records)


def a_receipt_twice(seen: Observed) -> Observed:
    records = lines(seen)
    at = next(n for n, record in enumerate(records) if record["kind"] == "receipt")
    return rewritten(seen, [*records[:at], records[at], *records[at:]])


def a_receipt_that_nobody_asked_for(seen: Observed) -> Observed:
    session = seen.opened[0].session
    records = lines(seen)
    of_it = [r for r in records if r["kind"] == "receipt" and r["session"] == session]
    more = [{**of_it[0], "seq": len(of_it) + n} for n in range(1, 100)]
    return rewritten(seen, [*records, *more])


def one_number_for_two_answers(seen: Observed) -> Observed:
    whole = [call for call in seen.calls if call.receipt is not None]
    return replace(seen, calls=[*seen.calls, copy.copy(whole[0])])


def complete_though_cut(seen: Observed) -> Observed:
    complete = {
        (r["session"], r["seq"]) for r in lines(seen) if r["kind"] == "receipt" and r["status"] == "complete"
    }
    calls = [copy.copy(call) for call in seen.calls]
    next(call for call in calls if call.receipt in complete).outcome = "cut"
    return replace(seen, calls=calls)


def bytes_before_the_head(seen: Observed) -> Observed:
    calls = [copy.copy(call) for call in seen.calls]
    next(call for call in calls if call.receipt is not None).logged = dict.fromkeys(seen.logs, 10)
    return replace(seen, calls=calls)


def opened_before_the_head(seen: Observed) -> Observed:
    return replace(
        seen, opened=[replace(seen.opened[0], logged=dict.fromkeys(seen.logs, 10)), *seen.opened[1:]]
    )


def a_session_that_was_never_signed(seen: Observed) -> Observed:
    return replace(seen, opened=[replace(seen.opened[0], session=b64u(bytes(16))), *seen.opened[1:]])


def an_answer_without_a_session(seen: Observed) -> Observed:
    calls = [copy.copy(call) for call in seen.calls]
    next(call for call in calls if call.receipt is not None and call.content).headers = {}
    return replace(seen, calls=calls)


def another_statement_in_the_log(seen: Observed) -> Observed:
    return replace(seen, opened=[replace(seen.opened[0], statement=b64u(b"another")), *seen.opened[1:]])


def a_close_that_is_not_there(seen: Observed) -> Observed:
    records = lines(seen)
    assert seen.closed
    return rewritten(
        seen, [r for r in records if not (r["kind"] == "close" and r["session"] == seen.closed[0])]
    )


def somebody_elses_text(seen: Observed) -> Observed:
    calls = [copy.copy(call) for call in seen.calls]
    mine, other = (
        next(call for call in calls if call.marker and call.content and call.tenant == tenant)
        for tenant in ("acme", "globex")
    )
    mine.content += other.marker.encode()
    return replace(seen, calls=calls)


def a_call_that_hung(seen: Observed) -> Observed:
    calls = [copy.copy(call) for call in seen.calls]
    calls[-1].outcome = "hung"
    return replace(seen, calls=calls)


def a_log_that_is_no_log(seen: Observed) -> Observed:
    (log,) = seen.logs.values()
    return replace(seen, logs={1: log.replace(b'"kind":"head"', b'"kind":"heap"', 1)})


PLANTS: list[tuple[str, Callable[[Observed], Observed]]] = [
    ("receipts", a_receipt_lost),
    ("receipts", a_receipt_twice),
    ("receipts", a_receipt_that_nobody_asked_for),
    ("receipts", one_number_for_two_answers),
    ("receipts", complete_though_cut),
    ("unsigned", bytes_before_the_head),
    ("unsigned", opened_before_the_head),
    ("unsigned", a_session_that_was_never_signed),
    ("unsigned", an_answer_without_a_session),
    ("session", another_statement_in_the_log),
    ("session", a_close_that_is_not_there),
    ("tenants", somebody_elses_text),
    ("hangs", a_call_that_hung),
    ("log", a_log_that_is_no_log),
    ("contents", lambda seen: replace(seen, unproven=["receipt.response"])),
    ("memory", lambda seen: replace(seen, memory={"gateway": (1 << 20, 400 << 20)})),
    ("recovery", lambda seen: replace(seen, recovered_s=None)),
    ("recovery", lambda seen: replace(seen, recovered_s=observer.RECOVERY_S + 1)),
    ("log", lambda seen: replace(seen, audit=["log.fork"])),
    ("log", lambda seen: replace(seen, audit=None)),
    ("exit", lambda seen: replace(seen, exit_status=1)),
    ("exit", lambda seen: replace(seen, restarted=[None])),
    ("errors", lambda seen: replace(seen, errors=["internal.error ValueError"])),
    ("exit", lambda seen: replace(seen, left=["process 7"])),
]


@pytest.mark.parametrize(("invariant", "plant"), PLANTS, ids=lambda one: getattr(one, "__name__", None))
def test_the_observer_notices(one: Outcome, invariant: str, plant: Callable[[Observed], Observed]) -> None:
    found = observer.violations(plant(one.observed))
    assert invariant in {violation.invariant for violation in found}
