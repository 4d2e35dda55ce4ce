"""Every form in which a text could lie somewhere: encodings, escapes, tokens, digests. Pure.

Compressed forms are not here: `unpack` takes whatever is compressed apart, and what comes out is searched for these.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

import msgspec

PIECE = 16
"""Bytes of the pieces of a text that count as the text: what was cut off after a few words is a leak too."""
SHORTEST = 15
"""Bytes of a needle at least: two windows of the index, less one."""
DIGESTS = ("md5", "sha1", "sha256", "sha512")
FORMS = (
    "text",
    "base64",
    "base64url",
    "hex",
    "HEX",
    "percent",
    "form",
    "json",
    "JSON",
    "python",
    "utf-16-le",
    "utf-16-be",
    "utf-32-le",
    "utf-32-be",
    "tokens-int32",
    "tokens-int64",
    "tokens-json",
    "tokens-msgpack",
    *DIGESTS,
)
"""Names of all forms. A digest counts in binary, hexadecimal and base64."""
Tokenizer = Callable[[str], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Needle:
    """Bytes to look for, and what finding them means."""

    data: bytes
    form: str
    scenario: str


def of_text(text: str, scenario: str, tokenizers: Sequence[Tokenizer] = ()) -> Iterator[Needle]:
    """Every form of a marker but its digests."""
    raw = text.encode()
    for name, data in _encodings(text, raw):
        yield Needle(data, name, scenario)
    for tokenizer in tokenizers:
        for name, data in _tokens(text, tokenizer):
            if len(data) >= SHORTEST:
                yield Needle(data, name, scenario)


def of_digests(content: bytes, scenario: str) -> Iterator[Needle]:
    """The plain digests of a content: without a key, whoever guesses the content can test the guess against one."""
    for name in DIGESTS:
        digest = hashlib.new(name, content, usedforsecurity=False).digest()
        for data in (digest, digest.hex().encode(), digest.hex().upper().encode()):
            yield Needle(data, name, scenario)
        plain = base64.b64encode(digest).rstrip(b"=")
        for data in {plain, plain.translate(bytes.maketrans(b"+/", b"-_"))}:
            yield Needle(data, name, scenario)


def _encodings(text: str, raw: bytes) -> Iterator[tuple[str, bytes]]:
    for start in range(0, max(1, len(raw) - PIECE + 1), PIECE):
        yield "text", raw[start : start + PIECE]
    for shift in range(3):
        # Without the ends, which depend on the neighbours.
        encoded = base64.b64encode(bytes(shift) + raw)[4:-4]
        yield "base64", encoded
        safe = encoded.translate(bytes.maketrans(b"+/", b"-_"))
        if safe != encoded:
            yield "base64url", safe
    yield "hex", raw.hex().encode()
    yield "HEX", raw.hex().upper().encode()
    yield "percent", b"".join(b"%%%02X" % byte for byte in raw)
    for form, quoted in (("percent", quote(text, safe="")), ("form", quote_plus(text))):
        if quoted.encode() != raw:
            yield form, quoted.encode()
    units = [text.encode("utf-16-be")[i : i + 2].hex() for i in range(0, len(text.encode("utf-16-be")), 2)]
    yield "json", "".join(f"\\u{unit}" for unit in units).encode()
    yield "JSON", "".join(f"\\u{unit.upper()}" for unit in units).encode()
    if not text.isascii():
        escaped = json.dumps(text)[1:-1].encode()
        yield "json", escaped
        yield "JSON", _upper_escapes(escaped)
        yield "python", repr(raw)[2:-1].encode()
        yield "python", ascii(text)[1:-1].encode()
    for name in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        yield name, text.encode(name)


def _upper_escapes(data: bytes) -> bytes:
    """`\\u00df` as `\\u00DF`."""
    first, *rest = data.split(b"\\u")
    return b"\\u".join([first, *(part[:4].upper() + part[4:] for part in rest)])


def _tokens(text: str, tokenizer: Tokenizer) -> Iterator[tuple[str, bytes]]:
    """Token ids as programs keep them, without the first and last, which depend on the neighbours."""
    for given in (text, f" {text}"):
        ids = list(tokenizer(given))[1:-1]
        if len(ids) < 4:
            continue
        yield "tokens-int32", b"".join(i.to_bytes(4, "little") for i in ids)
        yield "tokens-int64", b"".join(i.to_bytes(8, "little") for i in ids)
        yield "tokens-json", json.dumps(ids)[1:-1].encode()
        yield "tokens-json", json.dumps(ids, separators=(",", ":"))[1:-1].encode()
        yield "tokens-msgpack", b"".join(msgspec.msgpack.encode(i) for i in ids)
