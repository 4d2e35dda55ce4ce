"""The firmware's log: its replay, and what it is not."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import intel
from fakes.pki import AT
from fakes.refusals import code_of
from fakes.tdx_changes import BINDING, REPORT_DATA, V4, genuine
from fakes.tdx_steps import failures
from rlu_attestation import x509
from rlu_attestation.evidence import tdx
from rlu_attestation.evidence.tdx import Root, parse_event_log

EV_NO_ACTION, EV_SEPARATOR, EV_IPL = 3, 4, 13
SHA256, SHA384 = 0x0B, 0x0C
EVENTS = [
    (1, EV_SEPARATOR, b"zero"),
    (2, EV_IPL, b"kernel"),
    (3, EV_IPL, b"command line"),
    (2, EV_IPL, b"end"),
]


def log(
    events: list[tuple[int, int, bytes]], register: int = 1, algorithm: int = SHA384, size: int = 48
) -> bytes:
    spec = (
        b"Spec ID Event03\0"
        + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, 1)
        + struct.pack("<HH", algorithm, size)
        + b"\0"
    )
    data = struct.pack("<II", register, EV_NO_ACTION) + bytes(20) + struct.pack("<I", len(spec)) + spec
    for number, kind, content in events:
        digest = hashlib.new("sha384" if size == 48 else "sha256", content).digest()
        data += struct.pack("<IIIH", number, kind, 1, algorithm) + digest
        data += struct.pack("<I", len(content)) + content
    return data


def rtmrs(events: list[tuple[int, int, bytes]]) -> dict[str, bytes]:
    values = {f"RTMR{n}": bytes(48) for n in range(4)}
    for number, kind, content in events:
        if kind != EV_NO_ACTION:
            name = f"RTMR{number - 1}"
            values[name] = hashlib.sha384(values[name] + hashlib.sha384(content).digest()).digest()
    return values


def codes(data: bytes | None, **fields: bytes) -> list[str]:
    parts = genuine()
    parts.quote = V4.quote(REPORT_DATA, **fields)
    parts.event_log = data
    return failures(parts.item(), BINDING, [Root.of(x509.parse(intel.root().der))])


@pytest.mark.parametrize("register", [0, 1])
def test_a_log_that_leads_to_the_registers(register: int) -> None:
    values = rtmrs(EVENTS)
    assert codes(log(EVENTS, register), **values) == []
    # What software extends later is in no log of the firmware.
    assert codes(log(EVENTS), **values | {"RTMR3": b"\7" * 48}) == []
    evidence = tdx.from_parts(V4.quote(**values).data, event_log=log(EVENTS, register))
    found = tdx.verify_event_log(evidence)
    assert found.covered == (0, 1, 2)
    assert [event.data for event in found.log.events] == [content for _, _, content in EVENTS]


@pytest.mark.parametrize("name", ["RTMR0", "RTMR1", "RTMR2"])
def test_another_register_refuses(name: str) -> None:
    values = rtmrs(EVENTS) | {name: b"\7" * 48}
    assert codes(log(EVENTS), **values) == ["tdx.event_log.mismatch"]


def test_a_log_changed_anywhere_that_counts_refuses() -> None:
    values = rtmrs(EVENTS)
    for events in (
        EVENTS[:-1],
        EVENTS[1:],
        [*EVENTS, EVENTS[0]],
        [EVENTS[0], EVENTS[3], EVENTS[2], EVENTS[1]],
    ):
        assert codes(log(events), **values) == ["tdx.event_log.mismatch"]
    assert codes(log([*EVENTS, (4, EV_IPL, b"later")]), **values) == ["tdx.event_log.mismatch"]
    assert codes(log([*EVENTS, (4, EV_NO_ACTION, b"note")]), **values) == []


def test_without_events_or_without_a_log() -> None:
    assert codes(log([])) == ["tdx.event_log.empty"]
    evidence = tdx.from_parts(V4.quote().data)
    assert code_of(lambda: tdx.verify_event_log(evidence)) == "tdx.event_log.missing"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        log(EVENTS, 2),
        log(EVENTS, algorithm=SHA256, size=32),
        log([(0, EV_IPL, b"MRTD is not extended")]),
        log([(5, EV_IPL, b"no such register")]),
        log(EVENTS) + b"\xff",
        log(EVENTS)[:-1],
    ],
    ids=["empty", "register", "sha256", "mrtd", "rtmr4", "padding", "cut"],
)
def test_what_is_no_log_of_rtmrs_refuses(data: bytes) -> None:
    assert code_of(lambda: parse_event_log(data)) == "tdx.event_log.encoding"
    assert codes(data, **rtmrs(EVENTS)) == ["tdx.event_log.encoding"]


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    assert code_of(lambda: parse_event_log(data)) in (None, "tdx.event_log.encoding")
    assert code_of(lambda: parse_event_log(log([]) + data)) in (None, "tdx.event_log.encoding")


def test_the_log_is_no_matter_for_the_rest() -> None:
    evidence = tdx.from_parts(
        genuine().quote.data, tdx.collateral_from_json(genuine().pccs()), event_log=b"x"
    )
    assert (
        tdx.verify(evidence, AT, [Root.of(x509.parse(intel.root().der))]).status is tdx.TcbStatus.UP_TO_DATE
    )
