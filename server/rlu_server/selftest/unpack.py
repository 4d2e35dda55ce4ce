"""Compressed streams, wherever they begin: gzip, zlib, Zstandard, xz, bzip2 and the members of zip files. Pure.

What looks like a beginning is tried, and mostly is none; that costs microseconds. Whatever came out before a stream broke off counts, since
the rest of a deleted file may be gone.
"""

from __future__ import annotations

import bz2
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIMIT = 64 << 20
"""Bytes that are unpacked of one stream."""
TRY = 4096
"""Bytes that a beginning is judged by."""
Read = Callable[[int, int], bytes]
"""Offset and size to bytes, fewer at the end."""
_MAGICS = {
    "gzip": re.compile(b"\x1f\x8b\x08"),
    "zlib": re.compile(b"x[\x01\x5e\x9c\xda]"),
    "zstd": re.compile(b"\\(\xb5/\xfd"),
    "xz": re.compile(b"\xfd7zXZ\x00"),
    "bzip2": re.compile(b"BZh[1-9]1AY"),
    "zip": re.compile(b"PK\x03\x04"),
}
KINDS = tuple(_MAGICS)


class Decompressor(Protocol):
    """What the libraries' decompressors have in common, for which they spell the limit in two ways."""

    def __call__(self, data: bytes, limit: int) -> tuple[bytes, bool]:
        """Some output, and whether the stream has ended."""


def beginnings(buffer: bytes) -> Iterator[tuple[int, str]]:
    """Offset and kind of everything that looks like the beginning of a compressed stream."""
    for kind, magic in _MAGICS.items():
        for match in magic.finditer(buffer):
            yield match.start(), kind


def unpacked(read: Read, at: int, kind: str) -> tuple[bytes, bool]:
    """What a stream holds that begins here; and whether there was more of it than LIMIT."""
    head = read(at, TRY)
    if kind == "zip":
        if len(head) < 30 or head[8:10] != b"\x08\x00":
            return b"", False
        at += 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        head = read(at, TRY)
    step = _decompressor(kind)
    out, data, size = bytearray(), head, TRY
    while data and len(out) < LIMIT:
        try:
            made, ended = step(data, LIMIT - len(out))
        except (zlib.error, lzma.LZMAError, zstd.ZstdError, OSError, ValueError, EOFError):
            break
        out += made
        if ended:
            return bytes(out), False
        at += len(data)
        size = min(size * 8, 1 << 20)
        data = read(at, size)
    return bytes(out), len(out) >= LIMIT


def _decompressor(kind: str) -> Decompressor:
    if kind in ("gzip", "zlib", "zip"):
        inflating = zlib.decompressobj({"gzip": 31, "zlib": 15, "zip": -15}[kind])
        return lambda data, limit: (inflating.decompress(data, limit), inflating.eof)
    made: Any = {"xz": lzma.LZMADecompressor, "bzip2": bz2.BZ2Decompressor, "zstd": zstd.ZstdDecompressor}[
        kind
    ]()

    def step(data: bytes, limit: int) -> tuple[bytes, bool]:
        out = bytearray()
        # These stop at the first bad byte with an error and without what came before it, so they get a little at a time.
        for start in range(0, len(data), 512):
            try:
                out += made.decompress(data[start : start + 512], limit - len(out))
            except Exception:
                if not out:
                    raise
                return bytes(out), True
            if made.eof or len(out) >= limit:
                break
        return bytes(out), made.eof

    return step
