"""A working `libnvidia-nscq.so.2`: compiled from `nscq.c`, loaded like NVIDIA's, answering for the switches that a test describes.

    fabric = FakeFabric(directory, [FakeSwitch(…)])
    with nscq.opened(fabric.library): …

One at a time, as with `fakes.nvml`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fakes.shared_library import compiled

SOURCE = Path(__file__).with_name("nscq.c")
REPORTER = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.POINTER(ctypes.c_uint8),
    ctypes.POINTER(ctypes.c_uint8),
    ctypes.POINTER(ctypes.c_uint32),
)
REPORT_ROOM = 0x2000
_held: list[object] = []
"""The callback of the present fabric: the library keeps only its address."""


def library() -> str:
    """Path of the compiled library."""
    return compiled(SOURCE, "libnvidia-nscq.so.2")


@dataclass
class FakeSwitch:
    """What one switch answers; `report` makes a report over a nonce, `chain` is PEM, leaf first. None: not implemented."""

    report: Callable[[bytes], bytes] | None = None
    chain: bytes | None = None


class FakeFabric:
    """Puts the library's directory in place and becomes what it answers for."""

    def __init__(self, directory: Path, switches: Sequence[FakeSwitch]) -> None:
        self.directory, self.switches, self.library = directory, switches, library()
        self.nonces: list[bytes] = []
        for name in ("fail", "said"):
            (directory / name).mkdir(parents=True)
        (directory / "count").write_text(str(len(switches)))
        for number, switch in enumerate(switches):
            (directory / str(number)).mkdir()
            (directory / str(number) / "uuid").write_bytes(self.uuid(number))
            if switch.chain is not None:
                (directory / str(number) / "chain").write_bytes(switch.chain)
        self._loaded = ctypes.CDLL(self.library)
        _held[:] = [REPORTER(self._report)]
        self._loaded.fake_nscq_configure(str(directory).encode(), _held[0])

    @staticmethod
    def uuid(number: int) -> bytes:
        return bytes(range(15)) + bytes([number])

    @property
    def sessions(self) -> int:
        """Sessions that are open."""
        return int(self._loaded.fake_nscq_sessions())

    def fail(self, what: str, code: int) -> None:
        """Let a function, or every look at a path, return a code."""
        (self.directory / "fail" / what).write_text(str(code))

    def say(self, what: str, code: int, switch: int | None = None) -> None:
        """Let observers be called with a code, for one switch or all."""
        name = what if switch is None else f"{what}.{switch}"
        (self.directory / "said" / name).write_text(str(code))

    def _report(
        self, number: int, nonce: Sequence[int], into: Sequence[int], size: ctypes.Array[ctypes.c_uint32]
    ) -> int:
        make = self.switches[number].report
        if make is None:
            return 1
        self.nonces.append(bytes(nonce[:32]))
        made = make(self.nonces[-1])
        size[0] = len(made)
        if len(made) <= REPORT_ROOM:
            ctypes.memmove(into, made, len(made))
        return 0
