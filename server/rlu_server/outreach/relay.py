"""The relay: what the serving pod, which has no way out, may ask for from outside. An allow list of four things.

- `POST /v1/tokenreview`: a TokenReview, checked to be one, to the API server. Tokens pass through and are not kept or written anywhere.
- `POST /v1/otlp/{traces,metrics,logs}`: telemetry without content, to the collector that was named.
- `POST /broker/v1/{challenge,release}`: questions for the key of an encrypted model, to its vendor's broker. The key in the answer is
  sealed to who asked, so that it passes through unread; each is a line on standard error, since it leaves the site.
- Key sets of issuers are fetched on schedule and written to files. Nobody can ask for an address.

It has no engine, no keys of the instance, no session; NetworkPolicies let only the gateway reach it. One thread a request, bounded.
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlu_attestation.errors import RluError
from rlu_server.broker import protocol
from rlu_server.core.auth import reviews
from rlu_server.outreach import key_sets
from rlu_server.outreach.cluster import Cluster
from rlu_server.outreach.http import Unreachable, request, trust
from rlu_server.outreach.letters import Mailbox
from rlu_server.outreach.listening import DRAIN_S, Handler, Listener, server_context

MAX_QUESTION = 32 * 1024
MAX_TELEMETRY = 4 << 20
OTLP = {f"/v1/otlp/{kind}": f"/v1/{kind}" for kind in ("traces", "metrics", "logs")}
BROKER = {f"/broker{path}": path for path in (protocol.CHALLENGE_PATH, protocol.RELEASE_PATH)}
BROKER_TYPES = {
    protocol.CHALLENGE_PATH: protocol.CHALLENGE_TYPE,
    protocol.RELEASE_PATH: protocol.REQUEST_TYPE,
}
OTLP_TYPES = frozenset({"application/json", "application/x-protobuf"})


@dataclass(frozen=True, slots=True)
class KeySet:
    """A file to keep current. `cluster`: the cluster's own, for which the account's token is shown."""

    path: Path
    url: str
    cluster: bool = False


@dataclass(frozen=True, slots=True)
class Broker:
    """The vendor's key broker."""

    url: str
    ca_file: Path | None = None
    proxy: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What this relay does; what is None or empty, it does not."""

    cluster: Cluster | None = None
    key_sets: Sequence[KeySet] = ()
    every_s: float = 300.0
    ca_file: Path | None = None
    """CAs of issuers and collector; None: the system's."""
    collector: str = ""
    broker: Broker | None = None
    events: Callable[[str, str], None] = field(default=lambda event, code: _event(event, code))


class Relay:
    """Serves until `close`, which lets requests that are in flight end, for `DRAIN_S` altogether.

    Args:
        listen: `unix:/path` or `address:port` (port 0: any).
        certificate: certificate and key (PEM) to serve TLS with.
    """

    def __init__(self, plan: Plan, listen: str, certificate: tuple[Path, Path] | None = None) -> None:
        self._plan = plan
        self._stop = threading.Event()
        self._unix = Path(listen.removeprefix("unix:")) if listen.startswith("unix:") else None
        self._server = _Server(plan, server_context(certificate))
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
        until = time.monotonic() + DRAIN_S
        self._server.refuse()
        if self._unix is not None:
            self._unix.unlink(missing_ok=True)
        if cut := self._server.drain(DRAIN_S):
            self._plan.events("relay_requests_cut", str(cut))
        for thread in self._threads:
            thread.join(0.0 if self._server.hurried else max(0.0, until - time.monotonic()))

    def hurry(self) -> None:
        """A `close` that waits cuts off what is in flight."""
        self._server.hurry()

    def _address(self, listen: str) -> str | tuple[str, int]:
        if self._unix is not None:
            self._unix.unlink(missing_ok=True)
            return str(self._unix)
        host, _, port = listen.rpartition(":")
        return host.strip("[]"), int(port)

    def _keep_key_sets(self) -> None:
        while True:
            for wanted in self._plan.key_sets:
                if not self._stop.is_set():
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


class _Server(Listener):
    def __init__(self, plan: Plan, context: Callable[[], ssl.SSLContext] | None) -> None:
        super().__init__(_Handler, context, lambda code: plan.events("relay_connection_failed", code))
        self.plan = plan


class _Handler(Handler):
    server: _Server
    product = "rlu-relay"

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self.answer(200, "application/json", b'{"status":"ok"}')
        else:
            self.refuse(404, "route_not_found")

    def do_POST(self) -> None:
        plan = self.server.plan
        try:
            if self.path == reviews.PATH and plan.cluster is not None:
                self.answer(200, "application/json", self._review(plan.cluster))
            elif self.path in OTLP and plan.collector:
                self.answer(*self._telemetry(plan))
            elif self.path in BROKER and plan.broker is not None:
                self.answer(*self._key_request(plan.broker))
            else:
                self.refuse(404, "route_not_found")
        # Told before whoever asked can act on it.
        except ValueError as error:
            plan.events("relay_refused", type(error).__name__)
            self.refuse(400, "malformed")
        except Unreachable as error:
            plan.events("relay_failed", error.code)
            self.refuse(502, error.code)

    def _review(self, cluster: Cluster) -> bytes:
        question = self.content(MAX_QUESTION)
        reviews.check_question(question)
        return cluster.review(question)

    def _telemetry(self, plan: Plan) -> tuple[int, str, bytes]:
        kind = self.headers.get("Content-Type", "")
        if kind not in OTLP_TYPES:
            raise ValueError("content type")
        url = plan.collector.rstrip("/") + OTLP[self.path]
        content = self.content(MAX_TELEMETRY)
        given = {"Content-Type": kind}
        if self.headers.get("Content-Encoding", "") == "gzip":
            given["Content-Encoding"] = "gzip"
        return request("POST", url, trust(plan.ca_file), 1 << 20, content, given)

    def _key_request(self, broker: Broker) -> tuple[int, str, bytes]:
        path = BROKER[self.path]
        kind = BROKER_TYPES[path]
        if self.headers.get("Content-Type", "") != kind:
            raise ValueError("content type")
        box = Mailbox(protocol.JOB, broker.url.rstrip("/") + path, broker.proxy, broker.ca_file, journal=None)
        status, answer = box.ask(
            self.content(protocol.MAX_REQUEST), kind, int(time.time()), protocol.REFUSALS
        )
        good = protocol.CHALLENGE_TYPE if path == protocol.CHALLENGE_PATH else protocol.SEALED_TYPE
        return status, protocol.PROBLEM_TYPE if status in protocol.REFUSALS else good, answer


def _event(event: str, code: str) -> None:
    line = {"time": round(time.time(), 3), "event": event, **({"code": code} if code else {})}
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()
