"""What arrives on a client connection: bytes in, requests in their order out, bounded in every state.

llhttp cannot be paused between two requests of one read, so all of a read is parsed, and requests that are not being answered yet wait in
a queue; its owner stops reading while any does. What cannot be understood, or is too much, is `poison`: nothing after it is looked at.
"""

from __future__ import annotations

from collections import deque

import httptools

from rlu_server.adapters.http1 import Incoming
from rlu_server.core.errors import GatewayError
from rlu_server.settings import Gateway

MAX_QUEUE = 64
CHUNK_OVERHEAD = 32
"""Bytes of framing a chunk may cost; extensions and trailers beyond that come out of one head's allowance."""
SMALL_PART = 4096
"""Content that came in smaller parts is joined: a million parts of two bytes would take twenty times the memory that is counted."""


class Arrivals:
    """Parses one connection's requests.

    Attributes:
        arriving: the request whose head or content is incomplete.
        taken: the request that is being answered; it is not queued when it completes.
        poison: why nothing more is taken.
        head_bytes: size of an incomplete head so far.
    """

    def __init__(self, settings: Gateway) -> None:
        self.arriving: Incoming | None = None
        self.taken: Incoming | None = None
        self.poison: GatewayError | None = None
        self.head_bytes = 0
        self.queue: deque[Incoming] = deque()
        self._max_header_bytes = settings.max_header_bytes
        self._max_body_bytes = settings.max_body_bytes
        self._parser = httptools.HttpRequestParser(self)

    @property
    def empty(self) -> bool:
        """Is there nothing, not even a beginning?"""
        return not self.queue and self.arriving is None

    def feed(self, data: bytes) -> None:
        """Take in what one read brought. Never raises; see `poison`."""
        before = self.arriving
        size_before = before.size if before is not None else 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.poison = GatewayError("http_upgrade")
        except httptools.HttpParserError as error:
            cause = error.__context__
            self.poison = cause if isinstance(cause, GatewayError) else GatewayError("http_malformed")
        else:
            self._check_flow(before, size_before, len(data))

    def take(self) -> Incoming | None:
        """The next request whose head is complete; from now on it is the one being answered."""
        incoming = self.queue[0] if self.queue else self.arriving
        if incoming is None or not incoming.head_complete:
            return None
        if self.queue:
            self.queue.popleft()
        self.taken = incoming
        return incoming

    def let_go(self) -> None:
        """Nothing more will come or be asked for: drop what arrived, and the parser, which holds us as we hold it."""
        del self._parser
        for incoming in (self.arriving, self.taken):
            if incoming is not None:
                incoming.parts = []
        self.queue.clear()

    def _check_flow(self, before: Incoming | None, size_before: int, received: int) -> None:
        """Bound what is buffered while a head or a chunked body is incomplete."""
        arriving = self.arriving
        if arriving is not None and not arriving.head_complete:
            self.head_bytes += received
            if self.head_bytes > self._max_header_bytes:
                self.poison = GatewayError("header_too_large")
            return
        self.head_bytes = 0
        if arriving is not None:
            _join_small(arriving.parts)
        if arriving is not None and arriving is before and b"transfer-encoding" in arriving.headers:
            arriving.overhead += received - (arriving.size - size_before)
            if arriving.overhead > self._max_header_bytes + CHUNK_OVERHEAD * arriving.chunks:
                self.poison = GatewayError("http_malformed")

    # --- the parser's callbacks; what they raise comes out of `feed_data` as context ---

    def on_message_begin(self) -> None:
        if len(self.queue) >= MAX_QUEUE:
            raise GatewayError("overloaded")
        self.arriving = Incoming()

    def on_url(self, url: bytes) -> None:
        incoming = self.arriving
        assert incoming is not None
        incoming.target += url
        incoming.head_bytes += len(url)
        if incoming.head_bytes > self._max_header_bytes:
            raise GatewayError("header_too_large")

    def on_header(self, name: bytes, value: bytes) -> None:
        # Called for every header of every request: written out rather than well divided.
        incoming = self.arriving
        assert incoming is not None
        if incoming.head_complete:
            return  # a trailer
        name = name.lower()
        headers = incoming.headers
        if name in headers:
            incoming.repeated |= {name}
        headers[name] = value
        size = incoming.head_bytes = incoming.head_bytes + len(name) + len(value) + 4
        if size > self._max_header_bytes:
            raise GatewayError("header_too_large")

    def on_headers_complete(self) -> None:
        incoming = self.arriving
        assert incoming is not None
        incoming.method = self._parser.get_method()
        incoming.version = self._parser.get_http_version()
        incoming.keep_alive = self._parser.should_keep_alive()
        incoming.head_complete = True

    def on_body(self, data: bytes) -> None:
        incoming = self.arriving
        assert incoming is not None
        incoming.parts.append(data)
        incoming.size += len(data)
        if incoming.size > self._max_body_bytes:
            raise GatewayError("body_too_large")

    def on_chunk_header(self) -> None:
        if self.arriving is not None:
            self.arriving.chunks += 1

    def on_message_complete(self) -> None:
        incoming, self.arriving = self.arriving, None
        assert incoming is not None
        incoming.complete = True
        if incoming is not self.taken:
            self.queue.append(incoming)


def _join_small(parts: list[bytes]) -> None:
    """Join the small parts at the end. Of these only the first was there before this read, and the last part is never hashed early."""
    first = len(parts)
    while first and len(parts[first - 1]) < SMALL_PART:
        first -= 1
    if len(parts) - first > 1:
        parts[first:] = [b"".join(parts[first:])]
