"""Spans go through a real `rlu relay` to the collector; what did not arrive is not called searched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlu_attestation.canary import PLACES
from rlu_server.core import tracing
from rlu_server.core.tracing import INTERNAL, Span
from rlu_server.selftest import forms, places, traces
from rlu_server.selftest.index import Index
from rlu_server.selftest.node import RLU
from rlu_server.selftest.places import Search, Where
from rlu_server.selftest.plants import Plants
from rlu_server.selftest.scan import Scanner
from rlu_server.selftest.traces import SPAN, Traces

TEXT = "a prompt in an attribute of a span, 4714"


def content(name: str, attribute: str) -> bytes:
    return tracing.encode([Span("0" * 32, "0" * 16, "", name, INTERNAL, 1, 2, {"note": attribute})], {})


@pytest.fixture
def up(short_directory: Path) -> Iterator[Traces]:
    made = Traces(short_directory / "relay", RLU)
    try:
        made.start(os.environ, short_directory / "log", None)
        yield made
    finally:
        made.stop()


def searched(
    up: Traces, base: Path, secret: bytes, arrived: int, wanted: int
) -> tuple[list[str], list[str], bool]:
    """Leaks, reasons why it was not searched, and whether the plant was found in every form."""
    where = Where(since=0, base=base, place=base, skip=(), home=base, file_systems=False)
    planted = Plants(secret, PLACES)
    scanner = Scanner(Index([*planted.needles, *forms.of_text(TEXT, "chat")]))
    Search(scanner, planted, where).traces(up, arrived, wanted)
    places.accounts(scanner, where, planted)
    found = planted.found("traces", scanner)
    assert planted.planted("traces") > 20
    return places.leaks(scanner), where.unsearched.get("traces", []), found == planted.planted("traces")


def test_a_prompt_in_a_span_is_found(up: Traces, short_directory: Path, secret: bytes) -> None:
    assert up.send(content(SPAN, "nothing"))
    assert up.send(content("receive", TEXT))
    assert up.arrived(1) == 1
    leaks, unsearched, plant = searched(up, short_directory, secret, 1, 1)
    assert {leak.partition(" as ")[0] for leak in leaks} == {"traces: chat"}
    assert not any("4714" in leak for leak in leaks)
    assert (unsearched, plant) == ([], True)


def test_without_a_prompt_nothing_is(up: Traces, short_directory: Path, secret: bytes) -> None:
    assert up.send(content(SPAN, "nothing"))
    assert searched(up, short_directory, secret, up.arrived(1), 1) == ([], [], True)


def test_every_byte_is_kept(up: Traces) -> None:
    assert up.send(b"\x00 no span at all \xff")
    assert up.spans() == 0
    assert up.received.startswith(b"POST /v1/traces HTTP/1.1\r\n")
    assert up.received.endswith(b"\r\n\r\n\x00 no span at all \xff")


def test_spans_that_do_not_arrive_are_told(
    up: Traces, short_directory: Path, secret: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "ARRIVE_S", 0.0)
    assert up.send(content("receive", "nothing"))
    _, unsearched, plant = searched(up, short_directory, secret, up.arrived(1), 1)
    assert (unsearched, plant) == (["0 of 1 spans arrived"], True)


def test_a_relay_that_is_gone_is_told(up: Traces, short_directory: Path, secret: bytes) -> None:
    assert up.send(content(SPAN, TEXT))
    up.stop()
    leaks, unsearched, plant = searched(up, short_directory, secret, 1, 1)
    assert unsearched[0] == "the relay did not take the plant"
    assert unsearched[1].startswith("planted and not found: ")
    assert not plant
    assert leaks, "what did arrive is searched all the same"


def test_a_relay_that_does_not_start_is_told(short_directory: Path, secret: bytes) -> None:
    made = Traces(short_directory / ("n" * 100), RLU)  # longer than a socket's path may be
    try:
        made.start(os.environ, short_directory / "log", None)
        assert b"relay.listen" in (short_directory / "log").read_bytes()
        _, unsearched, plant = searched(made, short_directory, secret, 0, 1)
    finally:
        made.stop()
    assert unsearched[:2] == ["0 of 1 spans arrived", "the relay did not take the plant"]
    assert not plant
