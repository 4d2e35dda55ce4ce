"""The log's tree with its lower levels on disk, and 16 bytes about each leaf for the export.

Leaves in groups of 256 (*tiles*) that a sealed segment ends are kept in files; in memory stay the roots of tiles and what is above
them, a quarter of a byte a leaf, and everything of the leaves that are not sealed yet. A proof that needs an old tile reads its 8 KiB,
and hashes them anew: bytes that do not lead to the tile's root, which a signed head covers, refuse (`log.damaged`).

    leaves.bin   leaf hashes, 32 bytes each        roots.bin   roots of complete tiles, 32 bytes each
    meta.bin     `Meta`, 16 bytes a leaf

The files are written when a segment is sealed, before its successor names them; what a crash leaves beyond that is written over.
"""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rlu_attestation.merkle import HASH_SIZE, Tree, node_hash
from rlu_server.attestor.errors import LogCorrupt
from rlu_server.attestor.secret import sync_directory

TILE_LEVEL = 8
TILE = 1 << TILE_LEVEL
META_SIZE = 16
CACHED_TILES = 64
"""Tiles kept after they were read: 16 KiB each."""
KINDS = ("", "session", "receipt", "close", "gap", "tally")
STATUSES = ("", "complete", "partial", "aborted", "failed")
_KIND_CODES = {kind: code for code, kind in enumerate(KINDS)}
_STATUS_CODES = {status: code for code, status in enumerate(STATUSES)}
BUCKET = 256
"""Token counts are kept as the smallest `BUCKET` · 2^(n-1) that is not below them, `n` being the number that is kept; 0 is 0."""


class Meta(msgspec.Struct, frozen=True):
    """What is kept of a leaf beside its hash; nothing that depends on content but buckets of token counts.

    Attributes:
        usage: buckets of input, output and cached input tokens (`bucket`).
        first: of a gap: the first leaf that was not exported.
    """

    kind: str
    iat: int
    status: str = ""
    usage: tuple[int, int, int] = (0, 0, 0)
    first: int = 0

    def encode(self) -> bytes:
        codes = bytes((_KIND_CODES[self.kind], _STATUS_CODES[self.status], *self.usage))
        return codes + self.iat.to_bytes(5, "big") + self.first.to_bytes(6, "big")

    @classmethod
    def decode(cls, data: bytes) -> Meta:
        """Raises LogCorrupt."""
        if len(data) != META_SIZE or not 0 < data[0] < len(KINDS) or data[1] >= len(STATUSES):
            raise LogCorrupt("log.damaged", "what is kept beside a leaf is not what this program writes")
        usage = (data[2], data[3], data[4])
        iat, first = int.from_bytes(data[5:10], "big"), int.from_bytes(data[10:], "big")
        return cls(KINDS[data[0]], iat, STATUSES[data[1]], usage, first)


