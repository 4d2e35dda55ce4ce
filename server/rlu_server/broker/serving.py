"""The broker's HTTP side: two routes, one thread a request (`outreach.listening`), refusals as RFC 9457 problem details."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlu_attestation.errors import RluError
from rlu_server.broker import protocol
from rlu_server.broker.desk import Desk
from rlu_server.outreach.listening import DRAIN_S, Handler, Listener, server_context


class BrokerServer:
    """Serves until `close`, which lets requests that are in flight end, for `DRAIN_S` altogether.

    Args:
        address: host and port; port 0: any.
        certificate: certificate and key (PEM) to serve TLS with; None: plain, for loopback.

    Raises:
        OSError: it cannot listen there.
    """

    def __init__(
        self,
        desk: Desk,
        address: tuple[str, int],
        certificate: tuple[Path, Path] | None,
        tell: Callable[[str, str], None],
    ) -> None:
        self._tell = tell
        self._server = _Server(desk, certificate, tell)
        try:
            self._server.listen(address)
        except BaseException:
            self._server.server_close()
            raise
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        self._thread.start()
        self._tell("broker_listening", str(self.port))

    def close(self) -> None:
        self._server.refuse()
        if cut := self._server.drain(DRAIN_S):
            self._tell("broker_requests_cut", str(cut))
        self._thread.join()

    def hurry(self) -> None:
        """A `close` that waits cuts off what is in flight."""
        self._server.hurry()


class _Server(Listener):
    def __init__(
        self, desk: Desk, certificate: tuple[Path, Path] | None, tell: Callable[[str, str], None]
    ) -> None:
        super().__init__(
            _Handler, server_context(certificate), lambda code: tell("broker_connection_failed", code)
        )
        self.desk = desk


class _Handler(Handler):
    server: _Server
    product = "rlu-broker"
    _read = False
    """Whether the request's content was read."""

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self.answer(200, "application/json", b'{"status":"ok"}')
        else:
            self._problem(404, "broker.route", "no such route")

    def do_POST(self) -> None:
        self._read = False
        desk = self.server.desk
        if self.path == protocol.CHALLENGE_PATH:
            self._give(0, lambda _: (protocol.CHALLENGE_TYPE, desk.challenge()))
        elif self.path != protocol.RELEASE_PATH:
            self._problem(404, "broker.route", "no such route")
        elif self.headers.get("Content-Type", "") != protocol.REQUEST_TYPE:
            self._problem(415, "broker.media_type", f"requests are {protocol.REQUEST_TYPE}")
        else:
            peer = str(self.client_address[0])
            self._give(protocol.MAX_REQUEST, lambda data: (protocol.SEALED_TYPE, desk.release(data, peer)))

    def _give(self, most: int, decide: Callable[[bytes], tuple[str, bytes]]) -> None:
        try:
            data = self.content(most)
            self._read = True
        except ValueError:
            self._problem(400, "broker.length", f"send Content-Length, of at most {most} bytes")
            return
        try:
            kind, content = decide(data)
        except RluError as error:
            failures = getattr(error, "failures", ())
            self._problem(getattr(error, "status", 500), error.code, error.message, failures)
            return
        self.answer(200, kind, content)

    def _problem(self, status: int, code: str, detail: str, failures: tuple[str, ...] = ()) -> None:
        self._drain()
        self.close_connection = True
        told: dict[str, Any] = {"code": code, "detail": detail, "status": status}
        if failures:
            told["failures"] = list(failures)
        self.answer(status, protocol.PROBLEM_TYPE, json.dumps(told).encode())

    def _drain(self) -> None:
        """Read what nobody wants, if it is little: closing a connection with unread bytes would cut off the answer."""
        length = self.headers.get("Content-Length", "")
        if not self._read and length.isdecimal() and int(length) <= protocol.MAX_REQUEST:
            self.rfile.read(int(length))
