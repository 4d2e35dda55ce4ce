"""The broker's journal: every key that was released or refused, a line each, appended and never changed.

Each line names the SHA-256 of the one before (`prev`, of the first 32 zero bytes), so that a line that is changed, moved or left out
shows; who has kept the last digest sees a cut end too. It is on the disk before a key leaves. A line that a crash cut off stays as it is:
no key left for it. Lines hold what was judged and how, no key and no evidence.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Untrusted
from rlu_server.broker.errors import BrokerUnready, Misused

FIRST = bytes(32)


class Journal:
    """The journal while a broker writes it; one broker at a time. Safe for threads.

    Raises:
        Misused: `broker.journal.held`: another broker writes it.
        Untrusted: `broker.journal.chain`.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._handle = os.open(path, flags, 0o600)
        try:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Misused("broker.journal.held", f"{path}: another broker writes it") from None
            if _is_torn(self._handle):
                os.write(self._handle, b"\n")
            self._last = FIRST
            for line, _ in read(path):
                self._last = digest(line)
        except BaseException:
            os.close(self._handle)
            raise

    def close(self) -> None:
        os.close(self._handle)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append a line, and wait until the disk has it.

        Raises:
            BrokerUnready: `broker.journal`: the disk refused; nothing may be released.
        """
        with self._lock:
            line = json.dumps({**entry, "prev": b64u(self._last)}, sort_keys=True).encode("ascii") + b"\n"
            size = os.fstat(self._handle).st_size
            try:
                if os.write(self._handle, line) != len(line):
                    raise OSError("short write")
                os.fsync(self._handle)
            except OSError as error:
                self._take_back(size)
                raise BrokerUnready(
                    "broker.journal",
                    "the journal cannot be written, so nothing is released; look at its disk",
                ) from error
            self._last = digest(line)

    def _take_back(self, size: int) -> None:
        """Of a line that was written in part; it was never a line."""
        try:
            os.ftruncate(self._handle, size)
        except OSError:
            self._last = hashlib.sha256(b"lost").digest()


def read(path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """The lines, each with what it says; None for one that a crash cut off.

    Raises:
        Untrusted: `broker.journal.chain`: a line does not follow the one before.
        OSError: it cannot be read.
    """
    last = FIRST
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
                follows = isinstance(entry, dict) and entry.get("prev") == b64u(last)
            except ValueError:
                entry, follows = None, True  # the next line names these very bytes
            if not follows:
                raise Untrusted(
                    "broker.journal.chain",
                    f"{path}: line {number} does not follow the one before it: something was changed or taken out",
                )
            last = digest(line)
            yield line, entry


def digest(line: bytes) -> bytes:
    """What the next line names."""
    return hashlib.sha256(line).digest()


def _is_torn(handle: int) -> bool:
    size = os.fstat(handle).st_size
    return size > 0 and os.pread(handle, 1, size - 1) != b"\n"
