"""Records to an OpenTelemetry collector: the logs signal of OTLP 1.x over HTTP, in its JSON encoding.

Written here, and not taken from the OpenTelemetry SDK, because the SDK's exporters drop what does not fit their queue; an export that
promises *at least once* has to know which request was answered with what. The receiver's certificate is checked against the system's CAs
or the ones given; a bearer token is sent if there is one. Redirects and proxies are not followed.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from rlu_attestation.errors import RluError
from rlu_server.export.sinks import Record, SinkError

PATH = "/v1/logs"
TIMEOUT_S = 10.0
MAX_ANSWER = 65536
RETRIED = frozenset({429, 502, 503, 504})
"""What OTLP tells a client to try again."""
TRIES = 6
INFO = 9


class OtlpSink:
    """A collector's HTTP receiver.

    Args:
        url: its root, such as `http://localhost:4318`; `/v1/logs` is added.
        token: for `Authorization: Bearer`.
        pause: waits so many seconds.

    Raises:
        RluError: `export.url`.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        ca: str | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise UrlError("export.url", "expected an OTLP receiver such as https://collector:4318")
        self._tls = ssl.create_default_context(cafile=ca) if parts.scheme == "https" else None
        self._host, self._port = parts.hostname, port or 4318
        self._path = parts.path.rstrip("/") + PATH
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._pause = pause

    def deliver(self, records: Sequence[Record]) -> None:
        content, wait = json.dumps(request(records)).encode("ascii"), 0.5
        for _ in range(TRIES):
            status, answer = self._post(content)
            if status == 200:
                _check(answer)
                return
            if status and status not in RETRIED:
                raise SinkError("export.sink", f"the collector refused the records with {status}")
            self._pause(wait)
            wait *= 2
        what = f"answered {status}" if status else "cannot be reached"
        raise SinkError("export.sink", f"the collector {what}; nothing is lost, run the export again")

    def _post(self, content: bytes) -> tuple[int, bytes]:
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        else:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT_S, context=self._tls
            )
        try:
            connection.request("POST", self._path, content, self._headers)
            response = connection.getresponse()
            return response.status, response.read(MAX_ANSWER)
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()


class UrlError(RluError):
    """The receiver's address makes no sense."""

    exit_code = 2


def request(records: Sequence[Record]) -> dict[str, Any]:
    """An `ExportLogsServiceRequest`."""
    resource = {"attributes": [_attribute("service.name", "rlu")]}
    logs = [_log(record) for record in records]
    return {
        "resourceLogs": [
            {"resource": resource, "scopeLogs": [{"scope": {"name": "rlu.log"}, "logRecords": logs}]}
        ]
    }


def _log(record: Record) -> dict[str, Any]:
    return {
        "timeUnixNano": str(int(record.get("iat", 0)) * 10**9),
        "severityNumber": INFO,
        "eventName": f"rlu.log.{record['kind']}",
        "body": {"stringValue": f"rlu.log.{record['kind']}"},
        "attributes": [
            _attribute(f"rlu.{name}", value) for name, value in record.items() if name != "rlu_log"
        ],
    }


def _attribute(name: str, value: object) -> dict[str, Any]:
    return {"key": name, "value": _value(value)}


def _value(value: object) -> dict[str, Any]:
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": str(value)}


def _check(answer: bytes) -> None:
    """A collector may take a request and refuse records in it; those would be lost, so it counts as refused."""
    try:
        partial = json.loads(answer or b"{}").get("partialSuccess") or {}
        refused = int(partial.get("rejectedLogRecords", 0))
    except (ValueError, AttributeError, TypeError) as error:
        raise SinkError("export.sink", "the collector's answer cannot be read") from error
    if refused:
        raise SinkError("export.sink", f"the collector refused {refused} records of a request")
