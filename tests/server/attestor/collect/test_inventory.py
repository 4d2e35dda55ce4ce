"""The GPUs that a machine states: NVIDIA's by NVML, AMD's by sysfs."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from fakes.nvml import FakeDriver, FakeGpu
from rlu_attestation.gpus import Gpus
from rlu_server.attestor.collect import inventory, nvml
from rlu_server.attestor.collect.inventory import GpuInventory, GpuModel
from rlu_server.attestor.errors import NotReady

MI300X = {
    "vendor": "0x1002",
    "device": "0x74a1",
    "mem_info_vram_total": str(196288 << 20),
    "vbios_version": "113-M3000100-102",
}


def test_eight_gpus_of_nvidia(tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path, [FakeGpu()] * 8, settings=(0, 0, 1))
    with nvml.opened(driver.shared_object) as opened:
        claim = inventory.nvidia(opened).claim("nvidia")
    assert claim == Gpus(
        count=8,
        name="NVIDIA H100 80GB HBM3",
        memory_mib=81559,
        driver="590.12.00",
        vbios="96.00.5E.00.01",
        attestation="nvidia",
        mode="ppcie",
    )


def card(drm: Path, name: str, **attributes: str | None) -> None:
    device = drm / name / "device"
    device.mkdir(parents=True)
    for attribute, value in attributes.items():
        if value is not None:
            (device / attribute).write_text(value + "\n")


def test_eight_gpus_of_amd(tmp_path: Path) -> None:
    drm, version = tmp_path / "drm", tmp_path / "version"
    for number in range(8):
        card(drm, f"card{number}", **MI300X, product_name="Board of some maker")
    card(drm, "card9", vendor="0x1a03", device="0x2000")  # the console's
    (drm / "card0-DP-1").mkdir()
    (drm / "renderD128").mkdir()
    version.write_text("6.10.5\n")
    found = inventory.amd(drm, version)
    assert found.claim("none") == Gpus(
        count=8,
        name="AMD Instinct MI300X",
        memory_mib=196288,
        driver="6.10.5",
        vbios="113-M3000100-102",
        attestation="none",
    )


def test_the_in_tree_driver_and_a_board_that_is_not_known(tmp_path: Path) -> None:
    card(tmp_path, "card0", **MI300X | {"device": "0xabcd", "product_name": "Some Board"})
    card(tmp_path, "card1", **MI300X | {"device": "0xabcd"})
    found = inventory.amd(tmp_path, tmp_path / "none")
    assert found.driver == f"linux {platform.release()}"
    assert [gpu.name for gpu in found.gpus] == ["Some Board", "AMD GPU 0xabcd"]


@pytest.mark.parametrize("attribute", ["device", "mem_info_vram_total", "vbios_version"])
def test_an_attribute_that_cannot_be_read(tmp_path: Path, attribute: str) -> None:
    card(tmp_path, "card0", **MI300X | {attribute: None})
    with pytest.raises(NotReady, match=attribute) as caught:
        inventory.amd(tmp_path)
    assert caught.value.code == "gpu.sysfs"


def test_memory_that_is_no_number(tmp_path: Path) -> None:
    card(tmp_path, "card0", **MI300X | {"mem_info_vram_total": "lots"})
    with pytest.raises(NotReady) as caught:
        inventory.amd(tmp_path)
    assert caught.value.code == "gpu.sysfs"


def test_no_gpu(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="vendor") as caught:
        inventory.amd(tmp_path / "none", tmp_path).claim("none")
    assert caught.value.code == "gpu.none"


@pytest.mark.parametrize(
    "other",
    [GpuModel("B", 1, "v"), GpuModel("A", 2, "v"), GpuModel("A", 1, "w")],
    ids=["name", "memory", "vbios"],
)
def test_gpus_of_several_kinds(other: GpuModel) -> None:
    with pytest.raises(NotReady) as caught:
        GpuInventory("NVIDIA", "1", "on", (GpuModel("A", 1, "v"), other)).claim("nvidia")
    assert caught.value.code == "gpu.mixed"
