"""The traces of the test's deployment: every request is traced, and its spans leave as an operator's would, by `rlu relay` to a collector.

Both are the test's own. That nothing was found among the spans shows something only if there were any: as many are waited for as answers
held a marker, and the plant takes the same way.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rlu_server import terminal
from rlu_server.adapters.span_export import PATH
from rlu_server.selftest.collector import Collector

SPAN = "engine"
"""Every answer that an engine gave has one of this name."""
START_S = 60.0
ARRIVE_S = 60.0
STOP_S = 40.0
LOOK_S = 0.1
TIMEOUT_S = 60.0


class Traces:
    """A relay as a child, and a collector in this process.

    Args:
        directory: of the relay's socket; it is made.
        command: how `rlu` is started.
    """

    def __init__(self, directory: Path, command: Sequence[str]) -> None:
        self._directory = directory
        self._socket = directory / "relay.sock"
        self._command = tuple(command)
        self._collector = Collector()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def relay(self) -> str:
        """As `[auth] relay` names it."""
        return f"unix:{self._socket}"

    def start(self, environment: Mapping[str, str], log: Path, gateway: int | None) -> None:
        """Start both, and wait until the relay listens, or cannot: then no span will arrive.

        Args:
            log: what the relay says goes there.
            gateway: user who is to reach it; None: who we are.
        """
        self._directory.mkdir()
        self._directory.chmod(0o711)
        self._collector.start()
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [*self._command, "relay", "--listen", self.relay, "--otlp", self._collector.url],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=dict(environment),
                cwd=self._directory,
                **terminal.apart(),
            )
        deadline = time.monotonic() + START_S
        while self._process.poll() is None and time.monotonic() < deadline and not self._answers():
            time.sleep(LOOK_S)
        if gateway is not None and self._socket.exists():
            os.chown(self._socket, gateway, -1)

    def spans(self, name: str = SPAN) -> int:
        """How many spans of a name arrived."""
        return sum(_named(body, name) for body in list(self._collector.bodies))

    def arrived(self, wanted: int) -> int:
        """Wait until so many `SPAN`s are there; gives how many are after a while."""
        deadline = time.monotonic() + ARRIVE_S
        while (found := self.spans()) < wanted and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        return found

    def send(self, content: bytes) -> bool:
        """Give the relay something to pass on, as the gateway does; whether the collector got it."""
        try:
            return self._call("POST", PATH, content, {"Content-Type": "application/x-protobuf"}) == 200
        except (OSError, http.client.HTTPException):
            return False

    @property
    def received(self) -> bytes:
        """Every byte that the collector got."""
        return self._collector.received

    def stop(self) -> None:
        """End both; what was received stays."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self._collector.stop()

    def _answers(self) -> bool:
        try:
            return self._call("GET", "/healthz") == 200
        except (OSError, http.client.HTTPException):
            return False

    def _call(
        self, method: str, path: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> int:
        connection = http.client.HTTPConnection("relay", timeout=TIMEOUT_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(TIMEOUT_S)
            connection.sock.connect(str(self._socket))
            connection.request(method, path, content, dict(headers or {}))
            with connection.getresponse() as response:
                response.read()
                return response.status
        finally:
            connection.close()


def _named(body: bytes, name: str) -> int:
    """Spans of a name in an `ExportTraceServiceRequest`; none in what is not one, such as the plant."""
    try:
        document = json.loads(body)
        return sum(
            span["name"] == name
            for resource in document["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        )
    except (ValueError, TypeError, KeyError):
        return 0
