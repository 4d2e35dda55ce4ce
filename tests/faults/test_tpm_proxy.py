"""With a real software TPM behind it."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.tpm_proxy import Mode, TpmProxy
from rlu_server.attestor.errors import AttestorError
from rlu_server.attestor.tpm.connection import Tpm
from rlu_server.swtpm import SoftwareTpm

pytestmark = pytest.mark.tpm

GET_RANDOM = struct.pack(">HIIH", 0x8001, 12, 0x17B, 8)
SUCCESS, FAILURE = 0, 0x101


@pytest.fixture
def proxy(software_tpm: SoftwareTpm) -> Iterator[TpmProxy]:
    with TpmProxy(software_tpm.directory / "p", software_tpm.directory / "swtpm.sock") as made:
        yield made


@pytest.fixture
def line(proxy: TpmProxy) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(proxy.tcti.partition("path=")[2])
        yield client


def ask(line: socket.socket) -> bytes:
    line.sendall(GET_RANDOM)
    return line.recv(4096)


def code(answer: bytes) -> int:
    return int(struct.unpack(">HII", answer[:10])[2])


def test_it_passes_commands_and_answers(line: socket.socket, proxy: TpmProxy) -> None:
    first, second = ask(line), ask(line)
    assert (code(first), code(second)) == (SUCCESS, SUCCESS)
    assert len(first) == 20
    assert first != second
    assert proxy.commands == 2


def test_the_tss_talks_through_it(proxy: TpmProxy) -> None:
    tpm = Tpm(proxy.tcti)
    tpm.close()
    assert proxy.commands > 0


def test_it_takes_its_time(line: socket.socket, proxy: TpmProxy) -> None:
    proxy.mode = Mode(delay_s=0.2)
    began = time.monotonic()
    assert code(ask(line)) == SUCCESS
    assert time.monotonic() - began >= 0.2


def test_it_refuses(line: socket.socket, proxy: TpmProxy) -> None:
    proxy.mode = Mode(fails=1.0)
    assert ask(line) == struct.pack(">HII", 0x8001, 10, FAILURE)
    proxy.mode = Mode()
    assert code(ask(line)) == SUCCESS


def test_it_garbles(line: socket.socket, proxy: TpmProxy) -> None:
    proxy.mode = Mode(garbles=1.0)
    answers = [ask(line) for _ in range(8)]
    assert {len(answer) for answer in answers} == {20}
    assert any(answer[6:12] != bytes(4) + b"\x00\x08" for answer in answers)


def test_it_hangs_up(line: socket.socket, proxy: TpmProxy) -> None:
    proxy.mode = Mode(hangs_up=1.0)
    assert ask(line) == b""


def test_a_tpm_that_is_away_ends_the_connection(tmp_path: Path) -> None:
    with TpmProxy(tmp_path, tmp_path / "nobody") as proxy, pytest.raises(AttestorError):
        Tpm(proxy.tcti)
