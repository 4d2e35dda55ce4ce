"""Lines of events into findings: what is over, what is a client's matter, what is no event at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_server.core.errors import CATALOGUE
from rlu_server.doctor.telling import OURS, RECOVERY, Told, judge_told
from rlu_server.doctor.words import GROUPS
from rlu_server.preflight.findings import Finding


def line(event: str, **values: object) -> bytes:
    return json.dumps({"event": event, **values}).encode()


def told(*lines: bytes) -> dict[str, Finding]:
    made = Told()
    made.read(lines)
    return {one.id: one for one in judge_told(made)}


def severities(*lines: bytes) -> dict[str, str]:
    return {id_: one.severity.value for id_, one in told(*lines).items()}


REFUSED = line("attestor.refused_to_start", level="error", code="tpm.unreachable")


def test_the_code_of_an_event_says_why() -> None:
    found = told(REFUSED, REFUSED)
    assert list(found) == ["tpm.unreachable"]
    one = found["tpm.unreachable"]
    assert one.severity.value == "error"
    assert one.found.startswith(
        "attestor.refused_to_start, tpm.unreachable (2 times): The TPM does not answer"
    )
    assert "tcti" in one.remedy


def test_what_is_over_is_information() -> None:
    recovered = line("attestor.started", level="info")
    assert severities(REFUSED, recovered) == {"tpm.unreachable": "info"}
    assert severities(recovered, REFUSED) == {"tpm.unreachable": "error"}
    assert severities(REFUSED, recovered, REFUSED) == {"tpm.unreachable": "error"}


@pytest.mark.parametrize(("trouble", "ends"), [(t, e) for t, ends in RECOVERY.items() for e in ends])
def test_every_recovery_ends_its_trouble(trouble: str, ends: str) -> None:
    level = {"level": "warning"} if trouble not in ("refused",) and "." not in trouble else {}
    first = line(trouble, **(level or {"level": "error"}))
    assert set(severities(first).values()) <= {"warning", "error"}
    assert set(severities(first, line(ends, level="info")).values()) == {"info"}


@pytest.mark.parametrize(
    ("status", "id_"),
    [(77, "exit.77"), (137, "exit.137"), (-9, "exit.137"), (-15, "exit.143"), (99, "engine.exited")],
)
def test_how_a_process_ended(status: int, id_: str) -> None:
    assert list(told(line("engine.exited", status=status))) == [id_]


def test_a_code_that_is_not_known_is_shown() -> None:
    (one,) = told(line("attestor_refused", level="warning", code="quark")).values()
    assert (one.id, one.found.startswith("attestor_refused, quark: ")) == ("attestor_refused", True)


def test_a_clients_matter_is_information_and_ours_is_not() -> None:
    theirs = line("request_refused", level="warning", code="json_malformed")
    ours = line("request_refused", level="warning", code="signer_unavailable")
    assert severities(theirs, ours) == {"json_malformed": "info", "signer_unavailable": "warning"}
    failed = line("exchange_failed", level="warning", code="engine_lost")
    assert severities(failed) == {"engine_lost": "warning"}


def test_the_codes_of_ours_are_refusals_of_the_servers_side() -> None:
    assert set(CATALOGUE) >= OURS
    assert {code for code, kind in CATALOGUE.items() if kind.status in (500, 502, 504)} <= OURS


def test_events_without_a_level_are_the_supervisors() -> None:
    assert severities(line("engine.known_answer_wrong")) == {"engine.known_answer_wrong": "error"}
    assert severities(line("output.withheld")) == {"output.withheld": "warning"}
    assert severities(line("refused", code="serve.lock_refused")) == {"serve.lock_refused": "error"}
    assert severities(line("serving", port=8443), line("draining")) == {}


def test_prefixes_and_what_is_no_event() -> None:
    made = Told()
    made.read(
        [
            b'[pod/rlu-0/attestor] {"event": "signer.failed", "level": "error", "code": "tpm.failed"}\n',
            b"2026-11-21T10:00:00Z stdout F " + line("receipt_lost", level="error", code="drain_timeout"),
            b"Traceback (most recent call last):",
            b'{"event": {"a": 1}}',
            b'{"event": "contains spaces and text"}',
            b"{" * 200_000,
            b"",
        ]
    )
    assert set(made.events) == {
        ("rlu-0/attestor", "signer.failed", "tpm.failed"),
        ("", "receipt_lost", "drain_timeout"),
    }
    assert (made.lines, made.others) == (7, 5)
    assert [one.id for one in judge_told(made)] == ["drain_timeout", "tpm.failed"]


def test_a_trouble_is_not_over_because_another_is_well() -> None:
    """Of another pod, told by a prefix or by the reader; of another engine."""
    first, second = b"[pod/rlu-0/attestor] ", b"[pod/rlu-1/attestor] "
    well = line("attestor.started", level="info")
    assert severities(first + REFUSED, second + well) == {"tpm.unreachable": "error"}
    assert severities(first + REFUSED, first + well) == {"tpm.unreachable": "info"}
    made = Told()
    made.read([REFUSED], "rlu-0/attestor")
    made.read([well], "rlu-1/attestor")
    (one,) = judge_told(made)
    assert one.severity.value == "error"
    assert one.found.startswith("rlu-0/attestor: attestor.refused_to_start, tpm.unreachable: ")
    lost = line("engine_lost", level="warning", engine="engine2")
    assert severities(lost, line("engine_ready", level="info", engine="engine")) == {"engine_lost": "warning"}
    assert severities(lost, line("engine_ready", level="info", engine="engine2")) == {"engine_lost": "info"}


def test_a_command_that_ended_by_itself() -> None:
    """A container whose command could not even begin: its error is JSON over several lines."""
    text = json.dumps(
        {"result": "error", "exit_code": 2, "code": "command.missing_extra", "message": "…"}, indent=2
    )
    found = told(*text.encode().splitlines())
    assert list(found) == ["command.missing_extra"]
    assert found["command.missing_extra"].severity.value == "error"
    assert list(told(b'  "code": "serve.settings",')) == ["serve.settings"]
    assert list(told(b'  "code": "no.such_code"')) == ["refused"]


def test_an_event_that_is_not_known() -> None:
    found = told(line("quark.decayed", level="error"))
    assert list(found) == ["quark.decayed"]
    assert "another version" in found["quark.decayed"].found


def test_the_worst_of_each() -> None:
    lines = (
        line("signer.failed", level="error", code="tpm.failed"),
        line("signer.recovered", level="info"),
        line("statement.renewal_failed", level="warning", code="tpm.failed"),
    )
    assert severities(*lines) == {"tpm.failed": "warning"}


def test_every_code_makes_a_finding_with_a_remedy() -> None:
    for group in GROUPS:
        for code in group.texts:
            (one,) = told(line("signer.failed", level="error", code=code)).values()
            assert (one.id, bool(one.remedy)) == (code, True)


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_bytes(lines: list[bytes]) -> None:
    made = Told()
    made.read(lines)
    judge_told(made)
    assert made.lines == len(lines)


@given(
    st.dictionaries(
        st.sampled_from(["event", "code", "level", "status"]), st.one_of(st.text(), st.integers(), st.none())
    )
)
def test_any_values(values: dict[str, object]) -> None:
    made = Told()
    made.read([json.dumps(values).encode()])
    judge_told(made)
