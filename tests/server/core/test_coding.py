"""Compressed content: every cut gives the same bytes, every damage refuses, and nothing grows beyond what it may."""

from __future__ import annotations

import gzip
import random
import sys
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlu_server.core.coding import FREE, MAX_RATIO, SLICE, Decompression
from rlu_server.core.errors import GatewayError

if sys.version_info >= (3, 14):  # pragma: no cover - newer than what the tests run on
    from compression import zstd
else:
    from backports import zstd

MOST = 4 * 1024 * 1024
CODINGS: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"zstd": zstd.compress,
}
# Text that shrinks to about two thirds, longer than a few slices.
TEXT = random.Random(7).randbytes(600_000).hex().encode()


def undo(coding: bytes, pieces: list[bytes], most: int = MOST) -> bytes:
    made = Decompression(coding, most)
    for piece in pieces:
        made.feed(piece)
        run(made)
    return made.finish()


def run(made: Decompression) -> None:
    while not made.step():
        pass


def refusal(coding: bytes, data: bytes, most: int = MOST, size: int = 65536) -> str:
    with pytest.raises(GatewayError) as caught:
        undo(coding, [data[at : at + size] for at in range(0, len(data), size)], most)
    return caught.value.code


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [999, 65536, 1 << 30])
def test_the_cut_does_not_matter(coding: bytes, size: int):
    data = CODINGS[coding](TEXT)
    assert undo(coding, [data[at : at + size] for at in range(0, len(data), size)]) == TEXT


@pytest.mark.parametrize("coding", CODINGS)
def test_one_step_gives_one_slice(coding: bytes):
    made = Decompression(coding, MOST)
    made.feed(CODINGS[coding](TEXT))
    sizes, before = [], 0
    while True:
        done = made.step()
        sizes.append(made.size - before)
        before = made.size
        if done:
            break
    assert max(sizes) <= SLICE
    assert len(sizes) >= len(TEXT) // SLICE


@pytest.mark.parametrize("coding", CODINGS)
def test_damage(coding: bytes):
    good = CODINGS[coding](b'{"model":"m"}' * 100)
    damages = {
        "empty": b"",
        "cut": good[:-1],
        "first byte only": good[:1],
        "trailing byte": good + b"\0",
        "twice": good + good,
        "head": bytes([good[0] ^ 1]) + good[1:],
        "not compressed": b'{"model":"m"}',
    }
    if coding != b"zstd":  # whose command line and SDK leave the checksum out
        damages["checksum"] = (
            good[:-6] + bytes([good[-6] ^ 1]) + good[-5:] if coding == b"gzip" else good[:-1] + b"?"
        )
    for name, data in damages.items():
        assert refusal(coding, data) == "coding_malformed", name
        if data:
            assert refusal(coding, data, size=1) == "coding_malformed", name


def test_one_coding_is_not_taken_for_another():
    for coding in CODINGS:
        for other, compress in CODINGS.items():
            if other != coding:
                assert refusal(coding, compress(TEXT[:1000])) == "coding_malformed"
    # Raw deflate, which some clients call `deflate` too.
    raw = zlib.compressobj(wbits=-15)
    assert refusal(b"deflate", raw.compress(TEXT[:1000]) + raw.flush()) == "coding_malformed"


@pytest.mark.parametrize("coding", CODINGS)
def test_bombs(coding: bytes):
    bomb = CODINGS[coding](bytes(3 * FREE))
    assert len(bomb) * MAX_RATIO < 3 * FREE
    assert refusal(coding, bomb) == "coding_ratio"
    made = Decompression(coding, MOST)
    made.feed(bomb)
    with pytest.raises(GatewayError):
        run(made)
    assert made.size <= FREE + 2 * SLICE  # it did not get far
    assert undo(coding, [CODINGS[coding](bytes(FREE))]) == bytes(FREE)  # small ones may be regular
    assert refusal(coding, CODINGS[coding](TEXT), most=len(TEXT) - 1) == "body_too_large"
    assert undo(coding, [CODINGS[coding](TEXT)], most=len(TEXT)) == TEXT


def test_a_frame_cannot_ask_for_a_large_window():
    for log, fits in ((23, True), (24, False), (27, False)):
        compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: log})
        data = compressor.compress(TEXT[:1000]) + compressor.flush()
        if fits:
            assert undo(b"zstd", [data]) == TEXT[:1000]
        else:
            assert refusal(b"zstd", data) == "coding_malformed"


@pytest.mark.parametrize("coding", CODINGS)
@given(data=st.binary(max_size=200))
@settings(max_examples=50)
def test_arbitrary_bytes_raise_only_our_own(coding: bytes, data: bytes):
    try:
        undone = undo(coding, [data])
    except GatewayError as error:
        codes = {error.code}
    else:
        assert undo(coding, [data[:1], data[1:]]) == undone
        codes = set()
    assert codes <= {"coding_malformed"}
