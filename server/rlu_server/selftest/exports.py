"""What the deployment hands out on purpose, as whoever follows it gets it: metrics, and the log as a file and by OTLP."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from rlu_attestation.instance import InstanceClaims
from rlu_attestation.jose import jws_parse
from rlu_attestation.log_client import LogClient
from rlu_server.export.exporting import Export
from rlu_server.export.otlp import OtlpSink
from rlu_server.export.sinks import FileSink, Sink

_NONCE = bytes(32)
TIMEOUT_S = 10.0


def instance(url: str, key: str) -> InstanceClaims:
    """What the deployment states. Raises RluError."""
    with LogClient(url, key) as client:
        return InstanceClaims.parse(jws_parse(client.attestation(_NONCE).statement).payload)


def metrics(socket_path: Path) -> bytes:
    """What the listener of the metrics answers. Raises OSError, also for another answer than metrics."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(str(socket_path))
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: metrics\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise OSError("no metrics")
    return content


def as_file(url: str, key: str, place: Path) -> bytes:
    """The log as `rlu log export` writes it. Raises RluError."""
    out = place / "log-export.jsonl"
    _export(url, key, FileSink(out, 1 << 30, 0), place / "log-export.cursor")
    return out.read_bytes() if out.exists() else b""


def as_otlp(url: str, key: str, place: Path) -> bytes:
    """The bodies that an OTLP collector gets. Raises RluError."""
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(str(self.headers).encode() + self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            sink = OtlpSink(f"http://127.0.0.1:{server.server_port}", None, None)
            _export(url, key, sink, place / "otlp-export.cursor")
        finally:
            server.shutdown()
            thread.join()
    return b"\n".join(bodies)


def _export(url: str, key: str, sink: Sink, cursor: Path) -> None:
    with LogClient(url, key) as client:
        issuer = InstanceClaims.parse(jws_parse(client.attestation(_NONCE).statement).payload).issuer
        run = Export(client, issuer, sink, cursor)
        while run.step():
            pass
