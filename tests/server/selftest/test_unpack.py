from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_server.selftest import unpack
from rlu_server.selftest.plants import zstd
from rlu_server.selftest.unpack import KINDS


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a name", data)
    return out.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "zstd": zstd.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zip": zipped,
}


def all_of(data: bytes) -> dict[str, bytes]:
    found = {}
    for at, kind in unpack.beginnings(data):
        made, _ = unpack.unpacked(lambda o, n: data[o : o + n], at, kind)
        if len(made) > len(found.get(kind, b"")):
            found[kind] = made
    return found


def test_every_kind_has_a_packer() -> None:
    assert set(PACKERS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_finds_streams_in_the_middle(kind: str) -> None:
    content = os.urandom(50_000) + b"the end"
    assert all_of(os.urandom(333) + PACKERS[kind](content) + os.urandom(777))[kind] == content


@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_zlib_levels(level: int) -> None:
    content = b"some words " * 500
    assert all_of(b"x" + zlib.compress(content, level))["zlib"] == content


@pytest.mark.parametrize("kind", ["gzip", "zlib", "zstd", "zip"])
def test_what_is_left_of_a_stream_counts(kind: str) -> None:
    content = b"the beginning of it " + os.urandom(400_000)
    packed = PACKERS[kind](content)
    left = all_of(packed[: len(packed) // 2] + bytes(4096))[kind]
    assert left.startswith(b"the beginning of it ")


@pytest.mark.parametrize("kind", KINDS)
def test_bombs_are_cut(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "LIMIT", 1 << 20)
    data = PACKERS[kind](bytes(8 << 20))
    (at, found), *_ = [(at, k) for at, k in unpack.beginnings(data) if k == kind]
    made, more = unpack.unpacked(lambda o, n: data[o : o + n], at, found)
    assert len(made) <= 2 << 20
    assert more


@given(st.binary(max_size=300), st.sampled_from(KINDS))
def test_garbage_is_nothing(data: bytes, kind: str) -> None:
    made, _ = unpack.unpacked(lambda o, n: data[o : o + n], 0, kind)
    assert isinstance(made, bytes)
