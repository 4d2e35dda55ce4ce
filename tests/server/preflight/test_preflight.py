"""Probes below a fake root and over a fake NVML, and what is judged of it: a healthy node, and each thing that can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fakes.node import FakeNode
from fakes.nscq import FakeFabric, FakeSwitch
from fakes.nvml import FakeDriver, FakeGpu
from rlu_attestation.profiles import BUILT_IN
from rlu_server import preflight
from rlu_server.preflight import Finding, Severity, exit_code, judge, probe_host, probe_storage
from rlu_server.preflight.facts import Device, Storage, Trust
from rlu_server.preflight.findings import error, info, ok, warning
from rlu_server.preflight.judge_host import judge_kernel, judge_storage, judge_trust
from rlu_server.preflight.judge_profile import possible_keys

H100 = FakeGpu(ecc=(1, 1), errors=0, performance=0, persistence=1, links=(1,) * 18)
ABSENT = "libnvidia-ml-absent.so.1"
ABSENT_SWITCHES = "libnvidia-nscq-absent.so.2"


@pytest.fixture
def node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path / "root")


def look(node: FakeNode, library: str = ABSENT, **more: Any) -> preflight.facts.Node:
    return preflight.look(
        node.root,
        **{"landlock": 7, "is_root": False, "library": library, "switch_library": ABSENT_SWITCHES, **more},
    )


def by_id(found: list[Finding]) -> dict[str, Finding]:
    assert len({finding.id for finding in found}) == len(found)
    return {finding.id: finding for finding in found}


def test_a_healthy_node_with_eight_gpus(node: FakeNode, tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path / "nvml", [H100] * 8, settings=(0, 0, 1))
    fabric = FakeFabric(tmp_path / "nscq", [FakeSwitch()] * 4)
    seen = look(node, driver.shared_object, switch_library=fabric.shared_object)
    found = judge(seen, ("h100x8", BUILT_IN["h100x8"]))
    assert exit_code(found) == 0, [finding for finding in found if finding.remedy]
    assert {
        "gpu.present",
        "gpu.switches",
        "gpu.links",
        "gpu.ecc",
        "kernel.landlock",
        "tpm.device",
        "profile.satisfied",
    } <= set(by_id(found))
    assert (driver.opened, fabric.opened) == (0, 0)
    said = str([finding.to_json() for finding in found])
    assert H100.uuid not in said
    assert str(H100.serial) not in said


@pytest.mark.parametrize(
    ("settings", "switches", "severity"),
    [((0, 0, 1), 4, Severity.OK), ((0, 0, 1), 0, Severity.WARNING), ((1, 0, 0), 4, None)],
    ids=["protected", "protected without", "each by itself"],
)
def test_switches_are_asked_for_in_protected_mode(
    node: FakeNode,
    tmp_path: Path,
    settings: tuple[int, int, int],
    switches: int,
    severity: Severity | None,
) -> None:
    driver = FakeDriver(tmp_path / "nvml", [H100] * 8, settings=settings)
    fabric = FakeFabric(tmp_path / "nscq", [FakeSwitch()] * switches)
    found = by_id(judge(look(node, driver.shared_object, switch_library=fabric.shared_object)))
    assert (found["gpu.switches"].severity if "gpu.switches" in found else None) == severity


def test_switches_that_do_not_answer(node: FakeNode, tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path / "nvml", [H100] * 8, settings=(0, 0, 1))
    found = by_id(judge(look(node, driver.shared_object)))["gpu.switches"]
    assert (found.severity, "nscq.absent" in found.found) == (Severity.WARNING, True)
    assert "libnvidia-nscq" in found.remedy
    fabric = FakeFabric(tmp_path / "nscq", [FakeSwitch()])
    fabric.say("uuid", -3)
    found = by_id(judge(look(node, driver.shared_object, switch_library=fabric.shared_object)))[
        "gpu.switches"
    ]
    assert "nscq.denied" in found.found


def test_a_node_without_gpus(node: FakeNode) -> None:
    found = judge(look(node), ("cpu-demo", BUILT_IN["cpu-demo"]))
    assert exit_code(found) == 0
    assert by_id(found)["gpu.present"].severity is Severity.INFO


def test_eight_gpus_of_amd(node: FakeNode) -> None:
    for number in range(8):
        node.amd_card(number)
    found = judge(look(node), ("mi300x8", BUILT_IN["mi300x8"]))
    assert exit_code(found) == 0, [finding for finding in found if finding.remedy]
    assert by_id(found)["gpu.links"].severity is Severity.OK
    assert "no attestation report" in by_id(found)["profile.unattested"].found


@pytest.mark.parametrize(
    ("changed", "id", "severity"),
    [
        (replace(H100, ecc=(0, 0)), "gpu.ecc", Severity.WARNING),
        (replace(H100, ecc=None), "gpu.ecc", Severity.INFO),
        (replace(H100, ecc=(1, 0)), "gpu.ecc_pending", Severity.WARNING),
        (replace(H100, errors=2), "gpu.memory_errors", Severity.ERROR),
        (replace(H100, links=(1,) * 17 + (0,)), "gpu.links", Severity.WARNING),
        (replace(H100, links=()), "gpu.links", Severity.INFO),
        (replace(H100, persistence=0), "gpu.persistence", Severity.WARNING),
        (replace(H100, vbios="1"), "gpu.mixed", Severity.ERROR),
        (replace(H100, memory=1 << 34), "gpu.mixed", Severity.ERROR),
        (replace(H100, performance=8), "gpu.performance", Severity.INFO),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_one_gpu_that_is_not_well(
    node: FakeNode, tmp_path: Path, changed: FakeGpu, id: str, severity: Severity
) -> None:
    driver = FakeDriver(tmp_path / "nvml", [H100, changed], settings=(1, 0, 0))
    found = by_id(judge(look(node, driver.shared_object)))
    assert found[id].severity is severity
    if severity in (Severity.WARNING, Severity.ERROR) and id != "gpu.mixed":
        assert found[id].found.endswith("GPU 1")


@pytest.mark.parametrize(
    ("settings", "severity"),
    [
        ((0, 0, 0), Severity.INFO),
        ((1, 0, 0), Severity.OK),
        ((1, 1, 0), Severity.WARNING),
        ((0, 0, 1), Severity.OK),
    ],
    ids=["off", "on", "devtools", "ppcie"],
)
def test_confidential_computing(
    node: FakeNode, tmp_path: Path, settings: tuple[int, int, int], severity: Severity
) -> None:
    driver = FakeDriver(tmp_path / "nvml", [H100], settings=settings)
    assert by_id(judge(look(node, driver.shared_object)))["gpu.confidential"].severity is severity


def test_a_driver_that_fails(node: FakeNode, tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path / "nvml", [H100])
    driver.fail("nvmlInit_v2", 18)
    found = by_id(judge(look(node, driver.shared_object)))["gpu.driver"]
    assert (found.severity, "nvml.driver" in found.found) == (Severity.ERROR, True)
    assert "reload the driver" in found.remedy


@pytest.mark.parametrize("vendor", ["0x10de", "0x1002"])
def test_a_gpu_on_the_bus_without_a_driver(node: FakeNode, vendor: str) -> None:
    node.put("sys/bus/pci/devices/0000:00:01.0/vendor", vendor)
    node.put("sys/bus/pci/devices/0000:00:01.0/class", "0x120000")
    assert by_id(judge(look(node)))["gpu.driver"].severity is Severity.ERROR


def swap_on_disk(node: FakeNode) -> None:
    node.put("proc/swaps", "Filename Type\n/dev/sda2 partition 1 0 -2")


def swap_in_memory(node: FakeNode) -> None:
    node.put("proc/swaps", "Filename Type\n/dev/zram0 partition 1 0 -2")
    node.put("sys/block/zram0/backing_dev", "none")


def zram_with_a_disk(node: FakeNode) -> None:
    swap_in_memory(node)
    node.put("sys/block/zram0/backing_dev", "/dev/sda3")


def zswap(node: FakeNode) -> None:
    swap_on_disk(node)
    node.put("sys/module/zswap/parameters/enabled", "Y")


@pytest.mark.parametrize(
    ("change", "id", "severity"),
    [
        (swap_on_disk, "kernel.swap", Severity.ERROR),
        (swap_in_memory, "kernel.swap", Severity.INFO),
        (zram_with_a_disk, "kernel.swap", Severity.ERROR),
        (zswap, "kernel.zswap", Severity.WARNING),
        (lambda n: n.drop("sys/fs/cgroup/cgroup.controllers"), "kernel.cgroup", Severity.WARNING),
        (lambda n: n.put("proc/sys/kernel/osrelease", "6.3.0"), "kernel.noswap", Severity.WARNING),
        (lambda n: n.put("proc/sys/kernel/osrelease", "6.10.0"), "kernel.noswap", Severity.OK),
        (lambda n: n.put("sys/kernel/kexec_crash_loaded", "1"), "kernel.crash_dump", Severity.WARNING),
        (lambda n: n.drop("proc/sys/kernel/seccomp/actions_avail"), "kernel.seccomp", Severity.ERROR),
        (
            lambda n: n.put("proc/sys/user/max_user_namespaces", "0"),
            "kernel.user_namespaces",
            Severity.WARNING,
        ),
        (
            lambda n: n.put("proc/sys/kernel/unprivileged_userns_clone", "0"),
            "kernel.user_namespaces",
            Severity.WARNING,
        ),
        (
            lambda n: n.put("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
            "kernel.user_namespaces",
            Severity.WARNING,
        ),
        (lambda n: n.put("proc/meminfo", "MemTotal: 1048576 kB"), "memory.size", Severity.WARNING),
        (lambda n: n.put("proc/cpuinfo", "processor : 0\nflags : avx2"), "cpu.vectors", Severity.WARNING),
        (lambda n: n.drop("dev/tpmrm0"), "trust.key", Severity.ERROR),
        (lambda n: n.put("sys/class/tpm/tpm0/tpm_version_major", "1"), "tpm.version", Severity.ERROR),
        (lambda n: n.put("dev/sev-guest"), "tee.tsm", Severity.ERROR),
        (lambda n: n.put("dev/nsm"), "tee.nitro", Severity.OK),
    ],
)
def test_one_thing_of_the_host(
    node: FakeNode, change: Callable[[FakeNode], object], id: str, severity: Severity
) -> None:
    before = by_id(judge(look(node)))
    change(node)
    found = by_id(judge(look(node)))
    assert found[id].severity is severity
    assert before.get(id) != found[id] or severity is Severity.OK


@pytest.mark.parametrize(
    ("abi", "severity"),
    [(0, Severity.ERROR), (2, Severity.WARNING), (3, Severity.INFO), (5, Severity.INFO), (6, Severity.OK)],
)
def test_landlock(node: FakeNode, abi: int, severity: Severity) -> None:
    assert by_id(judge(look(node, landlock=abi)))["kernel.landlock"].severity is severity


def test_the_kernels_list_of_measurements(node: FakeNode) -> None:
    assert "tpm.ima" not in by_id(judge(look(node)))
    node.put("sys/kernel/security/ima/binary_runtime_measurements")
    assert look(node).trust.ima == Device(True, True)
    found = by_id(judge(look(node)))["tpm.ima"]
    assert (found.severity, "may read" in found.found) == (Severity.INFO, False)
    there = Trust(tpm=Device(True, True), ima=Device(present=True))
    assert "may read" in by_id(list(judge_trust(there)))["tpm.ima"].found


def test_root_needs_no_unprivileged_namespaces(node: FakeNode) -> None:
    node.put("proc/sys/kernel/unprivileged_userns_clone", "0")
    kernel = probe_host.kernel(node.root, landlock=7, is_root=True)
    assert by_id(list(judge_kernel(kernel)))["kernel.user_namespaces"].severity is Severity.OK


def test_devices_that_this_user_may_not_use() -> None:
    there, usable = Device(present=True), Device(True, True)
    found = by_id(list(judge_trust(Trust(tpm=there, tdx=usable, tsm=there))))
    assert found["tpm.device"].severity is found["tee.tsm"].severity is Severity.ERROR
    assert found["tee.tdx"].severity is Severity.OK
    assert possible_keys(Trust(tpm=there, tdx=usable, tsm=there)) == frozenset()
    assert possible_keys(Trust(tdx=usable, tsm=usable)) == {"tdx"}
    assert possible_keys(Trust(sev_snp=usable, tsm=there)) == frozenset()
    assert possible_keys(Trust(sev_snp=there, tsm=usable, nitro=usable)) == {"sev-snp", "nitro"}
    assert "tpm2" in possible_keys(Trust(tpm=usable))


@pytest.mark.parametrize(
    ("profile", "ids"),
    [
        ("h100x8", {"profile.gpu_count"}),
        ("mi300x8", {"profile.gpu_count", "profile.gpu_name"}),
        ("azure-confidential-a100", {"profile.gpu_count", "profile.gpu_name"}),
        ("nitro-p5.48xlarge", {"profile.key"}),
        ("cpu-demo", set()),
    ],
)
def test_a_profile_that_the_node_does_not_have(
    node: FakeNode, tmp_path: Path, profile: str, ids: set[str]
) -> None:
    driver = FakeDriver(tmp_path / "nvml", [H100, H100])
    found = judge(look(node, driver.shared_object), (profile, BUILT_IN[profile]))
    errors = {finding.id for finding in found if finding.severity is Severity.ERROR}
    assert errors == ids
    assert ("profile.satisfied" in by_id(found)) == (not ids)


def test_gpus_that_are_too_small_for_the_profile(node: FakeNode, tmp_path: Path) -> None:
    small = replace(H100, memory=40 << 30)
    driver = FakeDriver(tmp_path / "nvml", [small] * 8)
    found = judge(look(node, driver.shared_object), ("h100x8", BUILT_IN["h100x8"]))
    assert "profile.gpu_memory" in by_id(found)


def test_storage_is_read_within_bounds(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(bytes(20 << 20))
    (tmp_path / "b.safetensors").write_bytes(bytes(1 << 20))
    whole = probe_storage.storage(tmp_path)
    assert (whole.read, whole.total, whole.problem) == (20 << 20, 21 << 20, "")
    assert probe_storage.storage(tmp_path, most=8 << 20).read == 8 << 20
    ticks = count(step=6)
    assert probe_storage.storage(tmp_path, clock=lambda: float(next(ticks))).read == 16 << 20
    assert probe_storage.storage(tmp_path / "b.safetensors").read == 1 << 20
    assert probe_storage.storage(tmp_path / "absent").problem == "No such file or directory"
    (tmp_path / "empty").mkdir()
    assert probe_storage.storage(tmp_path / "empty").problem


@pytest.mark.parametrize(
    ("storage", "severity"),
    [
        (Storage(read=2 * 10**9, seconds=1, total=700 * 10**9, direct=True), Severity.OK),
        (Storage(read=10**9, seconds=1, total=700 * 10**9), Severity.WARNING),
        (Storage(read=10**9, seconds=5, total=40 * 10**9), Severity.WARNING),
        (Storage(read=10**9, seconds=5, total=700 * 10**9), Severity.ERROR),
        (Storage(problem="Permission denied"), Severity.ERROR),
    ],
)
def test_storage_is_judged_by_the_time_to_load(storage: Storage, severity: Severity) -> None:
    assert [finding.severity for finding in judge_storage(storage)] == [severity]


def test_exit_codes_go_by_the_worst() -> None:
    assert exit_code([]) == exit_code([ok("a", "b"), info("a", "b")]) == 0
    assert exit_code([ok("a", "b"), warning("a", "b", "c")]) == 40
    assert exit_code([error("a", "b", "c"), warning("a", "b", "c")]) == 41


def test_warnings_have_a_remedy_and_others_none() -> None:
    with pytest.raises(ValueError, match="remedy"):
        Finding("a", Severity.ERROR, "b")
    with pytest.raises(ValueError, match="remedy"):
        Finding("a", Severity.OK, "b", "c")
