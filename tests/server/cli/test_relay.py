"""`rlu relay` as a process: it serves, and ends when it is told to."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from rlu_server.selftest.node import RLU


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_it_is_told_to(number: signal.Signals) -> None:
    # Not below pytest's directory: socket paths have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="rlu-relay-") as directory:
        socket = Path(directory) / "relay.sock"
        relay = subprocess.Popen(
            [*RLU, "relay", "--listen", f"unix:{socket}", "--otlp", "http://127.0.0.1:9"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            assert relay.stderr is not None
            assert b"relay_listening" in relay.stderr.readline()
            relay.send_signal(number)
            assert relay.wait(60) == 0
            assert not socket.exists()
        finally:
            relay.kill()
            relay.communicate()
