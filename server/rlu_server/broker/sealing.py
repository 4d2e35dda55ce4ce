"""Sealed weights (docs/broker.md, "Bytes"): from a model key to the key of each file, and from chunks to sealed chunks. Pure.

A file is cut into chunks of one size; each is sealed by AES-256-GCM. The key is one file's of one sealing (HKDF over the model key, the
header and the path), so the chunk's number can be its nonce. The additional data is the header's digest, the file's path and size, the
chunk's number, and whether it is the last: a chunk that is altered, moved, left out, added, or taken from another file or another
sealing does not open.

Chunks are found by arithmetic alone, so any part of a file can be opened without the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from rlu_attestation import canonical
from rlu_attestation.claims import Members
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import RluError
from rlu_server.broker.errors import BadRequest, SealBroken
from rlu_server.models.manifest import File, Manifest

KEY_SIZE = 32
SALT_SIZE = 32
TAG_SIZE = 16
CHUNK = 1 << 20
"""What we seal with; a header may name another size."""
CHUNKS = (1 << 12, 1 << 24)
HEADER = "rlu-weights.json"
ENDING = ".sealed"
MAX_HEADER = 64 << 20
MAX_FILE = 1 << 48
MAX_PATH = 4096


class BadHeader(BadRequest):
    """`rlu-weights.json` is not of its form."""


@dataclass(frozen=True)
class Header:
    """What a directory of sealed weights says of itself.

    Attributes:
        kid: digest of the model key, by which a broker finds it.
        salt: random, so that no two sealings have a file key in common.
        manifest: of the model as it was before it was sealed.
    """

    kid: bytes
    salt: bytes
    chunk: int
    manifest: Manifest

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical.encode(
            {
                "chunk_bytes": self.chunk,
                "files": [_file(one) for one in self.manifest.files],
                "kid": b64u(self.kid),
                "rlu_weights": "1",
                "salt": b64u(self.salt),
            }
        )

    @cached_property
    def digest(self) -> bytes:
        return hashlib.sha256(self.encode()).digest()

    @classmethod
    def parse(cls, data: bytes) -> Header:
        """Raises BadHeader (`weights.header`) for anything else."""
        try:
            with Members(canonical.decode(data, MAX_HEADER), HEADER) as members:
                members.exactly("rlu_weights", "1")
                chunk = members.count("chunk_bytes")
                files = members.value("files")
                header = cls(
                    kid=members.binary("kid", KEY_SIZE),
                    salt=members.binary("salt", SALT_SIZE),
                    chunk=chunk,
                    manifest=Manifest(tuple(_files(files))),
                )
        except RluError as error:
            raise BadHeader("weights.header", f"{HEADER} is damaged: {error.message}") from error
        if not CHUNKS[0] <= chunk <= CHUNKS[1]:
            raise BadHeader("weights.header", f"chunks have {CHUNKS[0]} to {CHUNKS[1]} bytes, not {chunk}")
        _check_paths([one.path for one in header.manifest.files])
        return header


def key_id(key: bytes) -> bytes:
    """The name of a model key. It commits to the key: AES-GCM alone would let one ciphertext open under two."""
    return hashlib.sha256(b"rlu/weights-key-id/v1" + key).digest()


class SealedFile:
    """The arithmetic and the cipher of one file.

    Args:
        key: the model key.

    Raises:
        SealBroken: `weights.key`: this key did not seal these weights.
    """

    def __init__(self, header: Header, file: File, key: bytes) -> None:
        if key_id(key) != header.kid:
            raise SealBroken("weights.key", f"these weights were sealed with another key, {b64u(header.kid)}")
        path = file.path.encode("utf-8")
        derived = HKDF(
            algorithm=SHA256(),
            length=KEY_SIZE,
            salt=header.salt,
            info=b"rlu/weights/v1" + header.digest + path,
        ).derive(key)
        self._cipher = AESGCM(derived)
        self._prefix = header.digest + len(path).to_bytes(8, "big") + path + file.size.to_bytes(8, "big")
        self.path = file.path
        self.size = file.size
        self.chunk = header.chunk
        self.count = max(1, -(-file.size // header.chunk))
        """Chunks; an empty file has one, empty."""
        self.sealed_size = file.size + TAG_SIZE * self.count

    def plain_length(self, index: int) -> int:
        """Of one chunk."""
        return min(self.chunk, self.size - index * self.chunk)

    def offset(self, index: int) -> int:
        """Where a sealed chunk begins."""
        return index * (self.chunk + TAG_SIZE)

    def covering(self, start: int, length: int) -> Iterator[tuple[int, int, int]]:
        """The chunks that hold a part of the file: number, and first and last byte of the part within the chunk's plain text."""
        end = min(start + length, self.size)
        while start < end:
            index = start // self.chunk
            first = start - index * self.chunk
            last = min(end - index * self.chunk, self.chunk)
            yield index, first, last
            start = index * self.chunk + last

    def seal(self, index: int, plain: memoryview, sealed: memoryview) -> None:
        """Seal one chunk into a buffer of its length and the tag's."""
        self._cipher.encrypt_into(_nonce(index), plain, self._bound(index), sealed)

    def open(self, index: int, sealed: memoryview, plain: memoryview) -> None:
        """Open one chunk into a buffer of its length.

        Raises:
            SealBroken: `weights.chunk`. The buffer then holds nothing that may be used.
        """
        try:
            self._cipher.decrypt_into(_nonce(index), sealed, self._bound(index), plain)
        except InvalidTag as error:
            raise SealBroken(
                "weights.chunk",
                f"{self.path}: chunk {index} is not what was sealed; copy the sealed model again",
            ) from error

    def _bound(self, index: int) -> bytes:
        last = b"\x01" if index == self.count - 1 else b"\x00"
        return self._prefix + index.to_bytes(8, "big") + last


def _nonce(index: int) -> bytes:
    return index.to_bytes(12, "big")


def _file(file: File) -> dict[str, Any]:
    return {"path": file.path, "sha256": b64u(file.sha256), "size": file.size}


def _files(value: object) -> Iterator[File]:
    if not isinstance(value, list) or not value:
        raise BadHeader("weights.header", "files must be an array of files")
    for entry in value:
        path = entry.get("path") if isinstance(entry, Mapping) else None
        with Members(entry, "files") as members:
            members.value("path")
            size, digest = members.count("size"), members.binary("sha256", 32)
        if not isinstance(path, str) or size > MAX_FILE:
            raise BadHeader("weights.header", f"a file has a path, and at most {MAX_FILE} bytes")
        yield File(path, size, digest)


def _check_paths(paths: list[str]) -> None:
    """They stay below the directory, are in order, and none is another's directory: what we write is where it says."""
    encoded = [path.encode("utf-8") for path in paths]
    if any(first >= second for first, second in pairwise(encoded)):
        raise BadHeader("weights.header", "files are sorted by path, each once")
    for path, data in zip(paths, encoded, strict=True):
        parts = path.split("/")
        if len(data) > MAX_PATH or "\0" in path or any(part in ("", ".", "..") for part in parts):
            raise BadHeader("weights.header", f"{path[:128]!r} is no path below a model's directory")
    known = set(paths)
    for path in paths:
        parts = path.split("/")
        if any("/".join(parts[:depth]) in known for depth in range(1, len(parts))):
            raise BadHeader("weights.header", f"{path[:128]!r} lies in a file")
