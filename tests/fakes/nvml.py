"""A working `libnvidia-ml.so.1`: compiled from `nvml.c`, loaded like the driver's, answering for the GPUs that a test describes.

    driver = FakeDriver(directory, [FakeGpu(…)])
    with nvml.opened(driver.shared_object): …

One at a time: the library is loaded once a process, and answers for the driver that was made last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fakes.device_library import DeviceLibrary
from fakes.shared_library import compiled

SOURCE = Path(__file__).with_name("nvml.c")


def shared_object() -> str:
    """Path of the compiled library."""
    return compiled(SOURCE, "libnvidia-ml.so.1")


@dataclass
class FakeGpu:
    """What one GPU answers; `report` makes a report over a nonce, `chain` is PEM, leaf first. None: not supported.

    `ecc` is the present and the pending mode, `links` the state of each NVLink.
    """

    name: str = "NVIDIA H100 80GB HBM3"
    memory: int = 81559 << 20
    vbios: str = "96.00.5E.00.01"
    uuid: str = "GPU-11111111-2222-3333-4444-555555555555"
    serial: str | None = "1654922006536"
    report: Callable[[bytes], bytes] | None = None
    chain: bytes | None = None
    ecc: tuple[int, int] | None = None
    errors: int | None = None
    performance: int | None = None
    persistence: int | None = None
    links: Sequence[int] = ()


class FakeDriver(DeviceLibrary):
    """Puts the library's directory in place and becomes what it answers for."""

    def __init__(
        self,
        directory: Path,
        gpus: Sequence[FakeGpu],
        *,
        version: str = "590.12.00",
        settings: tuple[int, int, int] | None = (1, 0, 0),
        state: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(shared_object(), directory, gpus, unsupported=3)
        self._put("driver", version)
        self._put("settings", None if settings is None else " ".join(map(str, settings)))
        self._put("state", None if state is None else " ".join(map(str, state)))
        for number, gpu in enumerate(gpus):
            for name in ("name", "memory", "vbios", "uuid", "serial", "errors", "performance", "persistence"):
                value = getattr(gpu, name)
                self._put(f"{number}/{name}", None if value is None else str(value))
            self._put(f"{number}/ecc", None if gpu.ecc is None else " ".join(map(str, gpu.ecc)))
            for link, state in enumerate(gpu.links):
                self._put(f"{number}/link.{link}", str(state))
            self._put(f"{number}/chain", gpu.chain)

    def fail(self, function: str, code: int, gpu: int | None = None) -> None:
        """Let a function return a code, for one GPU or always."""
        self._put(f"fail/{function}" + ("" if gpu is None else f".{gpu}"), str(code))
