"""A working `libnvidia-nscq.so.2`: compiled from `nscq.c`, loaded like NVIDIA's, answering for the switches that a test describes.

    fabric = FakeFabric(directory, [FakeSwitch(…)])
    with nscq.opened(fabric.shared_object): …

One at a time, as with `fakes.nvml`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fakes.device_library import DeviceLibrary
from fakes.shared_library import compiled

SOURCE = Path(__file__).with_name("nscq.c")


def shared_object() -> str:
    """Path of the compiled library."""
    return compiled(SOURCE, "libnvidia-nscq.so.2")


@dataclass
class FakeSwitch:
    """What one switch answers; `report` makes a report over a nonce, `chain` is PEM, leaf first. None: not implemented."""

    report: Callable[[bytes], bytes] | None = None
    chain: bytes | None = None


class FakeFabric(DeviceLibrary):
    """Puts the library's directory in place and becomes what it answers for."""

    def __init__(self, directory: Path, switches: Sequence[FakeSwitch]) -> None:
        super().__init__(shared_object(), directory, switches, unsupported=1)
        for number, switch in enumerate(switches):
            self._put(f"{number}/uuid", self.uuid(number))
            self._put(f"{number}/chain", switch.chain)

    @staticmethod
    def uuid(number: int) -> bytes:
        return bytes(range(15)) + bytes([number])

    def fail(self, what: str, code: int) -> None:
        """Let a function, or every look at a path, return a code."""
        self._put(f"fail/{what}", str(code))

    def say(self, what: str, code: int, switch: int | None = None) -> None:
        """Let observers be called with a code, for one switch or all."""
        self._put(f"said/{what}" + ("" if switch is None else f".{switch}"), str(code))
