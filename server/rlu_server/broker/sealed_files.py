"""Sealing a model's directory, opening one, and reading a part of a sealed file.

A sealed directory holds `rlu-weights.json` (the header), `<path>.sealed` for every file, and `model.sig` and `rlu-release.json` as they
were: a signature says nothing that the header does not say. Sealing and opening read each byte once, in parallel by files as hashing
does: the digest of the plain text is taken on the way, so that opening gives the model's manifest, and refuses one that is not the
header's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from rlu_server.broker.errors import Misused, SealBroken
from rlu_server.broker.sealing import CHUNK, ENDING, HEADER, MAX_HEADER, TAG_SIZE, Header, SealedFile, key_id
from rlu_server.models import contents, manifest
from rlu_server.models.errors import ManifestError
from rlu_server.models.manifest import File, Manifest, Progress
from rlu_server.models.release import MAX_FILE as MAX_RELEASE
from rlu_server.models.release import RELEASE
from rlu_server.models.signing import MAX_SIGNATURE
from rlu_server.models.walking import SIGNATURE, walk

SMALL = 64 << 20
"""Larger files are opened anew rather than compared."""


class SealedReader:
    """Random access to the plain text of one sealed file; close it after use. One thread at a time.

    Args:
        directory: the sealed model.
        key: the model key.

    Raises:
        SealBroken: `weights.key`; `weights.length`: the file is cut off, or something was appended.
        OSError: it cannot be read.
    """

    def __init__(self, directory: Path, header: Header, file: File, key: bytes) -> None:
        self.sealed = SealedFile(header, file, key)
        place = directory / f"{file.path}{ENDING}"
        self._handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        length = os.fstat(self._handle).st_size
        if length != self.sealed.sealed_size:
            os.close(self._handle)
            raise SealBroken(
                "weights.length",
                f"{place.name} has {length} bytes, not {self.sealed.sealed_size}; copy the sealed model again",
            )
        self._input = memoryview(bytearray(min(header.chunk, file.size) + TAG_SIZE))
        self._output = memoryview(bytearray(min(header.chunk, file.size)))

    def __enter__(self) -> SealedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._output[:] = bytes(len(self._output))
        os.close(self._handle)

    def chunk(self, index: int) -> memoryview:
        """The plain text of one chunk, until the next call.

        Raises:
            SealBroken: `weights.chunk`, `weights.length`.
        """
        length = self.sealed.plain_length(index)
        sealed, plain = self._input[: length + TAG_SIZE], self._output[:length]
        if _read_at(self._handle, sealed, self.sealed.offset(index)) != len(sealed):
            raise SealBroken("weights.length", f"{self.sealed.path}{ENDING} became shorter while it was read")
        self.sealed.open(index, sealed, plain)
        return plain

    def read(self, start: int, length: int) -> bytes:
        """A part of the plain text, cut off at its end. Only the chunks that hold it are read, and every byte given was authenticated."""
        parts = (
            bytes(self.chunk(index)[first:last]) for index, first, last in self.sealed.covering(start, length)
        )
        return b"".join(parts)


def is_sealed(directory: Path) -> bool:
    return (directory / HEADER).is_file()


def read_header(directory: Path) -> Header:
    """The header of a sealed model.

    Raises:
        Misused: `weights.none`: it is no sealed model.
        BadHeader: `weights.header`.
        OSError: it cannot be read.
    """
    try:
        with (directory / HEADER).open("rb") as file:
            return Header.parse(file.read(MAX_HEADER + 1))
    except FileNotFoundError:
        raise Misused("weights.none", f"{directory} holds no {HEADER}: it is no sealed model") from None


def seal(
    source: Path,
    target: Path,
    key: bytes,
    salt: bytes,
    progress: Progress | None = None,
    chunk: int = CHUNK,
) -> Header:
    """Seal a model into a new directory, which appears when it is complete.

    Args:
        salt: 32 random bytes.
        progress: told bytes read; each file is read twice, to know its digest before it is sealed.

    Raises:
        ManifestError: what `walk`, `contents.refuse`, `digest` refuse; `model.changed`.
        Misused: `weights.target`, `weights.sealed_already`.
        OSError: a file cannot be read or written.
    """
    tree = walk(source)
    contents.refuse(tree.files)
    if any(file.path == HEADER for file in tree.files):
        raise Misused("weights.sealed_already", f"{source} is sealed already: it holds {HEADER}")
    if target.exists() or target.resolve().is_relative_to(tree.root):
        raise Misused(
            "weights.target", f"{target} is there already, or in the model; name a directory that is not"
        )
    report = _total(progress, 2 * tree.size)
    measured = manifest.digest(tree, lambda done, _: report(done))
    header = Header(key_id(key), salt, chunk, measured)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    add = _adding(lambda done: report(tree.size + done))
    real = {file.path: file.real for file in tree.files}
    try:
        _each(measured, lambda file: _seal_file(real[file.path], partial, header, file, key, add))
        if (source / SIGNATURE).is_file():
            _copy_signature(source, partial)
        if RELEASE in real:
            # Updates have to tell later from earlier without the key.
            (partial / RELEASE).write_bytes(real[RELEASE].read_bytes()[: MAX_RELEASE + 1])
        (partial / HEADER).write_bytes(header.encode())
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return header


def unseal(source: Path, target: Path, key: bytes, progress: Progress | None = None) -> Manifest:
    """Open a sealed model into a directory that is there; what the files are, by their plain text.

    A file that is there and is what it should be stays, any other is replaced. Nothing in `target` may be used when this raises.

    Raises:
        SealBroken: `weights.key`, `weights.length`, `weights.chunk`, `weights.digest`, `weights.missing`.
        BadHeader, Misused: as `read_header`.
        OSError: a file cannot be read or written, such as for want of memory.
    """
    header = read_header(source)
    report = _total(progress, header.manifest.size)
    add = _adding(report)
    _each(header.manifest, lambda file: _unseal_file(source, target, header, file, key, add))
    if (source / SIGNATURE).is_file():
        _copy_signature(source, target)
    return header.manifest


def _seal_file(
    real: Path, target: Path, header: Header, file: File, key: bytes, add: Callable[[int], None]
) -> None:
    sealed = SealedFile(header, file, key)
    plain = memoryview(bytearray(min(header.chunk, file.size)))
    output = memoryview(bytearray(len(plain) + TAG_SIZE))
    whole = hashlib.sha256()
    place = target / f"{file.path}{ENDING}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with real.open("rb", buffering=0) as source, place.open("xb", buffering=0) as written:
        for index in range(sealed.count):
            length = sealed.plain_length(index)
            got = _read_at(source.fileno(), plain[:length], index * header.chunk)
            if got != length:
                break
            whole.update(plain[:length])
            sealed.seal(index, plain[:length], output[: length + TAG_SIZE])
            _write(written.fileno(), output[: length + TAG_SIZE])
            add(length)
        os.fsync(written.fileno())
    if whole.digest() != file.sha256:
        raise ManifestError(
            "model.changed", f"{file.path} changed while it was sealed; stop what writes to it and try again"
        )


def _unseal_file(
    source: Path, target: Path, header: Header, file: File, key: bytes, add: Callable[[int], None]
) -> None:
    place = target / file.path
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _is(place, file):
        add(file.size)
        return
    place.unlink(missing_ok=True)
    whole = hashlib.sha256()
    try:
        reader = SealedReader(source, header, file, key)
    except FileNotFoundError as error:
        raise SealBroken(
            "weights.missing", f"{file.path}{ENDING} is not there; copy the sealed model again"
        ) from error
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with reader:
            os.ftruncate(handle, file.size)  # a tmpfs gives huge pages within a file's size
            for index in range(reader.sealed.count):
                plain = reader.chunk(index)
                whole.update(plain)
                _write(handle, plain)
                add(len(plain))
    finally:
        os.close(handle)
    if whole.digest() != file.sha256:
        raise SealBroken(
            "weights.digest", f"{file.path} is not the file that the header names; ask the vendor"
        )


def _is(place: Path, file: File) -> bool:
    """Whether a file has that content already."""
    if file.size > SMALL or place.is_symlink() or not place.is_file() or place.stat().st_size != file.size:
        return False
    return hashlib.sha256(place.read_bytes()).digest() == file.sha256


def _copy_signature(source: Path, target: Path) -> None:
    with (source / SIGNATURE).open("rb") as file:
        (target / SIGNATURE).write_bytes(file.read(MAX_SIGNATURE + 1))


def _each(measured: Manifest, work: Callable[[File], None]) -> None:
    """The largest first, as hashing does. The first failure ends it."""
    by_size = sorted(measured.files, key=lambda file: -file.size)
    with ThreadPoolExecutor(max_workers=manifest.workers()) as pool:
        running = [pool.submit(work, file) for file in by_size]
        try:
            for one in running:
                one.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _total(progress: Progress | None, total: int) -> Callable[[int], None]:
    return lambda done: None if progress is None else progress(done, total)


def _adding(report: Callable[[int], None]) -> Callable[[int], None]:
    done, lock = 0, Lock()

    def add(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            report(done)

    return add


def _read_at(handle: int, buffer: memoryview, offset: int) -> int:
    """As much as there is; fewer bytes than asked for are the end."""
    got = 0
    while got < len(buffer) and (count := os.preadv(handle, [buffer[got:]], offset + got)):
        got += count
    return got


def _write(handle: int, data: memoryview) -> None:
    while data:
        data = data[os.write(handle, data) :]
