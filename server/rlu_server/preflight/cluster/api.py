"""The API server, asked as whoever runs the command: through kubectl, which knows every way to log in, or as a service account."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rlu_server.outreach.cluster import Cluster
from rlu_server.outreach.http import BadAddress, Unreachable, request, trust

MAX_ANSWER = 64 << 20
"""A list of some thousand nodes."""
TIMEOUT_S = 30
_CAUSE = re.compile(r"\((NotFound|Forbidden|Unauthorized|MethodNotAllowed|Invalid|BadRequest)\)")
_STATUS = {
    "NotFound": 404,
    "Forbidden": 403,
    "Unauthorized": 401,
    "MethodNotAllowed": 405,
    "Invalid": 422,
    "BadRequest": 400,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Status of HTTP, and the object; empty where there is none."""

    status: int
    value: Mapping[str, Any] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        return 200 <= self.status < 300


class Server(Protocol):
    """All raise Unreachable: `relay.…`."""

    def get(self, path: str) -> Answer:
        """GET."""

    def text(self, path: str) -> bytes | None:
        """GET of what is no object, such as a log; None where there is none, or it may not be seen."""

    def create(self, path: str, body: Mapping[str, Any]) -> Answer:
        """POST. Only reviews are made, which the API server answers and does not keep."""


@dataclass(frozen=True, slots=True)
class Account:
    """By a token, as from a pod."""

    cluster: Cluster

    def get(self, path: str) -> Answer:
        return _answer(*self._ask("GET", path, None))

    def text(self, path: str) -> bytes | None:
        status, data = self._ask("GET", path, None)
        return data if status == 200 else None

    def create(self, path: str, body: Mapping[str, Any]) -> Answer:
        return _answer(*self._ask("POST", path, json.dumps(body).encode()))

    def _ask(self, method: str, path: str, content: bytes | None) -> tuple[int, bytes]:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        status, _, data = request(
            method,
            self.cluster.url + path,
            trust(self.cluster.ca_file),
            MAX_ANSWER,
            content,
            {**self.cluster.headers(), **headers},
        )
        return status, data


@dataclass(frozen=True, slots=True)
class Kubectl:
    """By `kubectl --raw`; `options` choose the cluster, such as `--context`."""

    options: Sequence[str] = ()
    program: str = "kubectl"

    def get(self, path: str) -> Answer:
        return _answer(*self._ask(["get", "--raw", path], None))

    def text(self, path: str) -> bytes | None:
        status, data = self._ask(["get", "--raw", path], None)
        return data if status == 200 else None

    def create(self, path: str, body: Mapping[str, Any]) -> Answer:
        return _answer(*self._ask(["create", "--raw", path, "-f", "-"], json.dumps(body).encode()))

    def _ask(self, words: list[str], content: bytes | None) -> tuple[int, bytes]:
        try:
            ran = subprocess.run(
                [self.program, *self.options, *words],
                input=content or b"",
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError as error:
            raise BadAddress(
                "relay.cluster", "kubectl is not installed here; name the API server with --api-server"
            ) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unreachable("relay.unreachable", f"kubectl: {type(error).__name__}") from error
        if ran.returncode == 0:
            return 200, ran.stdout
        cause = _CAUSE.search(ran.stderr.decode("utf-8", "replace"))
        if cause is None:
            raise Unreachable(
                "relay.unreachable", "kubectl does not reach the API server; see `kubectl version`"
            )
        return _STATUS[cause[1]], b""


def _answer(status: int, data: bytes) -> Answer:
    return Answer(status, _object(data) if 200 <= status < 300 else {})


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise Unreachable("relay.status", "the API server's answer is no JSON") from error
    if not isinstance(value, dict):
        raise Unreachable("relay.status", "the API server's answer is no object")
    return value
