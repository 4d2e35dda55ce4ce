"""When receipts may be missing: only what attestor and gateway lost together. The rest of the observer is tried in test_trial.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faults.losses import SETTLED_S, lost_together
from faults.observer import Observed, unexpected, violations
from faults.traffic import Call
from rlu_attestation.encoding import b64u
from rlu_attestation.log.tally import Tally
from rlu_attestation.merkle import leaf_hash
from rlu_server.attestor import records

UP = [(1.0, "measuring"), (2.0, "attestor_connected"), (2.5, "gateway_ready")]


def spans(*more: tuple[float, str]) -> list[tuple[float, float]]:
    return lost_together([{"time": at, "event": name} for at, name in (*UP, *more)])


def test_one_of_them_loses_nothing() -> None:
    assert spans((10.0, "gateway.exited"), (10.1, "gateway.lost"), (15.0, "attestor_connected")) == []
    assert spans((10.0, "attestor.exited"), (15.0, "attestor_connected"), (16.0, "gateway.exited")) == []


def test_the_gateway_dies_while_the_attestor_is_away() -> None:
    assert spans((10.0, "attestor.exited"), (12.0, "gateway.exited")) == [(10.0 - SETTLED_S, 12.0)]


def test_the_gateway_dies_before_it_has_told_the_new_attestor() -> None:
    away = ((10.0, "attestor.exited"), (15.0, "attestor_connected"))
    assert spans(*away, (15.1, "gateway.exited")) == [(10.0 - SETTLED_S, 15.1)]
    assert spans(*away, (15.1, "worker_ready"), (18.0, "measuring")) == [(10.0 - SETTLED_S, 18.0)]
    assert spans(*away, (16.0, "gateway.exited"), (16.1, "gateway.lost")) == []


def test_the_attestor_dies_before_it_has_logged_what_the_gateway_left_open() -> None:
    assert spans((10.0, "gateway.exited"), (10.1, "attestor.exited")) == [(10.0 - SETTLED_S, 10.1)]
    late = ((10.0, "gateway.exited"), (10.1, "gateway.lost"), (20.0, "attestor.exited"))
    assert spans(*late) == []
    assert spans((8.0, "signer.failed"), *late) == [(8.0 - SETTLED_S, 20.0)]
    assert spans((8.0, "signer.failed"), (9.0, "signer.recovered"), *late) == []


def test_what_waited_for_the_signer_is_not_there_at_once() -> None:
    """Killed just after the signer was well again: what it had refused was still to come."""
    trouble = ((8.0, "signer.failed"), (9.5, "signer.recovered"), (9.7, "request_answered"))
    assert spans(*trouble, (12.0, "measuring")) == [(8.0 - SETTLED_S, 12.0)]
    later = 9.6 + SETTLED_S
    assert spans(*trouble, (later, "request_answered"), (12.0, "measuring")) == [(later - SETTLED_S, 12.0)]


def test_the_supervisor_is_asked_to_stop() -> None:
    """What was under way is in the log before it ends."""
    again = ((12.0, "stopped"), (13.0, "measuring"))
    assert spans((10.0, "draining"), *again) == []
    assert spans((8.0, "signer.failed"), (10.0, "draining"), *again) == []
    assert spans((9.0, "attestor.exited"), (10.0, "draining"), *again) == [(9.0 - SETTLED_S, 12.0)]
    assert spans((10.0, "draining"), *again, (15.0, "attestor_connected"), (20.0, "measuring")) == [
        (15.0 - SETTLED_S, 20.0)
    ]


def test_the_supervisor_is_killed() -> None:
    assert spans((10.0, "request_refused"), (12.0, "measuring")) == [(10.0 - SETTLED_S, 12.0)]


def call(began: float, seconds: float) -> Call:
    made = Call("acme", "mk-acme-00000001-00000000", "short", b"", None)
    made.outcome, made.status, made.began, made.seconds = "whole", 200, began, seconds
    made.headers = {"rlu-receipt": "/v1/rlu/receipts/AAAA/1"}
    return made


def test_errors_that_nobody_has_thought_of_are_noticed() -> None:
    events = [
        {"time": 1.0, "event": "attestor.exited", "status": -9},
        {"time": 2.0, "event": "internal.error", "code": "ValueError"},
        {"time": 3.0, "event": "gateway.stopped", "status": 0},
        {"time": 4.0, "event": "engine.stopped", "status": -9},
        {"time": 5.0, "event": "attestor.stopped"},
        {"time": 6.0, "event": "attestor.stopped", "status": 1},
    ]
    assert unexpected(events) == ["internal.error ValueError", "attestor.stopped 1"]


@pytest.mark.parametrize(("began", "excused"), [(5.0, False), (9.5, True), (12.5, False)])
def test_only_what_was_under_way_is_excused(began: float, excused: bool) -> None:
    seen = Observed([call(began, 1.0)], [], [], {}, recovered_s=0.1, audit=[], exit_status=0, lost=[(10, 12)])
    found = [str(one) for one in violations(seen)]
    assert (found == []) == excused, found
    if not excused:
        assert found == ["receipts: exchange ('AAAA', 1) is not in the log"]


def test_after_a_restart_of_the_attestor_receipts_are_counted() -> None:
    """It gives what it had not logged new numbers; a receipt too few is noticed all the same."""
    head = '{"head":"AAAA","kind":"head","size":1}\n'
    line = (
        '{"iat":1,"index":0,"kind":"receipt","leaf":"%s","seq":4,"session":"AAAAAAAAAAAAAAAAAAAAAA","status":"complete","usage":[0,0,0]}\n'
        % ("A" * 43)
    )
    first, second = call(5.0, 1.0), call(7.0, 1.0)
    for number, one in enumerate((first, second), 1):
        one.headers = {"rlu-receipt": f"/v1/rlu/receipts/AAAAAAAAAAAAAAAAAAAAAA/{number}"}
    seen = Observed(
        [first],
        [],
        [],
        {1: (line + head).encode()},
        recovered_s=0.1,
        audit=[],
        exit_status=0,
        attestor_restarted=True,
    )
    assert violations(seen) == []
    found = violations(replace(seen, calls=[first, second]))
    assert [str(one) for one in found] == [
        "receipts: session AAAAAAAAAAAAAAAAAAAAAA: 1 receipts for 2 answers"
    ]
    assert violations(replace(seen, attestor_restarted=False))


@pytest.mark.parametrize(("closes", "noticed"), [(1, False), (2, True)])
def test_a_tally_that_counts_something_else_is_noticed(closes: int, noticed: bool) -> None:
    """Two sessions, of which one was closed; or a tally that says that both were."""
    names = ("A" * 22, "B" * 22)
    lines = [records.session_line(n, name, bytes(32), 1, 9, bytes(32)) for n, name in enumerate(names)]
    lines.append(records.close_line(2, names[0], bytes(32), 2))
    tally = Tally(
        issuer="urn:rlu:instance:x",
        issued_at=3,
        blind=bytes(16),
        number=1,
        first=0,
        next=3,
        since=None,
        start_count=1,
        key_created=0,
        key_hardware="tpm2",
        predecessor=None,
        sessions=3 - closes,
        profiles=(),
        receipts=dict.fromkeys(("complete", "partial", "aborted", "failed"), 0),
        closes=closes,
        gaps=0,
        refused={},
        drift={},
    )
    data = tally.encode()
    lines.append(records.tally_line(3, leaf_hash(data), 3, data))
    lines.append(records.close_line(4, names[1], bytes(32), 4))
    lines.append(records.head_line(b"head", 5))
    seen = Observed([], [], [], {1: b"".join(lines)}, recovered_s=0.1, audit=[], exit_status=0)
    found = [one.invariant for one in violations(seen)]
    assert found == (["log"] if noticed else []), b64u(data)
