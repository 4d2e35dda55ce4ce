"""The event log: read strictly, replayed as the firmware extended it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.refusals import code_of
from fakes.tpm import EV_NO_ACTION, EV_POST_CODE, EV_SEPARATOR, FakeTpm
from rlu_attestation.errors import Malformed, Untrusted
from rlu_attestation.tpm import eventlog
from rlu_attestation.tpm.constants import Alg

HEADER = 4 + 4 + 20 + 4


def measured(banks: tuple[str, ...] = ("sha256",)) -> FakeTpm:
    tpm = FakeTpm("log", banks=banks)
    tpm.measure(0, b"firmware volume")
    tpm.measure(0, bytes(4), EV_SEPARATOR)
    tpm.measure(4, b"boot loader")
    tpm.measure(17, b"dynamic root of trust")
    return tpm


def pcrs(tpm: FakeTpm, *numbers: int) -> dict[str, dict[int, bytes]]:
    return tpm.values(dict.fromkeys(tpm.banks, numbers))


@pytest.mark.parametrize("banks", [("sha256",), ("sha1", "sha256"), ("sha1", "sha256", "sha384", "sha512")])
def test_a_log_leads_to_the_pcrs(banks: tuple[str, ...]) -> None:
    tpm = measured(banks)
    log = eventlog.parse(tpm.event_log())
    assert [(event.pcr, event.event_type, event.data) for event in log.events] == tpm.events
    found = eventlog.verify_replay(log, pcrs(tpm, 0, 1, 4, 17))
    assert found.covered == dict.fromkeys(banks, (0, 1, 4, 17))


def test_events_without_action_extend_nothing() -> None:
    tpm = measured()
    tpm.measure(4, b"a note", EV_NO_ACTION)
    eventlog.verify_replay(eventlog.parse(tpm.event_log()), pcrs(tpm, 0, 4))


@pytest.mark.parametrize("locality", [0, 3, 4])
def test_startup_locality_is_what_pcr_0_starts_with(locality: int) -> None:
    tpm = FakeTpm("log")
    tpm.pcrs["sha256"][0] = bytes(31) + bytes([locality])
    tpm.measure(0, b"StartupLocality\x00" + bytes([locality]), EV_NO_ACTION)
    tpm.measure(0, b"firmware volume")
    tpm.measure(1, b"configuration")
    log = eventlog.parse(tpm.event_log())
    assert log.startup_locality == locality
    assert eventlog.verify_replay(log, pcrs(tpm, 0, 1)).covered == {"sha256": (0, 1)}


def test_a_bank_that_the_log_lacks_is_not_covered() -> None:
    tpm = measured(("sha256", "sha384"))
    log = eventlog.parse(measured().event_log())
    assert eventlog.verify_replay(log, pcrs(tpm, 4)).covered == {"sha256": (4,)}
    with pytest.raises(Untrusted) as refused:
        eventlog.verify_replay(log, {"sha384": pcrs(tpm, 4)["sha384"]})
    assert refused.value.code == "quote.eventlog.uncovered"


def test_a_log_of_none_of_the_quoted_pcrs_is_refused() -> None:
    tpm = measured()
    with pytest.raises(Untrusted) as refused:
        eventlog.verify_replay(eventlog.parse(tpm.event_log()), pcrs(tpm, 10, 23))
    assert refused.value.code == "quote.eventlog.uncovered"


def test_every_wrong_pcr_is_named() -> None:
    tpm = measured()
    values = {"sha256": {0: bytes(32), 4: tpm.pcrs["sha256"][4], 17: bytes(32)}}
    with pytest.raises(Untrusted, match="sha256:0, sha256:17") as refused:
        eventlog.verify_replay(eventlog.parse(tpm.event_log()), values)
    assert refused.value.code == "quote.eventlog.mismatch"


def test_digests_of_unknown_algorithms_are_passed_over() -> None:
    tpm = measured()
    known = tpm.event_log()
    # SM3 listed beside SHA-256, with a digest in every event.
    data = add_algorithm(known, 0x0012, 32)
    log = eventlog.parse(data)
    assert log.algorithms == (Alg.SHA256,)
    eventlog.verify_replay(log, pcrs(tpm, 0, 4))


def add_algorithm(data: bytes, algorithm: int, size: int) -> bytes:
    """The same log with one more digest an event; algorithm lists are little endian."""
    entry = algorithm.to_bytes(2, "little")
    spec_size = int.from_bytes(data[28:32], "little")
    spec = data[HEADER : HEADER + spec_size]
    spec = spec[:24] + (2).to_bytes(4, "little") + spec[28:-1] + entry + size.to_bytes(2, "little") + b"\x00"
    out, rest = data[:28] + len(spec).to_bytes(4, "little") + spec, data[HEADER + spec_size :]
    while rest:
        body = rest[12 : 12 + 34]
        event_size = int.from_bytes(rest[46:50], "little")
        out += rest[:8] + (2).to_bytes(4, "little") + body + entry + bytes(size) + rest[46 : 50 + event_size]
        rest = rest[50 + event_size :]
    return out


def replaced(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


LOG = measured().event_log()
FIRST = HEADER + int.from_bytes(LOG[28:32], "little")
TWO = measured(("sha1", "sha256")).event_log()
FIRST_OF_TWO = HEADER + int.from_bytes(TWO[28:32], "little")

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "pcrIndex needs 4"),
    "truncated-header": (lambda: LOG[: HEADER - 1], "eventDataSize needs"),
    "truncated-event": (lambda: LOG[:-1], "event needs"),
    "trailing-garbage": (lambda: LOG + b"\x00", "pcrIndex needs 4"),
    "oversize": (lambda: LOG + bytes(200_000), "at most"),
    "first-event-in-pcr-1": (lambda: replaced(LOG, 0, b"\x01"), "does not begin with"),
    "first-event-extends": (lambda: replaced(LOG, 4, b"\x01"), "does not begin with"),
    "first-digest-not-zero": (lambda: replaced(LOG, 8, b"\x01"), "digest is reserved"),
    "older-format": (lambda: LOG.replace(b"Event03", b"Event02"), "not crypto-agile"),
    "no-algorithms": (lambda: replaced(LOG, HEADER + 24, b"\x00"), "number of algorithms"),
    "nine-algorithms": (lambda: replaced(LOG, HEADER + 24, b"\x09"), "number of algorithms"),
    "algorithm-twice": (lambda: replaced(TWO, HEADER + 32, b"\x04"), "listed twice"),
    "digest-size-zero": (lambda: replaced(LOG, HEADER + 30, b"\x00"), "impossible size"),
    "digest-size-65": (lambda: replaced(LOG, HEADER + 30, b"\x41"), "impossible size"),
    "another-digest-size": (lambda: replaced(LOG, HEADER + 30, b"\x14"), "not its algorithm's"),
    "vendor-info-longer-than-spec-id": (lambda: replaced(LOG, FIRST - 1, b"\x01"), "vendorInfo needs"),
    "spec-id-with-leftovers": (
        lambda: (
            LOG[:28] + (FIRST - HEADER + 1).to_bytes(4, "little") + LOG[HEADER:FIRST] + b"\x00" + LOG[FIRST:]
        ),
        "left over",
    ),
    "pcr-24": (lambda: replaced(LOG, FIRST, b"\x18"), "PCR 24 does not exist"),
    "no-digests": (lambda: replaced(LOG, FIRST + 8, b"\x00"), "every digest"),
    "two-digests": (lambda: replaced(LOG, FIRST + 8, b"\x02"), "every digest"),
    "unlisted-digest": (lambda: replaced(LOG, FIRST + 12, b"\x0c"), "unlisted algorithm"),
    "digest-twice": (
        lambda: (
            TWO[: FIRST_OF_TWO + 12]
            + 2 * TWO[FIRST_OF_TWO + 12 : FIRST_OF_TWO + 34]
            + TWO[FIRST_OF_TWO + 68 :]
        ),
        "given twice",
    ),
    "event-longer-than-log": (lambda: replaced(LOG, FIRST + 46, b"\xff\xff\xff\xff"), "event needs"),
    "locality-after-the-first-extension": (lambda: with_locality_at_the_end(), "StartupLocality"),
    "locality-twice": (lambda: with_locality(2, b"\x03"), "StartupLocality"),
    "locality-of-two-bytes": (lambda: with_locality(1, b"\x03\x00"), "StartupLocality"),
}


def with_locality_at_the_end() -> bytes:
    tpm = measured()
    tpm.measure(0, b"StartupLocality\x00\x03", EV_NO_ACTION)
    return tpm.event_log()


def with_locality(times: int, value: bytes) -> bytes:
    tpm = FakeTpm("log")
    for _ in range(times):
        tpm.measure(0, b"StartupLocality\x00" + value, EV_NO_ACTION)
    return tpm.event_log()


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    make, reason = REFUSED[name]
    with pytest.raises(Malformed, match=reason) as refused:
        eventlog.parse(make())
    assert refused.value.code == "tpm2.event_log"


def test_replay_by_hand() -> None:
    tpm = FakeTpm("log")
    tpm.measure(1, b"a", EV_POST_CODE)
    tpm.measure(1, b"b", EV_POST_CODE)
    first = hashlib.sha256(bytes(32) + hashlib.sha256(b"a").digest()).digest()
    second = hashlib.sha256(first + hashlib.sha256(b"b").digest()).digest()
    values = eventlog.replay(eventlog.parse(tpm.event_log()), Alg.SHA256)
    assert values == {pcr: second if pcr == 1 else bytes(32) for pcr in range(8)}


@given(st.binary(max_size=200), st.integers(0, len(LOG)))
def test_arbitrary_bytes_raise_only_our_error(tail: bytes, keep: int) -> None:
    data = LOG[:keep] + tail
    code = code_of(lambda: eventlog.verify_replay(eventlog.parse(data), {"sha256": {0: bytes(32)}}))
    assert code in ("tpm2.event_log", "quote.eventlog.mismatch", "quote.eventlog.uncovered")
