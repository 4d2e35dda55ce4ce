"""What the deployment hands out on purpose, as whoever follows it gets it: metrics, and the log as a file and by OTLP."""

from __future__ import annotations

import socket
from pathlib import Path

from rlu_attestation.instance import InstanceClaims
from rlu_attestation.jose import jws_parse
from rlu_attestation.log_client import LogClient
from rlu_server.export.exporting import Export
from rlu_server.export.otlp import OtlpSink
from rlu_server.export.sinks import FileSink, Sink
from rlu_server.selftest.collector import Collector

_NONCE = bytes(32)
TIMEOUT_S = 60.0


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
    """Every byte that an OTLP collector gets. Raises RluError."""
    with Collector() as collector:
        _export(url, key, OtlpSink(collector.url, None, None), place / "otlp-export.cursor")
        return collector.received


def _export(url: str, key: str, sink: Sink, cursor: Path) -> None:
    with LogClient(url, key) as client:
        issuer = InstanceClaims.parse(jws_parse(client.attestation(_NONCE).statement).payload).issuer
        run = Export(client, issuer, sink, cursor)
        while run.step():
            pass
