"""What the drivers say of the GPUs: NVIDIA's through NVML and NSCQ, AMD's through amdgpu's sysfs. No serial numbers or UUIDs are kept."""

from __future__ import annotations

from pathlib import Path

from rlu_server.attestor.collect import inventory, nscq, nvml
from rlu_server.attestor.errors import AttestorError
from rlu_server.preflight.facts import Gpu, Gpus

PROTECTED = "ppcie"
MAX_LINKS = 18
"""Of a Hopper or Blackwell GPU (nvml.h: NVML_NVLINK_MAX_LINKS)."""
UNCORRECTED, VOLATILE = 1, 0
"""nvmlMemoryErrorType_t, nvmlEccCounterType_t."""
DRM = "sys/class/drm"
MAX_ATTRIBUTE = 4096


def nvidia(root: Path, library: str = nvml.LIBRARY, switch_library: str = nscq.LIBRARY) -> Gpus:
    """NVIDIA's. Without the library and without a card on the bus there are none; without the library alone that is a problem."""
    try:
        with nvml.opened(library) as opened:
            found = tuple(_nvidia_gpu(opened, gpu) for gpu in opened.gpus())
            mode, driver = opened.mode, opened.driver
        switches = _switches(switch_library) if mode == PROTECTED else None
        return Gpus(vendor="NVIDIA", driver=driver, mode=mode, gpus=found, switches=switches)
    except AttestorError as error:
        if error.code == "nvml.absent" and not _on_bus(root, "0x10de"):
            return Gpus(vendor="NVIDIA")
        return Gpus(vendor="NVIDIA", problem=(error.code, _remedy(error.message)))


def amd(root: Path) -> Gpus:
    """AMD's."""
    drm = root / DRM
    try:
        found = inventory.amd(drm, root / "sys/module/amdgpu/version")
    except AttestorError as error:
        return Gpus(vendor="AMD", problem=(error.code, "let this user read /sys/class/drm, and load amdgpu"))
    cards = [
        card
        for card in sorted(path / "device" for path in drm.glob("card[0-9]*") if "-" not in path.name)
        if _attribute(card / "vendor") == inventory.AMD_VENDOR
    ]
    if not found.gpus and _on_bus(root, inventory.AMD_VENDOR, accelerators=True):
        remedy = "load the amdgpu driver, and in a container pass /dev/kfd and /dev/dri on"
        return Gpus(vendor="AMD", problem=("gpu.driver", remedy))
    gpus = tuple(_amd_gpu(card, model) for card, model in zip(cards, found.gpus, strict=True))
    return Gpus(vendor="AMD", driver=found.driver, gpus=gpus)


def _switches(library: str) -> int | tuple[str, str]:
    try:
        with nscq.opened(library) as opened:
            return len(opened.switches())
    except AttestorError as error:
        return error.code, _remedy(error.message)


def _nvidia_gpu(opened: nvml.Nvml, gpu: nvml.Gpu) -> Gpu:
    ecc = opened.numbers("nvmlDeviceGetEccMode", gpu.index, results=2)
    performance = opened.numbers("nvmlDeviceGetPerformanceState", gpu.index)
    persistent = opened.numbers("nvmlDeviceGetPersistenceMode", gpu.index)
    errors = opened.counter("nvmlDeviceGetTotalEccErrors", gpu.index, UNCORRECTED, VOLATILE)
    states = [opened.numbers("nvmlDeviceGetNvLinkState", gpu.index, link) for link in range(MAX_LINKS)]
    known = [state[0] for state in states if state is not None]
    return Gpu(
        name=gpu.name,
        memory_mib=gpu.memory_mib,
        vbios=gpu.vbios,
        ecc=None if ecc is None else bool(ecc[0]),
        ecc_pending=None if ecc is None else bool(ecc[1]),
        links=sum(map(bool, known)) if known else None,
        links_total=len(known) or None,
        performance=None if performance is None else performance[0],
        persistent=None if persistent is None else bool(persistent[0]),
        uncorrected=errors,
    )


def _amd_gpu(card: Path, model: inventory.GpuModel) -> Gpu:
    errors = _attribute(card / "ras" / "umc_err_count")
    uncorrected = next(
        (line.split(":")[1].strip() for line in errors.splitlines() if line.startswith("ue:")), ""
    )
    hive = _attribute(card / "xgmi_hive_info" / "xgmi_hive_id")
    return Gpu(
        name=model.name,
        memory_mib=model.memory_mib,
        vbios=model.vbios,
        # RAS counters of the memory controller are there where ECC is on.
        ecc=bool(errors) if (card / "ras").is_dir() else None,
        links=1 if hive.isdigit() and int(hive) else 0,
        links_total=1,
        uncorrected=int(uncorrected) if uncorrected.isdigit() else None,
    )


def _on_bus(root: Path, vendor: str, *, accelerators: bool = False) -> bool:
    """Whether a GPU of a vendor is on the PCI bus: a display controller or a processing accelerator."""
    for device in (root / "sys/bus/pci/devices").glob("*"):
        classes = ("0x12", "0x0380", "0x0302") if accelerators else ("0x03", "0x12")
        if _attribute(device / "vendor") == vendor and _attribute(device / "class").startswith(classes):
            return True
    return False


def _remedy(message: str) -> str:
    return message.rsplit("; ", 1)[-1]


def _attribute(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_ATTRIBUTE).decode("utf-8", "replace").strip()
    except OSError:
        return ""
