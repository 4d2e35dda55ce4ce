"""What the journal of egress says of a period, and that nothing else may stand in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rlu_attestation.boundary.report import Figure
from rlu_server.boundary import egress
from rlu_server.boundary.kept import Unusable
from rlu_server.outreach.letters import BEGUN, Crossing

ONE = Crossing(100, "telemetry", "telemetry.example:443", "", 500, 20, "ab" * 32, "sent")


def line(**changes: Any) -> bytes:
    return json.dumps({**asdict(ONE), **changes}).encode() + b"\n"


def by_name(figures: list[Figure]) -> dict[tuple[str, str], int]:
    return {(figure.name, dict(figure.of).get("job", "")): figure.value for figure in figures}


def test_what_is_of_the_period_is_counted(tmp_path: Path) -> None:
    lines = [
        line(time=99),
        line(),
        line(time=150, result="relay.unreachable", received=0),
        line(time=199, job="licence", sent=7, proxy="proxy.example:3128"),
        line(time=200),
    ]
    journal = tmp_path / "egress.jsonl"
    journal.write_bytes(b"".join(lines))
    found = egress.figures(journal, 100, 200)
    assert {figure.source for figure in found} == {"asserted"}
    assert by_name(found) == {
        ("egress.journal", ""): 3,
        ("egress.attempts", "telemetry"): 2,
        ("egress.delivered", "telemetry"): 1,
        ("egress.sent", "telemetry"): 1000,
        ("egress.received", "telemetry"): 20,
        ("egress.attempts", "licence"): 1,
        ("egress.delivered", "licence"): 1,
        ("egress.sent", "licence"): 7,
        ("egress.received", "licence"): 20,
    }
    assert dict(found[0].of)["sha256"] == hashlib.sha256(b"".join(lines[1:4])).hexdigest()
    assert {dict(figure.of)["proxy"] for figure in found[1:]} == {"none", "proxy.example:3128"}


def test_a_contact_that_was_only_begun_is_named_and_no_attempt() -> None:
    """What a job that was killed leaves."""
    begun = line(job="update", result=BEGUN, sent=0, received=0)
    found = by_name(egress.count([begun], 0, 200))
    assert found == {
        ("egress.journal", ""): 1,
        **{(f"egress.{name}", "update"): 0 for name in ("attempts", "delivered", "sent", "received")},
    }
    assert (
        by_name(egress.count([begun, line(job="update", sent=0)], 0, 200))[("egress.attempts", "update")] == 1
    )


def test_no_journal(tmp_path: Path) -> None:
    (figure,) = egress.figures(tmp_path / "none", 0, 10)
    assert (figure.name, figure.value, figure.of) == ("egress.journal", 0, (("sha256", "none"),))


@pytest.mark.parametrize(
    "damaged",
    [b"no line\n", b"{}\n", line(time="100"), line(sent=1.5), line(job=None), line(sent=-1), b"[" * 5000],
)
def test_what_is_no_line(tmp_path: Path, damaged: bytes) -> None:
    journal = tmp_path / "egress.jsonl"
    journal.write_bytes(line() + damaged)
    with pytest.raises(Unusable, match=r"boundary\.egress: line 2") as refusal:
        egress.figures(journal, 0, 1000)
    assert refusal.value.exit_code == 2


def test_a_journal_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=r"boundary\.egress"):
        egress.figures(tmp_path, 0, 1000)
