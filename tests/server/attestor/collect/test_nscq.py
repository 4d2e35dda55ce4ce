"""NSCQ through ctypes, against a library compiled from C: structures, callbacks, every return code that means something."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest

from fakes.nscq import FakeFabric, FakeSwitch
from rlu_server.attestor.collect import nscq
from rlu_server.attestor.collect.nvml import Answer
from rlu_server.attestor.errors import AttestorError, HardwareRefused, HardwareUnavailable, NotReady

NONCE = bytes(range(32))
LABELS = ("SWX-00010203-0405-0607-0809-0A0B0C0D0E00", "SWX-00010203-0405-0607-0809-0A0B0C0D0E01")


def switch(**changes: object) -> FakeSwitch:
    values = {"report": lambda nonce: b"report over " + nonce, "chain": b"a chain"}
    return FakeSwitch(**values | changes)  # type: ignore[arg-type]


def fabric(directory: Path, *switches: FakeSwitch) -> FakeFabric:
    return FakeFabric(directory / "fabric", switches or [switch(), switch()])


def test_the_structures_are_the_headers() -> None:
    """Sizes as nscq_attestation.h 2.0.0 gives them."""
    assert ctypes.sizeof(nscq.Uuid) == 16
    assert ctypes.sizeof(nscq.Label) == 64
    assert ctypes.sizeof(nscq.AttestationReport) == 4 + 0x2000
    assert ctypes.sizeof(nscq.AttestationCertificate) == 0x1400 + 4
    assert (ctypes.sizeof(nscq.SessionResult), nscq.SessionResult.session.offset) == (16, 8)


def test_reports_of_each_switch(tmp_path: Path) -> None:
    made = fabric(
        tmp_path, switch(), switch(report=lambda nonce: b"other " + nonce, chain=b"another \0 chain")
    )
    with nscq.opened(made.shared_object) as opened:
        assert made.opened == 1
        assert opened.switches() == LABELS
        assert opened.attest(LABELS[0], NONCE) == Answer(b"report over " + NONCE, b"a chain")
        assert opened.attest(LABELS[1], NONCE) == Answer(b"other " + NONCE, b"another \0 chain")
    assert (made.nonces, made.opened) == ([NONCE, NONCE], 0)


def test_no_switches(tmp_path: Path) -> None:
    with nscq.opened(FakeFabric(tmp_path / "fabric", []).shared_object) as opened:
        assert opened.switches() == ()


def test_the_longest_report(tmp_path: Path) -> None:
    made = fabric(tmp_path, switch(report=lambda nonce: b"\1" * 0x2000, chain=b"c" * 0x1400))
    with nscq.opened(made.shared_object) as opened:
        answer = opened.attest(LABELS[0], NONCE)
    assert (len(answer.report), len(answer.certificates)) == (0x2000, 0x1400)


CODES: list[tuple[int, type[AttestorError], str, str]] = [
    (-1, NotReady, "nscq.driver", "too old"),
    (-2, HardwareRefused, "nscq.lost", "gone"),
    (-3, NotReady, "nscq.denied", "/dev/nvidia-nvswitchctl"),
    (-4, HardwareRefused, "nscq.size", "longer"),
    (-5, HardwareRefused, "nscq.failed", "return code -5"),
    (-6, NotReady, "nscq.driver", "different versions"),
    (-7, HardwareRefused, "nscq.failed", "return code -7"),
    (-8, HardwareUnavailable, "nscq.busy", "in time"),
    (-127, HardwareRefused, "nscq.failed", "return code -127"),
    (-128, HardwareRefused, "nscq.failed", "return code -128"),
]


@pytest.mark.parametrize(("code", "kind", "name", "text"), CODES, ids=[str(row[0]) for row in CODES])
def test_codes_that_an_observer_is_called_with(
    tmp_path: Path, code: int, kind: type[AttestorError], name: str, text: str
) -> None:
    made = fabric(tmp_path)
    made.say("attestation_report", code, switch=1)
    with nscq.opened(made.shared_object) as opened:
        opened.attest(LABELS[0], NONCE)
        with pytest.raises(kind, match=text) as caught:
            opened.attest(LABELS[1], NONCE)
    assert caught.value.code == name
    assert LABELS[1] in caught.value.message
    assert made.opened == 0


@pytest.mark.parametrize(
    "what",
    ["uuid", "attestation_report", "certificate", "nscq_uuid_to_label", "nscq_session_set_input"],
)
def test_every_call_is_checked(tmp_path: Path, what: str) -> None:
    made = fabric(tmp_path)
    made.fail(what, -8)
    with nscq.opened(made.shared_object) as opened, pytest.raises(HardwareUnavailable) as caught:
        opened.attest(opened.switches()[0], NONCE)
    assert (caught.value.code, made.opened) == ("nscq.busy", 0)


@pytest.mark.parametrize("what", ["uuid", "attestation_report", "certificate"])
def test_every_answer_is_checked(tmp_path: Path, what: str) -> None:
    made = fabric(tmp_path)
    made.say(what, -3)
    with nscq.opened(made.shared_object) as opened, pytest.raises(NotReady) as caught:
        opened.attest(opened.switches()[0], NONCE)
    assert caught.value.code == "nscq.denied"


@pytest.mark.parametrize("what", ["nscq_session_create", "uuid", "attestation_report"])
def test_a_warning_comes_with_an_answer(tmp_path: Path, what: str) -> None:
    made = fabric(tmp_path)
    made.fail(what, 1)
    made.say(what, 1)
    with nscq.opened(made.shared_object) as opened:
        assert opened.attest(opened.switches()[0], NONCE).report == b"report over " + NONCE


def test_no_session(tmp_path: Path) -> None:
    made = fabric(tmp_path)
    made.fail("nscq_session_create", -6)
    with pytest.raises(NotReady, match="a session") as caught, nscq.opened(made.shared_object):
        pass
    assert (caught.value.code, made.opened) == ("nscq.driver", 0)


def test_a_switch_that_went_away(tmp_path: Path) -> None:
    """The library calls nobody for a path that matches nothing."""
    made = fabric(tmp_path)
    with nscq.opened(made.shared_object) as opened:
        (made.directory / "count").write_text("1")
        with pytest.raises(HardwareRefused, match="0 answers") as caught:
            opened.attest(LABELS[1], NONCE)
    assert caught.value.code == "nscq.lost"


@pytest.mark.parametrize("size", [0, 0x2001])
def test_a_size_that_cannot_be(tmp_path: Path, size: int) -> None:
    made = fabric(tmp_path, switch(report=lambda nonce: bytes(size)))
    with nscq.opened(made.shared_object) as opened, pytest.raises(HardwareRefused) as caught:
        opened.attest(LABELS[0], NONCE)
    assert caught.value.code == "nscq.size"


def test_more_switches_than_a_node_has(tmp_path: Path) -> None:
    made = fabric(tmp_path)
    (made.directory / "count").write_text("33")
    with nscq.opened(made.shared_object) as opened, pytest.raises(HardwareRefused) as caught:
        opened.switches()
    assert caught.value.code == "nscq.count"


def test_no_library() -> None:
    with pytest.raises(NotReady, match="NVIDIA_NVSWITCH") as caught, nscq.opened("/none/libnvidia-nscq.so.2"):
        pass
    assert caught.value.code == "nscq.absent"


def test_a_library_that_is_another(tmp_path: Path) -> None:
    source = tmp_path / "empty.c"
    source.write_text("int nothing;\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "empty.so", source], check=True)
    with (
        pytest.raises(NotReady, match="nscq_session_create") as caught,
        nscq.opened(str(tmp_path / "empty.so")),
    ):
        pass
    assert caught.value.code == "nscq.driver"
