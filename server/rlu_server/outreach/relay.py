"""The relay: what the serving pod, which has no way out, may ask for from outside. An allow list of three things.

- `POST /v1/tokenreview`: a TokenReview, checked to be one, to the API server. Tokens pass through and are not kept or written anywhere.
- `POST /v1/otlp/{traces,metrics,logs}`: telemetry without content, to the collector that was named.
- Key sets of issuers are fetched on schedule and written to files. Nobody can ask for an address.

It has no engine, no keys of the instance, no session; NetworkPolicies let only the gateway reach it. One thread a request, bounded.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from rlu_attestation.errors import RluError
from rlu_server.core.auth import reviews
from rlu_server.outreach import key_sets
from rlu_server.outreach.cluster import Cluster
from rlu_server.outreach.http import Unreachable, request, trust

MAX_QUESTION = 32 * 1024
MAX_TELEMETRY = 4 << 20
AT_ONCE = 64
IDLE_S = 15.0
REQUEST_S = 60.0
"""For one request from end to end, its answer included: who sends a byte now and then keeps no place for longer."""
OTLP = {f"/v1/otlp/{kind}": f"/v1/{kind}" for kind in ("traces", "metrics", "logs")}
OTLP_TYPES = frozenset({"application/json", "application/x-protobuf"})


@dataclass(frozen=True, slots=True)
class KeySet:
    """A file to keep current. `cluster`: the cluster's own, for which the account's token is shown."""

    path: Path
    url: str
    cluster: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What this relay does; what is None or empty, it does not."""

    cluster: Cluster | None = None
    key_sets: Sequence[KeySet] = ()
    every_s: float = 300.0
    ca_file: Path | None = None
    """CAs of issuers and collector; None: the system's."""
    collector: str = ""
    events: Callable[[str, str], None] = field(default=lambda event, code: _event(event, code))


class Relay:
    """Serves until `close`.

    Args:
        listen: `unix:/path` or `address:port` (port 0: any).
        certificate: certificate and key (PEM) to serve TLS with.
    """

    def __init__(self, plan: Plan, listen: str, certificate: tuple[Path, Path] | None = None) -> None:
        self._plan = plan
        self._stop = threading.Event()
        self._unix = Path(listen.removeprefix("unix:")) if listen.startswith("unix:") else None
        context = None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
        self._server = _Server(plan, context)
        try:
            self._server.listen(self._address(listen))
        except BaseException:
            self._server.server_close()
            raise
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True),
            threading.Thread(target=self._keep_key_sets, daemon=True),
        ]

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        for thread in self._threads:
            thread.start()
        self._plan.events("relay_listening", "")

    def close(self) -> None:
        self._stop.set()
        self._server.shutdown()
        for thread in self._threads:
            thread.join(2 * IDLE_S)
        self._server.server_close()
        if self._unix is not None:
            self._unix.unlink(missing_ok=True)

    def _address(self, listen: str) -> str | tuple[str, int]:
        if self._unix is not None:
            self._unix.unlink(missing_ok=True)
            return str(self._unix)
        host, _, port = listen.rpartition(":")
        return host.strip("[]"), int(port)

    def _keep_key_sets(self) -> None:
        while True:
            for wanted in self._plan.key_sets:
                self._keep(wanted)
            if self._stop.wait(self._plan.every_s):
                return

    def _keep(self, wanted: KeySet) -> None:
        try:
            cluster = self._plan.cluster if wanted.cluster else None
            context = trust(self._plan.ca_file if cluster is None else cluster.ca_file)
            data, _ = key_sets.fetch(wanted.url, context, None if cluster is None else cluster.headers())
            if key_sets.put(wanted.path, data):
                self._plan.events("jwks_written", wanted.path.name)
        except RluError as error:
            self._plan.events("jwks_failed", error.code)
        except OSError as error:
            self._plan.events("jwks_failed", type(error).__name__)


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    block_on_close = True
    allow_reuse_address = True

    def __init__(self, plan: Plan, context: ssl.SSLContext | None) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.plan = plan
        self._context = context
        self._places = threading.BoundedSemaphore(AT_ONCE)

    def listen(self, address: str | tuple[str, int]) -> None:
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            self.socket = socket.socket(family)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(address)
        if isinstance(address, str):
            os.chmod(address, 0o660)
        self.server_address = self.socket.getsockname()
        self.socket.listen(AT_ONCE)

    def process_request(self, request: object, client_address: object) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[arg-type]
            return
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._places.release()

    def finish_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        request.settimeout(IDLE_S)
        if self._context is None:
            super().finish_request(request, client_address)
            return
        # In the request's own thread: a client that does not shake hands keeps nobody else waiting.
        with self._context.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as secure:
            with _deadline(secure):
                secure.do_handshake()
            super().finish_request(secure, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[0]
        self.plan.events("relay_connection_failed", error.__name__ if error else "")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = IDLE_S

    def handle_one_request(self) -> None:
        with _deadline(self.connection):
            super().handle_one_request()

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._answer(200, "application/json", b'{"status":"ok"}')
        else:
            self._refuse(404, "route_not_found")

    def do_POST(self) -> None:
        plan = self.server.plan
        try:
            if self.path == reviews.PATH and plan.cluster is not None:
                self._answer(200, "application/json", self._review(plan.cluster))
            elif self.path in OTLP and plan.collector:
                self._answer(*self._telemetry(plan))
            else:
                self._refuse(404, "route_not_found")
        except ValueError as error:
            self._refuse(400, "malformed")
            plan.events("relay_refused", type(error).__name__)
        except Unreachable as error:
            self._refuse(502, error.code)
            plan.events("relay_failed", error.code)

    def _review(self, cluster: Cluster) -> bytes:
        question = self._content(MAX_QUESTION)
        reviews.check_question(question)
        return cluster.review(question)

    def _telemetry(self, plan: Plan) -> tuple[int, str, bytes]:
        kind = self.headers.get("Content-Type", "")
        if kind not in OTLP_TYPES:
            raise ValueError("content type")
        url = plan.collector.rstrip("/") + OTLP[self.path]
        content = self._content(MAX_TELEMETRY)
        given = {"Content-Type": kind}
        if self.headers.get("Content-Encoding", "") == "gzip":
            given["Content-Encoding"] = "gzip"
        return request("POST", url, trust(plan.ca_file), 1 << 20, content, given)

    def _content(self, most: int) -> bytes:
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > most:
            raise ValueError("length")
        data = self.rfile.read(int(length))
        if len(data) != int(length):
            raise ValueError("cut short")
        return data

    def _refuse(self, status: int, code: str) -> None:
        self.close_connection = True
        self._answer(status, "application/json", json.dumps({"code": code}).encode())

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def version_string(self) -> str:
        return "rlu-relay"

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: request lines are what clients make them."""


@contextlib.contextmanager
def _deadline(connection: socket.socket) -> Iterator[None]:
    """Ends the connection when it takes longer than `REQUEST_S`; its thread then reads its end."""

    def end() -> None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(
                connection, socket.SHUT_RDWR
            )  # below TLS, which belongs to the other thread

    timer = threading.Timer(REQUEST_S, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _event(event: str, code: str) -> None:
    line = {"time": round(time.time(), 3), "event": event, **({"code": code} if code else {})}
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()
