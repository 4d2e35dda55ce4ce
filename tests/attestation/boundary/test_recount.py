"""A report counted again from exported entries: in any order, repeated, missing, and telling another story."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fakes.boundary import day, examined, report
from rlu_attestation.boundary.check import Examined
from rlu_attestation.boundary.recount import Recount
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed

Record = dict[str, Any]
DAY = day()


def exported() -> list[Record]:
    """What an exporter of the day's logs was handed."""
    records: list[Record] = []
    for instance in DAY:
        for tally, _ in instance.tallies:
            kinds = ["session"] * tally.sessions + ["close"] * tally.closes
            kinds += [status for status, count in tally.receipts.items() for _ in range(count)]
            for index, kind in enumerate([*kinds, "tally"], tally.first):
                record: Record = {
                    "rlu_log": "1",
                    "iss": instance.issuer,
                    "index": index,
                    "iat": tally.issued_at,
                }
                record |= (
                    {"kind": kind}
                    if kind in ("session", "close", "tally")
                    else {"kind": "receipt", "status": kind}
                )
                records.append({**record, "leaf": b64u(instance.leaves[index])})
        records.append(
            {
                "rlu_log": "1",
                "iss": instance.issuer,
                "index": len(instance.leaves),
                "kind": "head",
                "head": "AA",
            }
        )
    return records


def counted(records: list[Record]) -> Examined:
    counting = Recount(examined(report(DAY)))
    for record in records:
        counting.take(record)
    return counting.examined()


def test_all_entries_agree() -> None:
    records = exported()
    assert counted(records).result == "verified"
    shuffled = records * 2
    random.Random(5).shuffle(shuffled)
    assert counted(shuffled).result == "verified"


def test_logs_of_others_are_passed_over() -> None:
    other = {
        "rlu_log": "1",
        "iss": "urn:rlu:instance:other",
        "index": 0,
        "kind": "close",
        "leaf": "AA",
        "iat": 1,
    }
    assert counted([*exported(), other]).result == "verified"


def test_entries_that_are_missing_leave_it_open() -> None:
    found = counted([])
    assert (found.exit_code, {point.code for point in found.open}) == (11, {"boundary.open.entries"})
    for index, record in enumerate(exported()):
        fewer = exported()
        del fewer[index]
        of_the_period = index >= 6 and record["kind"] != "head"
        within = of_the_period and not (record["iss"] == DAY[1].issuer and record["index"] >= 22)
        assert counted(fewer).result == ("verified_except_open" if within else "verified"), record


def test_another_story_is_found() -> None:
    """Of every entry of the period another kind or status is told."""
    second = DAY[1].issuer
    for index, record in enumerate(exported()):
        if index < 6 or record["kind"] == "head" or (record["iss"] == second and record["index"] >= 22):
            continue
        others = exported()
        others[index]["kind"] = "gap"
        found = counted(others)
        assert (found.exit_code, {point.code for point in found.false}) == (10, {"boundary.entries"}), record
    others = exported()
    receipt = next(n for n, record in enumerate(others) if n > 6 and record.get("status") == "complete")
    others[receipt]["status"] = "failed"
    assert counted(others).exit_code == 10
    others = exported()
    tally = next(n for n, record in enumerate(others) if n > 6 and record["kind"] == "tally")
    others[tally]["leaf"] = b64u(bytes(32))
    assert counted(others).exit_code == 10


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        {},
        {"rlu_log": "2", "iss": "x", "index": 1, "kind": "close"},
        {"rlu_log": "1", "iss": "x", "index": True, "kind": "close"},
        {"rlu_log": "1", "iss": 1, "index": 1, "kind": "close"},
        {"rlu_log": "1", "iss": "x", "index": 1, "kind": "prompt"},
        {"rlu_log": "1", "iss": "x", "index": 1, "kind": "receipt", "status": "fine"},
    ],
)
def test_what_is_no_entry(record: Any) -> None:
    with pytest.raises(Malformed, match=r"boundary\.entries\.encoding"):
        counted([record])
