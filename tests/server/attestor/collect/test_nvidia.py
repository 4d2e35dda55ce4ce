"""NVIDIA: from fake GPUs and switches behind a compiled NVML and NSCQ to items that verify in every step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fakes import nvidia as fake
from fakes.collecting import BINDINGS, items, tree_of
from fakes.intel import pem
from fakes.nscq import FakeFabric, FakeSwitch
from fakes.nvidia_steps import failures, roots
from fakes.nvml import FakeDriver, FakeGpu
from rlu_attestation.evidence import nvidia
from rlu_server.attestor.collect import nvml
from rlu_server.attestor.collect.nvidia import NvidiaCollector
from rlu_server.attestor.errors import AttestorError, HardwareRefused, HardwareUnavailable, NotReady

NODE = fake.Node((fake.Device(label="gpu 0"), fake.Device(label="gpu 1")))


def gpu(device: fake.Device, **changes: object) -> FakeGpu:
    values = {"report": device.report, "chain": pem(*device.chain()), "vbios": device.vbios}
    return FakeGpu(**values | changes)


def driver(directory: Path, *gpus: FakeGpu) -> FakeDriver:
    return FakeDriver(directory / "driver", gpus or [gpu(device) for device in NODE.gpus])


def provide(directory: Path, node: fake.Node = NODE) -> Path:
    """What an operator puts into the collateral directory."""
    target = directory / "collateral"
    target.mkdir()
    parts = node.parts(bytes(32))
    for number, rim in enumerate(parts.rims):
        (target / f"{number}.xml").write_bytes(rim)
    for number, response in enumerate(parts.ocsp):
        (target / f"{number}.ocsp").write_bytes(response)
    return target


def refused(
    directory: Path, kind: type[AttestorError], code: str, *gpus: FakeGpu, given: Path | None = None
) -> str:
    library = driver(directory, *gpus).shared_object
    with pytest.raises(kind) as caught:
        items(NvidiaCollector(given or directory / "none", library))
    assert caught.value.code == code
    return caught.value.message


@pytest.mark.parametrize("chip", ["GH100", "GB100"])
def test_items_verify(tmp_path: Path, chip: str) -> None:
    node = fake.Node(tuple(fake.Device(chip, f"gpu {n}") for n in range(3)))
    made_by = driver(tmp_path, *map(gpu, node.gpus))
    made = items(NvidiaCollector(provide(tmp_path, node), made_by.shared_object))
    assert made_by.nonces == [tree_of().root()] * 3
    assert made_by.opened == 0
    for item, binding in zip(made, BINDINGS, strict=True):
        assert failures(item, binding, roots()) == []
    assert failures(made[0], BINDINGS[1], roots())[-1].startswith("nvidia.binding")


def test_without_collateral_reference_values_and_ocsp_are_missing(tmp_path: Path) -> None:
    item = items(NvidiaCollector(tmp_path / "none", driver(tmp_path).shared_object))[0]
    assert failures(item, BINDINGS[0], roots()) == [
        "nvidia.rim_driver.missing",
        "nvidia.rim_vbios.missing",
        "nvidia.revocation.missing",
    ]


def test_only_what_these_gpus_need_is_stapled(tmp_path: Path) -> None:
    given = provide(tmp_path)
    other = fake.Node(
        (fake.Device(label="elsewhere", driver="999.1", vbios="11.22.33.44.55", authorities="other"),)
    )
    parts = other.parts(bytes(32))
    for number, rim in enumerate(parts.rims):
        (given / f"a{number}.xml").write_bytes(rim)
    (given / "a.ocsp").write_bytes(parts.ocsp[0])
    for name in ("0.xml", "1.xml"):
        (given / f"copy-{name}").write_bytes((given / name).read_bytes())
    (given / "notes.txt").write_text("not evidence")
    item = items(NvidiaCollector(given, driver(tmp_path).shared_object))[0]
    evidence = nvidia.parse(item)
    assert sorted(rim.version for rim in evidence.rims) == sorted({NODE.gpus[0].driver, NODE.gpus[0].vbios})
    assert parts.ocsp[0] not in [response.raw for response in evidence.ocsp]
    assert failures(item, BINDINGS[0], roots()) == []


def test_no_gpu(tmp_path: Path) -> None:
    library = FakeDriver(tmp_path / "driver", []).shared_object
    with pytest.raises(NotReady) as caught:
        NvidiaCollector(tmp_path, library).collect(bytes(32))
    assert caught.value.code == "nvidia.none"


def test_confidential_computing_is_off(tmp_path: Path) -> None:
    device = NODE.gpus[0]
    message = refused(tmp_path, NotReady, "nvml.not_confidential", gpu(device, report=None))
    assert "[attestation.gpu] evidence" in message


def test_a_gpu_that_is_lost_while_others_work(tmp_path: Path) -> None:
    made_by = driver(tmp_path)
    made_by.fail("nvmlDeviceGetConfComputeGpuAttestationReport", nvml.GPU_IS_LOST, gpu=1)
    with pytest.raises(HardwareRefused, match="GPU 1"):
        items(NvidiaCollector(tmp_path, made_by.shared_object))


def test_a_gpu_that_is_busy(tmp_path: Path) -> None:
    made_by = driver(tmp_path)
    made_by.fail("nvmlDeviceGetConfComputeGpuAttestationReport", nvml.IN_USE)
    with pytest.raises(HardwareUnavailable):
        items(NvidiaCollector(tmp_path, made_by.shared_object))


@pytest.mark.parametrize(
    "change",
    [
        lambda nonce: NODE.gpus[0].report(bytes(32)),
        lambda nonce: NODE.gpus[0].report(nonce)[:-1],
        lambda nonce: b"rubbish",
    ],
    ids=["another-nonce", "cut", "rubbish"],
)
def test_reports_that_cannot_be_evidence(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    assert "GPU 0" in refused(tmp_path, HardwareRefused, "nvidia.report", gpu(NODE.gpus[0], report=change))


@pytest.mark.parametrize("chain", [b"rubbish", pem(b"rubbish")])
def test_certificates_that_cannot_be_read(tmp_path: Path, chain: bytes) -> None:
    refused(tmp_path, HardwareRefused, "nvidia.report", gpu(NODE.gpus[0], chain=chain))


def test_the_drivers_chain_may_end_in_zeros(tmp_path: Path) -> None:
    chain = pem(*NODE.gpus[0].chain()) + bytes(3)
    item = items(
        NvidiaCollector(provide(tmp_path), driver(tmp_path, gpu(NODE.gpus[0], chain=chain)).shared_object)
    )[0]
    assert failures(item, BINDINGS[0], roots()) == []


@pytest.mark.parametrize("name", ["0.xml", "0.ocsp"])
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, name: str) -> None:
    given = provide(tmp_path)
    (given / name).write_bytes(b"rubbish")
    assert name in refused(tmp_path, NotReady, "collateral.file", given=given)


def test_a_root_of_another_size_is_misuse(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        NvidiaCollector(tmp_path).collect(bytes(31))


HGX = fake.hgx(gpus=2, switches=2)
NO_LIBRARY = "/nonexistent/libnvidia-nscq.so.2"


def fabric(directory: Path, *switches: fake.Device) -> FakeFabric:
    found = [FakeSwitch(report=device.report, chain=pem(*device.chain())) for device in switches]
    return FakeFabric(directory / "fabric", found)


def protected(directory: Path, switches: tuple[fake.Device, ...] = HGX.switches) -> NvidiaCollector:
    """The collector of a node in protected PCIe mode."""
    gpus = driver(directory, *map(gpu, HGX.gpus))
    return NvidiaCollector(
        provide(directory, HGX),
        gpus.shared_object,
        fabric(directory, *switches).shared_object if switches else NO_LIBRARY,
    )


def wiring(directory: Path, switches: tuple[fake.Device, ...]) -> str:
    with pytest.raises(HardwareRefused) as caught:
        items(protected(directory, switches))
    assert caught.value.code == "nvidia.wiring"
    return caught.value.message


def test_switches_report_beside_the_gpus_that_they_wire(tmp_path: Path) -> None:
    gpus, switches = driver(tmp_path, *map(gpu, HGX.gpus)), fabric(tmp_path, *HGX.switches)
    made = items(NvidiaCollector(provide(tmp_path, HGX), gpus.shared_object, switches.shared_object))
    assert gpus.nonces == switches.nonces == [tree_of().root()] * 2
    assert (gpus.opened, switches.opened) == (0, 0)
    for item, binding in zip(made, BINDINGS, strict=True):
        assert failures(item, binding, roots()) == []
    evidence = nvidia.parse(made[0])
    assert (len(evidence.gpus), len(evidence.switches)) == (2, 2)
    assert nvidia.verify_topology(evidence) == nvidia.Topology(
        frozenset(device.pdi for device in HGX.switches), gpus_counted=True
    )


def test_switches_are_asked_only_where_gpus_are_wired_to_them(tmp_path: Path) -> None:
    """A GPU that is confidential by itself needs neither the library nor the devices."""
    item = items(NvidiaCollector(provide(tmp_path), driver(tmp_path).shared_object, NO_LIBRARY))[0]
    assert nvidia.parse(item).switches == ()


def test_without_the_library_for_switches(tmp_path: Path) -> None:
    with pytest.raises(NotReady) as caught:
        items(protected(tmp_path, ()))
    assert caught.value.code == "nscq.absent"


def test_a_switch_that_is_not_passed_on(tmp_path: Path) -> None:
    message = wiring(tmp_path, HGX.switches[:1])
    assert HGX.switches[1].pdi.hex() in message
    assert "/dev/nvidia-nvswitch*" in message


def test_a_switch_of_another_node(tmp_path: Path) -> None:
    stranger = fake.Device("LS_10", "stranger", vbios=HGX.switches[0].vbios, fwid=None)
    assert stranger.pdi.hex() in wiring(tmp_path, (*HGX.switches, stranger))


def test_a_gpu_that_is_not_passed_on(tmp_path: Path) -> None:
    gpus, switches = driver(tmp_path, gpu(HGX.gpus[0])), fabric(tmp_path, *HGX.switches)
    with pytest.raises(HardwareRefused, match="2, 2 GPUs") as caught:
        items(NvidiaCollector(provide(tmp_path, HGX), gpus.shared_object, switches.shared_object))
    assert caught.value.code == "nvidia.wiring"


@pytest.mark.parametrize(
    "change",
    [
        lambda nonce: HGX.switches[0].report(bytes(32)),
        lambda nonce: HGX.gpus[0].report(nonce),
        lambda nonce: b"rubbish",
    ],
    ids=["another-nonce", "of-a-gpu", "rubbish"],
)
def test_switches_reports_that_cannot_be_evidence(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    made = FakeFabric(tmp_path / "fabric", [FakeSwitch(report=change, chain=pem(*HGX.switches[0].chain()))])
    gpus = driver(tmp_path, *map(gpu, HGX.gpus))
    with pytest.raises(HardwareRefused, match="NVSwitch SWX-") as caught:
        items(NvidiaCollector(tmp_path / "none", gpus.shared_object, made.shared_object))
    assert caught.value.code == "nvidia.report"
