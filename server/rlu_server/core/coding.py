"""Compressed request content (RFC 9110 section 8.4): undone while it arrives, in slices, and never beyond what was allowed.

One coding, one member or frame, nothing after it. zstd's window is at most 8 MiB (RFC 9659), so that no head of a frame can ask for more
memory. A body may grow to the largest size that an uncompressed one may have, and beyond the first MiB to a hundred times what was sent.
"""

from __future__ import annotations

import sys
import zlib
from collections import deque
from typing import Any

from rlu_server.core.errors import GatewayError

if sys.version_info >= (3, 14):  # pragma: no cover - newer than what the tests run on
    from compression import zstd
else:
    from backports import zstd

IDENTITY = b"identity"
ACCEPTED = (b"gzip", b"deflate", b"zstd")
SLICE = 256 * 1024
"""So much comes out of one step, which takes about a millisecond."""
MAX_RATIO = 100
FREE = 1024 * 1024
"""Up to here the ratio does not matter: small bodies of agents can be very regular."""
_WINDOW_LOG = 23


class _Deflate:
    """gzip, and `deflate`, which is zlib's format."""

    def __init__(self, wbits: int) -> None:
        self._inflate = zlib.decompressobj(wbits)

    def decompress(self, data: bytes, most: int) -> tuple[bytes, bytes]:
        """Output, and the input that was not needed for it."""
        out = self._inflate.decompress(data, most)
        return out, self._inflate.unconsumed_tail

    @property
    def ended(self) -> bool:
        return self._inflate.eof

    @property
    def trailing(self) -> bool:
        return bool(self._inflate.unused_data)


class _Zstd:
    """One frame."""

    def __init__(self) -> None:
        parameter: Any = zstd.DecompressionParameter.window_log_max
        self._frame = zstd.ZstdDecompressor(options={parameter: _WINDOW_LOG})

    def decompress(self, data: bytes, most: int) -> tuple[bytes, bytes]:
        return self._frame.decompress(data, most), b""

    @property
    def ended(self) -> bool:
        return self._frame.eof

    @property
    def trailing(self) -> bool:
        return bool(self._frame.eof and self._frame.unused_data)


class Decompression:
    """One body.

    Attributes:
        size: of what has come out so far.

    Args:
        coding: one of `ACCEPTED`.
        most: bytes that may come out.
    """

    def __init__(self, coding: bytes, most: int) -> None:
        self.size = 0
        self._most = most
        self._received = 0
        self._waiting: deque[bytes] = deque()
        self._parts: list[bytes] = []
        self._more = False
        self._coder: _Deflate | _Zstd
        if coding == b"zstd":
            self._coder = _Zstd()
        else:
            self._coder = _Deflate(zlib.MAX_WBITS | 16 if coding == b"gzip" else zlib.MAX_WBITS)

    def feed(self, data: bytes) -> None:
        """More of it has arrived."""
        self._received += len(data)
        self._waiting.append(data)

    def step(self) -> bool:
        """Undo one slice; is there nothing left to do for now?

        Raises:
            GatewayError: `coding_malformed`, `coding_ratio`, `body_too_large`.
        """
        if not self._waiting and not self._more:
            return True
        data = self._waiting.popleft() if self._waiting else b""
        if self._coder.ended:
            raise GatewayError("coding_malformed")
        try:
            out, rest = self._coder.decompress(data, SLICE)
        except (zlib.error, zstd.ZstdError, EOFError) as error:
            raise GatewayError("coding_malformed") from error
        if rest:
            self._waiting.appendleft(rest)
        # A full slice may not have been all: ask again, even without new input.
        self._more = len(out) == SLICE and not self._coder.ended
        self._parts.append(out)
        self.size += len(out)
        if self.size > self._most:
            raise GatewayError("body_too_large")
        if self.size > FREE and self.size > MAX_RATIO * self._received:
            raise GatewayError("coding_ratio")
        if self._coder.trailing:
            raise GatewayError("coding_malformed")
        return not self._waiting and not self._more

    def finish(self) -> bytes:
        """All of it, once nothing more comes and `step` said that nothing is left.

        Raises:
            GatewayError: `coding_malformed`, when it was cut short.
        """
        if not self._coder.ended:
            raise GatewayError("coding_malformed")
        parts, self._parts = self._parts, []
        return b"".join(parts)
