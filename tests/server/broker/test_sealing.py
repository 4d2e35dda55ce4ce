"""The bytes of sealed weights: held against a second reading of docs/broker.md, and refused after any change."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation import canonical
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_server.broker.errors import SealBroken
from rlu_server.broker.sealing import BadHeader, Header, SealedFile, key_id
from rlu_server.models.manifest import File, Manifest

KEY, SALT = b"k" * 32, b"s" * 32
CHUNK = 1 << 12
SIZES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK)


def header_of(files: dict[str, bytes], chunk: int = CHUNK, salt: bytes = SALT) -> Header:
    listed = [File(path, len(data), hashlib.sha256(data).digest()) for path, data in sorted(files.items())]
    return Header(key_id(KEY), salt, chunk, Manifest(tuple(listed)))


def sealed_chunks(header: Header, path: str, data: bytes) -> list[bytes]:
    """All of a file, by our code."""
    file = SealedFile(header, next(f for f in header.manifest.files if f.path == path), KEY)
    found = []
    for index in range(file.count):
        plain = memoryview(data)[index * header.chunk :][: file.plain_length(index)]
        out = bytearray(len(plain) + 16)
        file.seal(index, plain, memoryview(out))
        found.append(bytes(out))
    return found


def reference(header: Header, path: str, data: bytes) -> bytes:
    """The same from the document's words alone."""
    digest = hashlib.sha256(header.encode()).digest()
    name = path.encode()
    key = HKDF(hashes.SHA256(), 32, SALT, b"rlu/weights/v1" + digest + name).derive(KEY)
    chunks = [data[at : at + header.chunk] for at in range(0, len(data), header.chunk)] or [b""]
    out = b""
    for index, chunk in enumerate(chunks):
        last = bytes([index == len(chunks) - 1])
        bound = digest + len(name).to_bytes(8, "big") + name + len(data).to_bytes(8, "big")
        bound += index.to_bytes(8, "big") + last
        out += AESGCM(key).encrypt(index.to_bytes(12, "big"), chunk, bound)
    return out


@pytest.mark.parametrize("size", SIZES)
def test_bytes(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    header = header_of({"sub/ä.safetensors": data})
    assert b"".join(sealed_chunks(header, "sub/ä.safetensors", data)) == reference(
        header, "sub/ä.safetensors", data
    )


def opened(header: Header, path: str, index: int, sealed: bytes) -> bytes:
    file = SealedFile(header, next(f for f in header.manifest.files if f.path == path), KEY)
    out = bytearray(len(sealed) - 16)
    file.open(index, memoryview(sealed), memoryview(out))
    return bytes(out)


def test_what_opens_and_what_does_not() -> None:
    files = {"a": bytes(3 * CHUNK), "b": bytes(3 * CHUNK)}
    header = header_of(files)
    chunks = sealed_chunks(header, "a", files["a"])
    assert [opened(header, "a", i, c) for i, c in enumerate(chunks)] == [bytes(CHUNK)] * 3
    other_salt = header_of(files, salt=b"t" * 32)
    shorter = header_of({**files, "a": bytes(2 * CHUNK)})
    longer = header_of({**files, "a": bytes(4 * CHUNK)})
    flipped = bytes([chunks[0][0] ^ 1]) + chunks[0][1:]
    tried = {
        "altered": (header, "a", 0, flipped),
        "altered tag": (header, "a", 0, chunks[0][:-1] + bytes([chunks[0][-1] ^ 1])),
        "moved": (header, "a", 1, chunks[0]),
        "of another file": (header, "b", 0, chunks[0]),
        "of another sealing": (other_salt, "a", 0, chunks[0]),
        "last one of a file that was cut": (shorter, "a", 1, chunks[1]),
        "not the last one any more": (longer, "a", 2, chunks[2]),
    }
    for what, (head, path, index, sealed) in tried.items():
        with pytest.raises(SealBroken) as caught:
            opened(head, path, index, sealed)
        assert caught.value.code == "weights.chunk", what


def test_another_key() -> None:
    header = header_of({"a": b""})
    with pytest.raises(SealBroken) as caught:
        SealedFile(header, header.manifest.files[0], b"K" * 32)
    assert caught.value.code == "weights.key"


def test_header_is_read_as_it_is_written() -> None:
    header = header_of({"a": b"1", "b/c": b"", "ö": b"22"})
    assert Header.parse(header.encode()) == header
    assert header.digest == hashlib.sha256(header.encode()).digest()


def changed(**members: object) -> bytes:
    value = json.loads(header_of({"a": b"1", "b": b"2"}).encode())
    return canonical.encode({**value, **members})


def files(*paths: object, **more: object) -> list[dict[str, object]]:
    return [{"path": path, "sha256": b64u(bytes(32)), "size": 1, **more} for path in paths]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"rlu_weights": "1"}',
        changed(rlu_weights="2"),
        changed(more=1),
        changed(kid="AA"),
        changed(salt=b64u(bytes(31))),
        changed(chunk_bytes=0),
        changed(chunk_bytes=(1 << 12) - 1),
        changed(chunk_bytes=(1 << 24) + 1),
        changed(chunk_bytes="4096"),
        changed(files=[]),
        changed(files={}),
        changed(files=[1]),
        changed(files=files("a", more=1)),
        changed(files=files("b", "a")),
        changed(files=files("a", "a")),
        changed(files=files("a", "a/b")),
        changed(files=files("")),
        changed(files=files("/a")),
        changed(files=files("a/")),
        changed(files=files("a//b")),
        changed(files=files("../a")),
        changed(files=files("a/../../b")),
        changed(files=files("./a")),
        changed(files=files("a\0")),
        changed(files=files("a" * 4097)),
        changed(files=files(1)),
        changed(files=files("a", size=-1)),
        changed(files=files("a", size=(1 << 48) + 1)),
        changed(files=files("a", sha256=b64u(bytes(31)))),
    ],
)
def test_headers_that_are_none(data: bytes) -> None:
    with pytest.raises(BadHeader) as caught:
        Header.parse(data)
    assert (caught.value.code, caught.value.exit_code) == ("weights.header", 30)


@given(st.binary(max_size=200))
def test_arbitrary_headers(data: bytes) -> None:
    with pytest.raises(RluError):
        Header.parse(data)


@given(st.integers(0, 5 * CHUNK), st.integers(0, 6 * CHUNK), st.integers(0, 6 * CHUNK))
def test_parts(size: int, start: int, length: int) -> None:
    """The chunks that cover a part are those, and no more."""
    header = header_of({"a": b""})
    file = SealedFile(header, replace(header.manifest.files[0], size=size), KEY)
    data = bytes(i % 251 for i in range(size))
    parts = list(file.covering(start, length))
    got = b"".join(data[i * CHUNK :][:CHUNK][first:last] for i, first, last in parts)
    assert got == data[start : start + length]
    assert all(first < last for _, first, last in parts)
    assert len(parts) <= length // CHUNK + 2
