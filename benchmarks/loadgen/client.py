"""Connections that ask the same request again and again.

What makes it fast: the request is made once; an answer is not parsed but recognised, its length from `content-length` or the end of
the chunked coding from its last bytes. That is sound only for answers whose shape is known, so the first answer of every run goes
through a real parser (`Checked`) and must have the status and the number of events that were asked for.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import urlsplit

import httptools

CHUNKED_END = b"\r\n0\r\n\r\n"
EVENT = b"data: "
ENOUGH = 20
"""Events after which an endless stream is taken to be one."""
P = TypeVar("P", bound=asyncio.Protocol)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send: a Unix socket or an address, with TLS when `tls` is given."""

    uds: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    tls: ssl.SSLContext | None = None

    async def connect(self, make: Callable[[], P]) -> P:
        """Open a connection with the protocol that `make` returns."""
        loop = asyncio.get_running_loop()
        if self.uds is not None:
            return (await loop.create_unix_connection(make, str(self.uds)))[1]
        name = self.host if self.tls else None
        return (await loop.create_connection(make, self.host, self.port, ssl=self.tls, server_hostname=name))[
            1
        ]


def parse_target(text: str, ca: Path | None = None) -> Target:
    """`unix:PATH`, `http://host:port` or `https://host:port` (with the CA to trust)."""
    if text.startswith("unix:"):
        return Target(uds=Path(text.removeprefix("unix:")))
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or not parts.port:
        raise ValueError(f"{text}: give unix:PATH, http://host:port or https://host:port")
    tls = ssl.create_default_context(cafile=str(ca) if ca else None) if parts.scheme == "https" else None
    return Target(host=parts.hostname, port=parts.port, tls=tls)


@dataclass(slots=True)
class Totals:
    """Counts of one run; `started` and `first` are taken only while `counting`."""

    counting: bool = False
    requests: int = 0
    events: int = 0
    bytes: int = 0
    errors: int = 0
    ttft: list[float] = field(default_factory=list)
    """Seconds from the request to the first event (or to the body of an answer that is no stream)."""
    latency: list[float] = field(default_factory=list)


class Repeating(asyncio.Protocol):
    """One connection in a closed loop: the next request goes out when the last answer is complete.

    With `think_s` it first waits, for an exponentially distributed time of that mean, so that connections do not fall into step.
    """

    def __init__(self, request: bytes, totals: Totals, think_s: float = 0.0) -> None:
        self.request = request
        self.think_s = think_s
        self.totals = totals
        self.transport: asyncio.Transport
        self.asked = 0.0
        self.left = -1
        """Bytes of a body of known length that are still to come; -1: chunked, or not known yet."""
        self.head_done = False
        self.first = False
        self.tail = b""
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        if self.stopped:
            return
        self.left, self.head_done, self.first, self.tail = -1, False, False, b""
        self.asked = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        totals = self.totals
        if not self.head_done:
            data = self._head(self.tail + data)
            if not self.head_done:
                return
        if not data:
            if self.left == 0:
                self._complete()
            return
        if not self.first:
            self.first = True
            if totals.counting:
                totals.ttft.append(time.perf_counter() - self.asked)
        if totals.counting:
            totals.bytes += len(data)
        if self.left >= 0:
            self.left -= len(data)
            if self.left <= 0:
                self._complete()
            return
        if totals.counting:
            totals.events += data.count(EVENT)
        tail = data if len(data) >= 7 else self.tail + data
        if tail.endswith(CHUNKED_END):
            self._complete()
        else:
            self.tail = tail[-6:]

    def _head(self, data: bytes) -> bytes:
        """Consume the head; returns what follows it."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self.tail = data
            return b""
        self.head_done = True
        head = data[:end].lower()
        if not head.startswith(b"http/1.1 200"):
            self.totals.errors += 1
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:
            self.left = int(head[at + 17 :].split(b"\r\n", 1)[0])
        # Keeps the line end before an immediate last chunk recognisable.
        self.tail = b"\r\n"
        return data[end + 4 :]

    def _complete(self) -> None:
        if self.totals.counting:
            self.totals.requests += 1
            self.totals.latency.append(time.perf_counter() - self.asked)
        if self.stopped:
            self.transport.close()
        elif self.think_s:
            asyncio.get_running_loop().call_later(random.expovariate(1 / self.think_s), self._ask)
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.stopped:
            self.totals.errors += 1


class Checked(asyncio.Protocol):
    """One request whose answer is read by a real parser; `done` is set when it is complete, or a long stream shows to be one."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport
        self.status = 0
        self.body = b""
        self.done = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self.body += data
        if self.body.count(EVENT) >= ENOUGH:
            self.done.set()

    def on_message_complete(self) -> None:
        self.done.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.done.set()
