"""A small HTTP server for jobs with few clients: one thread a request, bounded in number, size and time; TLS if it has a certificate.

It ends in two steps: `refuse` lets nothing new in, `drain` waits for what has begun. A request has begun when its first line was read.

Not for clients of the model: they meet the gateway.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import socketserver
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Protocol

AT_ONCE = 64
IDLE_S = 15.0
REQUEST_S = 60.0
"""For one request from end to end, its answer included: who sends a byte now and then keeps no place for longer."""
DRAIN_S = 20.0
"""For all that has begun when we are told to stop: two silences of `outreach.http`, and less than a pod is given. The rest is cut off."""
_ENDS = (signal.SIGTERM, signal.SIGINT)


def server_context(certificate: tuple[Path, Path] | None) -> Callable[[], ssl.SSLContext] | None:
    """TLS with a certificate and its key (PEM) as they are at each handshake; None: plain.

    Raises:
        OSError: they cannot be read or do not belong together.
    """
    return None if certificate is None else Certificate(*certificate).context


class Certificate:
    """A certificate that somebody else renews: the next handshake has it, connections that are open keep what they have.

    Raises:
        OSError: it cannot be read, or is not the key's.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._lock = threading.Lock()
        self._seen, self._context = self._stamp(), self._load()

    def context(self) -> ssl.SSLContext:
        """The one of now; while the files are being replaced, the one before."""
        with self._lock, contextlib.suppress(OSError):
            stamp = self._stamp()
            if stamp != self._seen:
                self._context = self._load()
                self._seen = stamp
        return self._context

    def _stamp(self) -> list[tuple[int, int, int]]:
        found = [file.stat() for file in self._files]
        return [(one.st_mtime_ns, one.st_ino, one.st_size) for one in found]

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._files)
        return context


class Serving(Protocol):
    """A server around a `Listener`."""

    def start(self) -> None: ...

    def close(self) -> None: ...

    def hurry(self) -> None: ...


def serve_until_told(server: Serving) -> None:
    """Until SIGTERM or SIGINT; a second one cuts off what is in flight. For the main thread, before there is another."""
    # Blocked in every thread and waited for: a handler runs when the main thread wakes, which a signal to another one need not do.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    server.start()
    signal.sigwait(_ENDS)

    def again() -> None:
        signal.sigwait(_ENDS)
        server.hurry()

    threading.Thread(target=again, daemon=True).start()
    server.close()


class Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves one thread a request, at most `AT_ONCE`.

    Args:
        context: gives what to serve TLS with; None: plain.
        on_failure: told the kind of error that ended a connection.
    """

    daemon_threads = True
    block_on_close = True
    allow_reuse_address = True

    def __init__(
        self,
        handler: type[Handler],
        context: Callable[[], ssl.SSLContext] | None,
        on_failure: Callable[[str], None],
    ) -> None:
        super().__init__(("", 0), handler, bind_and_activate=False)
        self.socket.close()
        self._context = context
        self._on_failure = on_failure
        self._change = threading.Condition()
        self._connections = 0
        self._waiting: set[socket.socket] = set()
        """Connections on which no request has begun."""
        self.stopping = False
        self.hurried = False

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

    def refuse(self) -> None:
        """No more connections, and no more requests on those there are. `serve_forever` ends; it has to run in another thread."""
        self.shutdown()
        self.server_close()
        with self._change:
            self.stopping = True
            for connection in self._waiting:
                _hear_no_more(connection)

    def drain(self, seconds: float) -> int:
        """After `refuse`: wait until what has begun was answered. Gives how many connections are still busy after that time."""
        with self._change:
            self._change.wait_for(lambda: self.hurried or not self._connections, seconds)
            return self._connections

    def hurry(self) -> None:
        """Nobody waits for what has begun any more."""
        with self._change:
            self.hurried = True
            self._change.notify_all()

    @contextlib.contextmanager
    def waiting(self, connection: socket.socket) -> Iterator[None]:
        """From here on a request may begin, and need not."""
        with self._change:
            self._waiting.add(connection)
            if self.stopping:
                _hear_no_more(connection)
        try:
            yield
        finally:
            with self._change:
                self._waiting.discard(connection)

    def begins(self, connection: socket.socket) -> None:
        """There is a request, which is let end whoever stops us."""
        with self._change:
            self._waiting.discard(connection)

    def process_request(self, request: object, client_address: object) -> None:
        with self._change:
            full = self._connections >= AT_ONCE
            self._connections += not full
        if full:
            self.shutdown_request(request)  # type: ignore[arg-type]
            return
        try:
            super().process_request(request, client_address)  # type: ignore[arg-type]
        except BaseException:
            self._ended()  # there is no thread that would say so
            raise

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._ended()

    def _ended(self) -> None:
        with self._change:
            self._connections -= 1
            self._change.notify_all()

    def finish_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        request.settimeout(IDLE_S)
        if self._context is None:
            super().finish_request(request, client_address)
            return
        # In the request's own thread: a client that does not shake hands keeps nobody else waiting.
        context = self._context()
        with context.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as secure:
            with _deadline(secure), self.waiting(secure):
                secure.do_handshake()
            super().finish_request(secure, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[0]
        self._on_failure(error.__name__ if error else "")


class Handler(BaseHTTPRequestHandler):
    """Reads and answers one request; subclasses have `do_GET` and `do_POST`, and say who they are."""

    server: Listener
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    product = "rlu"

    def handle_one_request(self) -> None:
        with _deadline(self.connection), self.server.waiting(self.connection):
            super().handle_one_request()

    def parse_request(self) -> bool:
        self.server.begins(self.connection)
        return super().parse_request()

    def content(self, most: int) -> bytes:
        """The request's content. Raises ValueError: it has no length, is longer than `most`, or was cut short."""
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > most:
            raise ValueError("length")
        data = self.rfile.read(int(length))
        if len(data) != int(length):
            raise ValueError("cut short")
        return data

    def refuse(self, status: int, code: str) -> None:
        """A refusal that is nothing but its code."""
        self.close_connection = True
        self.answer(status, "application/json", json.dumps({"code": code}).encode())

    def answer(self, status: int, kind: str, content: bytes) -> None:
        """Send an answer."""
        self.close_connection = self.close_connection or self.server.stopping
        self.send_response(status)
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def version_string(self) -> str:
        return self.product

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: request lines are what clients make them."""


def _hear_no_more(connection: socket.socket) -> None:
    """What has arrived can still be read, and answered; then comes the end."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RD)  # below TLS, which belongs to another thread


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