def bucket(tokens: int) -> int:
    """Which power of two a token count is below; everything from 1 to 256 is one bucket, so that short content cannot be told apart."""
    return 0 if tokens == 0 else min(((tokens - 1) // BUCKET).bit_length() + 1, 255)


@dataclass(frozen=True, slots=True)
class Sealing:
    """What goes into the files when a segment is sealed: everything from the tile that was not complete the last time."""

    start: int
    size: int
    leaves: bytes
    metas: bytes
    roots: bytes

    def write(self, directory: Path) -> None:
        """Put it on the disk, over whatever an unfinished sealing left there.

        Raises:
            OSError: the disk is full or broken; nothing that counts was changed.
        """
        directory.mkdir(mode=0o700, exist_ok=True)
        tiles = self.start >> TILE_LEVEL
        for name, data, offset in (
            ("leaves.bin", self.leaves, self.start * HASH_SIZE),
            ("meta.bin", self.metas, self.start * META_SIZE),
            ("roots.bin", self.roots, tiles * HASH_SIZE),
        ):
            descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.seek(offset)
                file.write(data)
                file.truncate()
                file.flush()
                os.fsync(descriptor)
        sync_directory(directory)


class TiledTree(Tree):
    """An append-only tree whose sealed part is in files.

    Args:
        directory: where the files are.
        size: how many leaves are in them.

    Raises:
        LogCorrupt: `log.damaged`: the files are shorter than that, or contradict each other.
    """

    def __init__(self, directory: Path | None = None, size: int = 0) -> None:
        super().__init__()
        self._directory = directory
        self._metas = bytearray()
        self._tiles = 0
        """Tiles that are in the files only."""
        self._cache: OrderedDict[int, list[bytes]] = OrderedDict()
        if size:
            self._load(size)

    @property
    def size(self) -> int:
        return self._tiles * TILE + len(self._levels[0]) // HASH_SIZE

    def put(self, leaf: bytes, meta: Meta) -> int:
        """Add a leaf with what is kept beside it; returns its index."""
        self._metas += meta.encode()
        return self.append(leaf)

    def truncate(self, size: int) -> None:
        size = self._checked(size)
        if size < self._tiles * TILE:
            raise ValueError("sealed leaves are not forgotten")
        for level, nodes in enumerate(self._levels):
            del nodes[((size >> level) - self._base(level)) * HASH_SIZE :]
        del self._metas[(size - self._tiles * TILE) * META_SIZE :]

    def leaf(self, index: int) -> bytes:
        return self.leaves(index, index + 1)

    def leaves(self, start: int, end: int) -> bytes:
        """The leaf hashes from `start` up to `end`, one after the other."""
        return self._range("leaves.bin", self._levels[0], HASH_SIZE, start, end)

    def metas(self, start: int, end: int) -> list[Meta]:
        """What is kept beside the leaves from `start` up to `end`."""
        data = self._range("meta.bin", self._metas, META_SIZE, start, end)
        return [Meta.decode(data[at : at + META_SIZE]) for at in range(0, len(data), META_SIZE)]

    def counts(self, start: int, end: int) -> Counter[str]:
        """How many leaves of each kind are from `start` up to `end`; receipts count by their status."""
        data = self._range("meta.bin", self._metas, META_SIZE, start, end)
        kinds, statuses = data[::META_SIZE], data[1::META_SIZE]
        found = Counter({kind: kinds.count(code) for kind, code in _KIND_CODES.items()})
        del found["receipt"]
        found.update({status: statuses.count(code) for status, code in _STATUS_CODES.items() if code})
        return found

    def sealing(self) -> Sealing:
        """What a sealing of the tree as it is would write."""
        start, size = self._tiles * TILE, self.size
        whole = (size - start) >> TILE_LEVEL
        upper = self._levels[TILE_LEVEL] if len(self._levels) > TILE_LEVEL else b""
        roots = bytes(upper[self._tiles * HASH_SIZE : (self._tiles + whole) * HASH_SIZE])
        return Sealing(start, size, bytes(self._levels[0]), bytes(self._metas), roots)

    def seal(self, sealing: Sealing, directory: Path) -> None:
        """Let go of complete tiles that are now in the files."""
        self._directory = directory
        whole = (sealing.size - sealing.start) >> TILE_LEVEL
        for level in range(min(TILE_LEVEL, len(self._levels))):
            del self._levels[level][: (whole << (TILE_LEVEL - level)) * HASH_SIZE]
        del self._metas[: whole * TILE * META_SIZE]
        self._tiles += whole

    def _load(self, size: int) -> None:
        tiles, rest = size >> TILE_LEVEL, size & (TILE - 1)
        self._levels = [bytearray() for _ in range(TILE_LEVEL)]
        level = bytearray(self._read("roots.bin", 0, tiles * HASH_SIZE))
        while True:
            self._levels.append(level)
            if len(level) < 2 * HASH_SIZE:
                break
            pairs = len(level) // (2 * HASH_SIZE)
            level = bytearray(
                b"".join(
                    node_hash(
                        bytes(level[at : at + HASH_SIZE]), bytes(level[at + HASH_SIZE : at + 2 * HASH_SIZE])
                    )
                    for at in range(0, pairs * 2 * HASH_SIZE, 2 * HASH_SIZE)
                )
            )
        self._tiles = tiles
        leaves = self._read("leaves.bin", tiles * TILE * HASH_SIZE, rest * HASH_SIZE)
        self._metas += self._read("meta.bin", tiles * TILE * META_SIZE, rest * META_SIZE)
        for at in range(0, len(leaves), HASH_SIZE):
            self.append(leaves[at : at + HASH_SIZE])

    def _base(self, level: int) -> int:
        return self._tiles << (TILE_LEVEL - level) if level < TILE_LEVEL else 0

    def _node(self, level: int, position: int) -> bytes:
        base = self._base(level)
        if position >= base:
            return super()._node(level, position - base)
        within = TILE_LEVEL - level
        nodes = self._tile(position >> within)[level]
        at = (position & ((1 << within) - 1)) * HASH_SIZE
        return nodes[at : at + HASH_SIZE]

    def _tile(self, number: int) -> list[bytes]:
        """All levels of a tile that is in the files, checked against its root."""
        found = self._cache.get(number)
        if found is not None:
            self._cache.move_to_end(number)
            return found
        nodes = self._read("leaves.bin", number * TILE * HASH_SIZE, TILE * HASH_SIZE)
        levels = [nodes]
        while len(nodes) > HASH_SIZE:
            pair = 2 * HASH_SIZE
            nodes = b"".join(
                node_hash(nodes[at : at + HASH_SIZE], nodes[at + HASH_SIZE : at + pair])
                for at in range(0, len(nodes), pair)
            )
            levels.append(nodes)
        if nodes != super()._node(TILE_LEVEL, number):
            raise LogCorrupt(
                "log.damaged", f"the leaves from {number * TILE} on are not those that were signed"
            )
        self._cache[number] = levels
        if len(self._cache) > CACHED_TILES:
            self._cache.popitem(last=False)
        return levels

    def _range(self, name: str, recent: bytearray, width: int, start: int, end: int) -> bytes:
        if not 0 <= start <= end <= self.size:
            raise ValueError("no such leaves")
        sealed = self._tiles * TILE
        old = b""
        if start < sealed:
            until = min(end, sealed)
            old = self._read(name, start * width, (until - start) * width)
        return old + bytes(recent[max(start - sealed, 0) * width : max(end - sealed, 0) * width])

    def _read(self, name: str, offset: int, size: int) -> bytes:
        if size == 0:
            return b""
        assert self._directory is not None
        try:
            with (self._directory / name).open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), size, offset)
        except OSError as error:
            raise LogCorrupt(
                "log.damaged", f"cannot read {self._directory / name}: {error.strerror}"
            ) from error
        if len(data) != size:
            raise LogCorrupt("log.damaged", f"{self._directory / name} is shorter than the log says")
        return data
