"""`rlu relay` as a process: it serves, and ends when it is told to."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from fakes.collector import Collector
from rlu_server.selftest.node import RLU
from waiting import wait_until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_it_is_told_to(number: signal.Signals) -> None:
    # Not below pytest's directory: socket paths have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="rlu-relay-") as directory:
        place = Path(directory) / "relay.sock"
        relay = subprocess.Popen(
            [*RLU, "relay", "--listen", f"unix:{place}", "--otlp", "http://127.0.0.1:9"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            assert relay.stderr is not None
            assert b"relay_listening" in relay.stderr.readline()
            relay.send_signal(number)
            assert relay.wait(60) == 0
            assert not place.exists()
        finally:
            relay.kill()
            relay.communicate()


def test_a_request_in_flight_is_answered_before_it_ends() -> None:
    head = b"POST /v1/otlp/traces HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    with Collector() as collector, tempfile.TemporaryDirectory(prefix="rlu-relay-") as directory:
        place = Path(directory) / "relay.sock"
        relay = subprocess.Popen(
            [*RLU, "relay", "--listen", f"unix:{place}", "--otlp", collector.url],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            assert relay.stderr is not None
            assert b"relay_listening" in relay.stderr.readline()
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(60)
                client.connect(str(place))
                client.sendall(head)
                assert client.recv(4096).startswith(b"HTTP/1.1 100")
                relay.send_signal(signal.SIGTERM)
                wait_until(lambda: not place.exists())
                client.sendall(b"{}")
                answer = b"".join(iter(lambda: client.recv(4096), b""))
            assert answer.startswith(b"HTTP/1.1 200")
            assert relay.wait(60) == 0
            assert [path for path, _, _ in collector.got] == ["/v1/traces"]
        finally:
            relay.kill()
            relay.communicate()
