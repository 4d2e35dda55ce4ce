"""HTTP/1.1 as the gateway accepts and writes it: what is not in the code below is refused or not passed on.

llhttp parses (strict, no leniency flags); this module adds the rules that the grammar leaves open: one framing, one host, one of each
header that decides anything. Bodies are always re-framed towards the engine, with a length, so no framing trick survives the hop.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from http import HTTPStatus

from rlu_server.core.coding import ACCEPTED, IDENTITY
from rlu_server.core.errors import GatewayError

MAX_HEADERS = 128
SINGLE = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"rlu-session",
        b"session-id",
        b"transfer-encoding",
        b"x-api-key",
        b"x-claude-code-session-id",
    }
)
"""Headers that decide something here: two of one kind refuse, since two readers could pick differently."""

_NONE: frozenset[bytes] = frozenset()
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode("ascii") for s in HTTPStatus}


class Incoming:
    """One request as it arrives.

    Attributes:
        headers: by lower-case name; of a name that came twice, the last value.
        repeated: the names that came twice.
        chunks, overhead: chunks of a chunked body, and the bytes spent on their framing.
        path, query: of a target that was checked.
    """

    __slots__ = (
        "chunks",
        "complete",
        "head_bytes",
        "head_complete",
        "headers",
        "keep_alive",
        "method",
        "overhead",
        "parts",
        "path",
        "query",
        "repeated",
        "size",
        "target",
        "version",
    )

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.version = ""
        self.headers: dict[bytes, bytes] = {}
        self.repeated: frozenset[bytes] = _NONE
        self.head_bytes = 0
        self.head_complete = False
        self.complete = False
        self.keep_alive = True
        self.parts: list[bytes] = []
        self.size = 0
        self.chunks = 0
        self.overhead = 0
        self.path = b""
        self.query = b""

    def content(self) -> bytes:
        """All content; the parts are let go."""
        parts, self.parts = self.parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def check_head(self, max_body_bytes: int) -> None:
        """Apply the rules of this module to a complete head.

        Raises:
            GatewayError: `http_malformed`, `http_upgrade`, `header_too_large`, `body_too_large`, `expectation`, `content_encoding`.
        """
        headers = self.headers
        if len(headers) > MAX_HEADERS:
            raise GatewayError("header_too_large")
        if self.repeated and not self.repeated.isdisjoint(SINGLE):
            raise GatewayError("http_malformed", "A header that must be sent once was sent twice.")
        if self.version not in ("1.1", "1.0") or not self.target.startswith(b"/") or b"#" in self.target:
            raise GatewayError("http_malformed")
        if self.version == "1.1" and b"host" not in headers:
            raise GatewayError("http_malformed", "`Host` is missing.")
        if b"upgrade" in headers:
            raise GatewayError("http_upgrade")
        self._check_framing(max_body_bytes)
        if self.coding() not in (IDENTITY, *ACCEPTED):
            raise GatewayError("content_encoding")
        if b"expect" in headers and headers[b"expect"].lower() != b"100-continue":
            raise GatewayError("expectation")
        self.path, _, self.query = self.target.partition(b"?")

    def coding(self) -> bytes:
        """The content coding, lower case."""
        return self.headers.get(b"content-encoding", IDENTITY).lower()

    def has_body(self) -> bool:
        """Did the client announce content?"""
        return b"content-length" in self.headers or b"transfer-encoding" in self.headers

    def _check_framing(self, max_body_bytes: int) -> None:
        length = self.headers.get(b"content-length")
        coding = self.headers.get(b"transfer-encoding")
        if coding is not None and (
            length is not None or coding.lower() != b"chunked" or self.version == "1.0"
        ):
            raise GatewayError("http_malformed", "The request's length is ambiguous.")
        if length is not None:
            if not length.isdigit() or len(length) > 15:
                raise GatewayError("http_malformed", "`Content-Length` is not a number.")
            if int(length) > max_body_bytes:
                raise GatewayError("body_too_large")


class Digests:
    """SHA-256 of a body while it arrives, and of what is forwarded, hashing the bytes they share once."""

    __slots__ = ("_hashed", "_parts", "_state")

    def __init__(self) -> None:
        self._state = hashlib.sha256()
        self._parts = 0
        self._hashed = 0

    def catch_up(self, parts: list[bytes]) -> None:
        """Hash what has arrived, except the last part: the end of a body is where the two differ."""
        while self._parts < len(parts) - 1:
            self._state.update(parts[self._parts])
            self._hashed += len(parts[self._parts])
            self._parts += 1

    def add(self, part: bytes) -> None:
        """Hash a part of what is not forwarded as it came."""
        self._state.update(part)

    def whole(self) -> bytes:
        """The digest of what was added."""
        return self._state.digest()

    def finish(self, raw: bytes, forwarded: bytes, shared: int) -> tuple[bytes, bytes]:
        """Digests of the body and of what is forwarded, whose first `shared` bytes are equal."""
        state = self._state
        if forwarded is raw:
            state.update(memoryview(raw)[self._hashed :])
            return state.digest(), state.digest()
        if shared < self._hashed:
            state.update(memoryview(raw)[self._hashed :])
            return state.digest(), hashlib.sha256(forwarded).digest()
        state.update(memoryview(raw)[self._hashed : shared])
        other = state.copy()
        state.update(memoryview(raw)[shared:])
        other.update(memoryview(forwarded)[shared:])
        return state.digest(), other.digest()


class _Clock:
    """The `Date` line, made once a second."""

    second = 0
    line = b""


def date_line() -> bytes:
    now = int(time.time())
    if now != _Clock.second:
        _Clock.second = now
        _Clock.line = time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime(now)).encode("ascii")
    return _Clock.line


def head(status: int, lines: Iterable[bytes]) -> bytes:
    """A response head from complete header lines."""
    first = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return b"".join((first, date_line(), *lines, b"\r\n"))


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; `data` is not empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)
