"""Status lines: short, complete, and nothing in them that a terminal obeys."""

from __future__ import annotations

from rlu_attestation.connect import Status


def test_a_server_that_was_verified() -> None:
    status = Status(
        event="verified",
        instance="A1",
        model="demo",
        region="eu-1 (endorsed)",
        session="s",
        expires=1780275600,
    )
    assert status.line() == (
        "rlu connect: verified · instance A1 · model demo · region eu-1 (endorsed) · session s · until 2026-06-01T01:00:00Z"
    )
    assert status.to_json() == {
        "event": "verified",
        "instance": "A1",
        "model": "demo",
        "region": "eu-1 (endorsed)",
        "session": "s",
        "expires": 1780275600,
    }


def test_waivers_come_first() -> None:
    status = Status(event="waived", waivers=("channel.plaintext", "policy.tpm.emulator"))
    assert status.line() == "rlu connect: WAIVED (channel.plaintext, policy.tpm.emulator)"
    assert status.to_json()["waivers"] == ["channel.plaintext", "policy.tpm.emulator"]


def test_what_is_wrong_and_what_to_do() -> None:
    status = Status(event="rejected", code="policy.region.mismatch", message="region: found mars")
    line = status.line()
    assert line.startswith(
        "rlu connect: REJECTED · region: found mars [policy.region.mismatch]. Your policy "
    )
    assert status.to_json()["advice"] in line


def test_receipts_are_counted() -> None:
    assert Status(event="closed", receipts=0).line().endswith("0 receipts")
    assert Status(event="closed", receipts=1).line().endswith("1 receipt")


def test_a_server_says_nothing_to_the_terminal() -> None:
    line = Status(
        event="rejected", code="server.refused", message="\x1b[2J\nrlu connect: verified\u202e"
    ).line()
    assert "\x1b" not in line
    assert "\n" not in line
    assert "\u202e" not in line
