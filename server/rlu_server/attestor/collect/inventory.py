"""Which GPUs the machine has, as its drivers say: NVIDIA's through NVML, AMD's through sysfs. Asserted, never proved.

What is stated is one kind of GPU, because a model is served by one kind: another name, memory size or VBIOS beside it refuses.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from rlu_attestation.gpus import Gpus
from rlu_server.attestor.collect.collector import read_bounded
from rlu_server.attestor.collect.nvml import Nvml
from rlu_server.attestor.errors import NotReady

DRM = Path("/sys/class/drm")
AMDGPU_VERSION = Path("/sys/module/amdgpu/version")
AMD_VENDOR = "0x1002"
AMD_NAMES = {
    "0x74a0": "AMD Instinct MI300A",
    "0x74a1": "AMD Instinct MI300X",
    "0x74a2": "AMD Instinct MI308X",
    "0x74a5": "AMD Instinct MI325X",
    "0x74b5": "AMD Instinct MI300X VF",
    "0x75a0": "AMD Instinct MI350X",
    "0x75a3": "AMD Instinct MI355X",
}
"""PCI device ids (pci.ids); another one is stated by the board's name, or by its number."""
MAX_ATTRIBUTE = 256


@dataclass(frozen=True, slots=True)
class GpuModel:
    """What one GPU is; `memory_mib` in MiB."""

    name: str
    memory_mib: int
    vbios: str


@dataclass(frozen=True, slots=True)
class GpuInventory:
    """The GPUs of one vendor on this machine.

    Attributes:
        mode: NVIDIA's confidential-computing mode; None for AMD.
    """

    vendor: str
    driver: str
    mode: str | None
    gpus: tuple[GpuModel, ...]

    def claim(self, attestation: str) -> Gpus:
        """What the instance states.

        Args:
            attestation: `nvidia` when reports are collected, else `none`.

        Raises:
            NotReady: no GPU, or GPUs of several kinds (`gpu.none`, `gpu.mixed`).
        """
        if not self.gpus:
            raise NotReady(
                "gpu.none",
                f'no {self.vendor} GPU is visible; pass the devices on, or set [attestation.gpu] vendor = "none"',
            )
        kinds = sorted({(gpu.name, gpu.memory_mib, gpu.vbios) for gpu in self.gpus})
        if len(kinds) > 1:
            shown = ", ".join(f"{name} {memory} MiB VBIOS {vbios}" for name, memory, vbios in kinds)
            raise NotReady(
                "gpu.mixed",
                f"the GPUs are of several kinds: {shown}; let this instance see only those that serve the model",
            )
        first = self.gpus[0]
        return Gpus(
            count=len(self.gpus),
            name=first.name,
            memory_mib=first.memory_mib,
            driver=self.driver,
            vbios=first.vbios,
            attestation=attestation,
            mode=self.mode,
        )


def nvidia(nvml: Nvml) -> GpuInventory:
    """NVIDIA's GPUs. Raises AttestorError, `nvml.…`."""
    gpus = tuple(GpuModel(gpu.name, gpu.memory_mib, gpu.vbios) for gpu in nvml.gpus())
    return GpuInventory("NVIDIA", nvml.driver, nvml.mode, gpus)


def amd(drm: Path = DRM, version: Path = AMDGPU_VERSION) -> GpuInventory:
    """AMD's GPUs, by the attributes of the amdgpu driver (Documentation/gpu/amdgpu/driver-misc.rst).

    Raises:
        NotReady: a card's attributes cannot be read (`gpu.sysfs`).
    """
    cards = sorted(path / "device" for path in drm.glob("card[0-9]*") if "-" not in path.name)
    found = tuple(
        _amd_gpu(card) for card in cards if _attribute(card / "vendor", optional=True) == AMD_VENDOR
    )
    # The in-tree driver has no version of its own.
    driver = _attribute(version, optional=True) or f"linux {platform.release()}"
    return GpuInventory("AMD", driver, None, found)


def _amd_gpu(card: Path) -> GpuModel:
    number = _attribute(card / "device")
    memory = _attribute(card / "mem_info_vram_total")
    if not memory.isdigit():
        raise NotReady("gpu.sysfs", f"{card / 'mem_info_vram_total'} is no number of bytes; is this amdgpu?")
    # The board's own name differs between makers of one GPU.
    name = AMD_NAMES.get(number) or _attribute(card / "product_name", optional=True) or f"AMD GPU {number}"
    return GpuModel(name, int(memory) >> 20, _attribute(card / "vbios_version"))


def _attribute(path: Path, optional: bool = False) -> str:
    try:
        return read_bounded(path, MAX_ATTRIBUTE).decode("utf-8", "replace").strip()
    except OSError as error:
        if optional:
            return ""
        raise NotReady(
            "gpu.sysfs", f"{path}: {error.strerror}; let the attestor read /sys/class/drm"
        ) from error
