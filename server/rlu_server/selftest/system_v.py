"""System V shared memory: segments outlive the processes that made them, so they are looked at too."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

_IPC_CREAT, _IPC_RMID, _SHM_RDONLY = 0o1000, 0, 0o10000
_LIST = Path("/proc/sysvipc/shm")
_libc = ctypes.CDLL(None, use_errno=True)
_libc.shmat.restype = ctypes.c_void_p
_libc.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_libc.shmdt.argtypes = (ctypes.c_void_p,)
_libc.shmget.argtypes = (ctypes.c_int, ctypes.c_size_t, ctypes.c_int)
_FAILED = ctypes.c_void_p(-1).value


def segments() -> Iterator[tuple[int, bytes | None]]:
    """Every segment of this machine: its id, and its content or None if it may not be read."""
    try:
        lines = _LIST.read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        words = line.split()
        identifier, size = int(words[1]), int(words[3])
        address = _libc.shmat(identifier, None, _SHM_RDONLY)
        if address in (None, _FAILED):
            yield identifier, None
            continue
        try:
            yield identifier, ctypes.string_at(address, size)
        finally:
            _libc.shmdt(address)


def make(content: bytes) -> int | None:
    """A segment with this content; None if there can be none."""
    identifier = int(_libc.shmget(0, len(content), _IPC_CREAT | 0o600))
    if identifier < 0:
        return None
    address = _libc.shmat(identifier, None, 0)
    if address in (None, _FAILED):
        remove(identifier)
        return None
    ctypes.memmove(address, content, len(content))
    _libc.shmdt(address)
    return identifier


def remove(identifier: int) -> None:
    """Take a segment away."""
    _libc.shmctl(identifier, _IPC_RMID, None)
