"""Fetching from places that the operator named: allow-listed hosts, redirects to such hosts only, a line in the journal for each answer.

Bytes are handed on as they come. No proxy but one that was named, no cookies, no compression; credentials are not sent on to another host.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from urllib.parse import urljoin

from rlu_attestation.errors import RluError
from rlu_server.outreach.http import BadAddress, Unreachable, connect, path_of, target
from rlu_server.outreach.letters import BEGUN, Crossing

TIMEOUT_S = 60.0
"""For a connection, and for each silence of the other side."""
MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PRIVATE = frozenset({"authorization"})
_NOTHING = hashlib.sha256(b"").hexdigest()


class Answer:
    """What came back. `read` gives content as it comes."""

    def __init__(self, response: http.client.HTTPResponse, host: str) -> None:
        self._response = response
        self.host = host
        self.received = 0
        self._expected = response.length

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Message:
        return self._response.headers

    @property
    def length(self) -> int | None:
        """Bytes of content, as the other side says; also of one that was only asked about."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None

    def read(self, most: int) -> bytes:
        """At most so many bytes; empty at the end. Raises Unreachable (`relay.unreachable`)."""
        try:
            data = self._response.read(most)
            if not data and most and self._expected is not None and self.received < self._expected:
                raise http.client.IncompleteRead(data, self._expected - self.received)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                "relay.unreachable", f"{self.host} broke off ({type(error).__name__})"
            ) from error
        self.received += len(data)
        return data

    def whole(self, most: int) -> bytes:
        """All of it. Raises Unreachable (`relay.too_long`, `relay.unreachable`)."""
        found = bytearray()
        while data := self.read(most + 1 - len(found)):
            found += data
            if len(found) > most:
                raise Unreachable("relay.too_long", f"the answer of {self.host} is longer than {most} bytes")
        return bytes(found)


@dataclass(frozen=True, slots=True)
class Reach:
    """How a job may reach out.

    Attributes:
        hosts: `host:port` of every place it may talk to.
        proxy: `http://host:port`; empty: none.
        note: given a crossing for the first contact with a host, before it, and for each answer.
        clock: seconds since the epoch.
    """

    job: str
    hosts: frozenset[str]
    context: ssl.SSLContext
    proxy: str
    note: Callable[[Crossing], None]
    clock: Callable[[], float]
    _met: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def ask(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, *, follow: bool = True
    ) -> Iterator[Answer]:
        """The answer, redirects followed.

        Args:
            follow: whether a redirect to another allowed host is followed; else it is the answer.

        Raises:
            BadAddress: `relay.url`, `relay.proxy`, `relay.not_allowed`: a host that is not allowed; nothing was sent there.
            Unreachable: `relay.unreachable`, `relay.redirects`.
        """
        given = dict(headers or {})
        for _ in range(MAX_REDIRECTS + 1):
            with self._once(method, url, given) as answer:
                if not follow or answer.status not in REDIRECTS or not answer.headers.get("Location"):
                    yield answer
                    return
                before, url = answer.host, urljoin(url, answer.headers["Location"])
            if _host(url) != before:
                given = {name: value for name, value in given.items() if name.lower() not in PRIVATE}
        raise Unreachable("relay.redirects", f"more than {MAX_REDIRECTS} redirects")

    @contextlib.contextmanager
    def _once(self, method: str, url: str, headers: Mapping[str, str]) -> Iterator[Answer]:
        parts = target(url)
        host = _host(url)
        if host not in self.hosts:
            raise BadAddress(
                "relay.not_allowed",
                f"{host} is not among the hosts that this job may reach; nothing was sent there",
            )
        connection = connect(parts, self.context, self.proxy, TIMEOUT_S)
        if host not in self._met:
            self._met.add(host)
            self._note(host, 0, BEGUN)
        answer, result = None, "sent"
        try:
            try:
                connection.request(method, path_of(parts), headers={"Accept-Encoding": "identity", **headers})
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(
                    "relay.unreachable", f"{host} does not answer ({type(error).__name__})"
                ) from error
            with response:
                answer = Answer(response, host)
                yield answer
        except BaseException as error:
            result = error.code if isinstance(error, RluError) else type(error).__name__
            raise
        finally:
            connection.close()
            self._note(host, 0 if answer is None else answer.received, result)

    def _note(self, host: str, received: int, result: str) -> None:
        self.note(
            Crossing(
                time=int(self.clock()),
                job=self.job,
                destination=host,
                proxy=self.proxy,
                sent=0,
                received=received,
                sha256=_NOTHING,
                result=result,
            )
        )


def _host(url: str) -> str:
    parts = target(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
