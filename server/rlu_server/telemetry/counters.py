"""The gateway's own metrics, read by the job: over the Unix socket or the port that `[metrics] listen` names."""

from __future__ import annotations

import http.client
import socket
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from rlu_attestation.errors import RluError
from rlu_server.settings import Settings

PATH = "/metrics"
MAX_TEXT = 8 << 20
TIMEOUT_S = 10.0


class Unread(RluError):
    """The gateway did not tell its counters."""

    exit_code = 3


class Unset(RluError):
    """The settings do not say what is needed."""

    exit_code = 2


def address(settings: Settings) -> str:
    """Where the counters are: `http://address:port` or `unix:/path`.

    Raises:
        Unset: `telemetry.metrics`.
    """
    if settings.telemetry.metrics:
        return settings.telemetry.metrics
    where = settings.metrics.address
    if where is not None:
        host = f"[{where[0]}]" if ":" in where[0] else where[0]
        return f"http://{host}:{where[1]}"
    if settings.metrics.listen != "unix" or settings.runtime_dir is None:
        raise Unset(
            "telemetry.metrics",
            "where the counters are is not known: set [telemetry] metrics, such as unix:/run/rlu/gateway/metrics.sock",
        )
    return f"unix:{settings.runtime_dir / 'gateway' / 'metrics.sock'}"


def read(where: str) -> Mapping[tuple[str, str], float]:
    """Every counter's sum, and beside it those by the label `status`.

    Raises:
        Unread: `telemetry.unread`.
        Unset: `telemetry.metrics`.
    """
    return counted(exposed(where))


def exposed(where: str) -> bytes:
    """All metrics, in Prometheus' text format. Raises what `read` raises."""
    connection = _connection(where)
    try:
        connection.request("GET", PATH)
        with connection.getresponse() as response:
            data = response.read(MAX_TEXT + 1)
            if response.status != 200 or len(data) > MAX_TEXT:
                raise Unread("telemetry.unread", f"{where} did not answer with its counters")
    except (OSError, http.client.HTTPException) as error:
        raise Unread("telemetry.unread", f"{where} does not answer ({type(error).__name__})") from error
    finally:
        connection.close()
    return data


def counted(text: bytes) -> Mapping[tuple[str, str], float]:
    """As `read`, of metrics in Prometheus' text format."""
    counts: Counter[tuple[str, str]] = Counter()
    try:
        for family in text_string_to_metric_families(text.decode("utf-8")):
            for sample in family.samples:
                counts[sample.name, ""] += sample.value  # type: ignore[assignment]
                status = sample.labels.get("status", "")
                if status:
                    counts[sample.name, status] += sample.value  # type: ignore[assignment]
    except ValueError as error:
        raise Unread("telemetry.unread", "what was answered are not metrics") from error
    return counts


def _connection(where: str) -> http.client.HTTPConnection:
    if where.startswith("unix:/"):
        return _Unix(Path(where.removeprefix("unix:")))
    try:
        parts = urlsplit(where)
        if parts.scheme == "http" and parts.hostname and parts.port:
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
    except ValueError:
        pass
    raise Unset("telemetry.metrics", f"{where!r}: give unix:/path or http://address:port")


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("metrics", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
