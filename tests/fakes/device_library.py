"""What the fakes of NVIDIA's libraries share: a directory that the library answers from, and the callback that makes its reports.

The C side is `device_library.h`. A library is loaded once a process, and answers for the directory that it was given last.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

REPORTER = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.POINTER(ctypes.c_uint8),
    ctypes.POINTER(ctypes.c_uint8),
    ctypes.POINTER(ctypes.c_uint32),
)
NONCE_SIZE = 32
REPORT_ROOM = 0x2000
_held: dict[str, object] = {}
"""The present callback of each shared object, which keeps only its address."""


class Device(Protocol):
    @property
    def report(self) -> Callable[[bytes], bytes] | None:
        """Makes a report over a nonce; None: not supported."""


class DeviceLibrary:
    """A shared object, loaded and answering for these devices."""

    def __init__(
        self, shared_object: str, directory: Path, devices: Sequence[Device], unsupported: int
    ) -> None:
        """`unsupported` is the library's own code for it."""
        self.shared_object, self.directory = shared_object, directory
        self.nonces: list[bytes] = []
        self.devices, self._unsupported = devices, unsupported
        (directory / "fail").mkdir(parents=True)
        self._put("count", str(len(devices)))
        self._loaded = ctypes.CDLL(shared_object)
        callback = _held[shared_object] = REPORTER(self._report)
        self._loaded.fake_configure(str(directory).encode(), callback)

    @property
    def opened(self) -> int:
        """How often it was opened without being closed."""
        return int(self._loaded.fake_opened())

    def _put(self, name: str, content: str | bytes | None) -> None:
        """Into a file of the directory; None: no such file."""
        if content is None:
            return
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def _report(
        self, number: int, nonce: Sequence[int], into: Sequence[int], size: ctypes.Array[ctypes.c_uint32]
    ) -> int:
        make = self.devices[number].report
        if make is None:
            return self._unsupported
        self.nonces.append(bytes(nonce[:NONCE_SIZE]))
        made = make(self.nonces[-1])
        size[0] = len(made)
        if len(made) <= REPORT_ROOM:
            ctypes.memmove(into, made, len(made))
        return 0
