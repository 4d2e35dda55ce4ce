"""NVML through ctypes, against a library compiled from C: structures, modes, every return code that means something."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from fakes.nvml import FakeDriver, FakeGpu
from rlu_server.attestor.collect import nvml
from rlu_server.attestor.errors import AttestorError, HardwareRefused, HardwareUnavailable, NotReady

NONCE = bytes(range(32))
REPORT = "nvmlDeviceGetConfComputeGpuAttestationReport"


def gpu(**changes: object) -> FakeGpu:
    values = {"report": lambda nonce: b"report over " + nonce, "chain": b"a chain"}
    return FakeGpu(**values | changes)


def test_the_structures_are_the_headers() -> None:
    """Sizes as nvml.h of driver 570 gives them."""
    assert nvml.SETTINGS_V1 == 0x1000014
    assert ctypes.sizeof(nvml.ConfComputeSystemState) == 12
    assert ctypes.sizeof(nvml.ConfComputeGpuCertificate) == 8 + 0x1000 + 0x1400
    assert ctypes.sizeof(nvml.ConfComputeGpuAttestationReport) == 12 + 0x20 + 0x2000 + 0x1000
    assert ctypes.sizeof(nvml.Memory) == 24


def test_what_the_driver_says(tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path, [gpu(), gpu(name="NVIDIA H200", memory=143771 << 20, serial=None)])
    with nvml.opened(driver.shared_object) as opened:
        assert driver.opened == 1
        assert (opened.driver, opened.mode) == ("590.12.00", "on")
        assert opened.gpus() == (
            nvml.Gpu(
                0, "NVIDIA H100 80GB HBM3", 81559, "96.00.5E.00.01", driver.devices[0].uuid, "1654922006536"
            ),
            nvml.Gpu(1, "NVIDIA H200", 143771, "96.00.5E.00.01", driver.devices[1].uuid, None),
        )
    assert driver.opened == 0


@pytest.mark.parametrize(
    ("settings", "state", "mode"),
    [
        ((0, 0, 0), None, "off"),
        ((1, 0, 0), None, "on"),
        ((1, 1, 0), None, "devtools"),
        ((0, 1, 0), None, "off"),
        ((0, 0, 1), None, "ppcie"),
        ((1, 0, 2), None, "on"),
        (None, (0, 0), "off"),
        (None, (1, 0), "on"),
        (None, (1, 1), "devtools"),
        (None, None, "off"),
    ],
)
def test_modes(
    tmp_path: Path, settings: tuple[int, int, int] | None, state: tuple[int, int] | None, mode: str
) -> None:
    driver = FakeDriver(tmp_path, [], settings=settings, state=state)
    with nvml.opened(driver.shared_object) as opened:
        assert opened.mode == mode
        assert opened.gpus() == ()


@pytest.mark.parametrize("code", [nvml.FUNCTION_NOT_FOUND, nvml.ARGUMENT_VERSION_MISMATCH])
def test_an_older_driver_has_only_the_state(tmp_path: Path, code: int) -> None:
    driver = FakeDriver(tmp_path, [], state=(1, 0))
    driver.fail("nvmlSystemGetConfComputeSettings", code)
    with nvml.opened(driver.shared_object) as opened:
        assert opened.mode == "on"


def test_reports_of_each_gpu(tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path, [gpu(), gpu(report=lambda nonce: b"other " + nonce, chain=b"another")])
    with nvml.opened(driver.shared_object) as opened:
        assert opened.attest(0, NONCE) == nvml.Answer(b"report over " + NONCE, b"a chain")
        assert opened.attest(1, NONCE) == nvml.Answer(b"other " + NONCE, b"another")
    assert driver.nonces == [NONCE, NONCE]


def test_the_longest_report(tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path, [gpu(report=lambda nonce: b"\x01" * 0x2000, chain=b"c" * 0x1400)])
    with nvml.opened(driver.shared_object) as opened:
        answer = opened.attest(0, NONCE)
    assert (len(answer.report), len(answer.certificates)) == (0x2000, 0x1400)


CODES: list[tuple[int, type[AttestorError], str, str]] = [
    (3, NotReady, "nvml.not_confidential", "confidential-computing mode"),
    (4, NotReady, "nvml.denied", "/dev/nvidia"),
    (7, HardwareRefused, "nvml.size", "longer"),
    (9, NotReady, "nvml.driver", "load the NVIDIA driver"),
    (10, HardwareUnavailable, "nvml.busy", "in time"),
    (13, NotReady, "nvml.driver", "too old"),
    (15, HardwareRefused, "nvml.gpu_lost", "reset it"),
    (16, HardwareRefused, "nvml.gpu_lost", "reset"),
    (18, NotReady, "nvml.driver", "different versions"),
    (19, HardwareUnavailable, "nvml.busy", "in use"),
    (20, HardwareUnavailable, "nvml.busy", "memory"),
    (23, HardwareUnavailable, "nvml.busy", "resources"),
    (27, HardwareUnavailable, "nvml.busy", "not ready"),
    (28, HardwareRefused, "nvml.gpu_lost", "gone"),
    (999, HardwareRefused, "nvml.failed", "return code 999"),
]


@pytest.mark.parametrize(("code", "kind", "name", "text"), CODES, ids=[str(row[0]) for row in CODES])
def test_return_codes(tmp_path: Path, code: int, kind: type[AttestorError], name: str, text: str) -> None:
    driver = FakeDriver(tmp_path, [gpu(), gpu()])
    driver.fail(REPORT, code, gpu=1)
    with nvml.opened(driver.shared_object) as opened:
        opened.attest(0, NONCE)
        with pytest.raises(kind, match=text) as caught:
            opened.attest(1, NONCE)
    assert caught.value.code == name
    assert "GPU 1" in caught.value.message


@pytest.mark.parametrize(
    "function",
    [
        "nvmlSystemGetDriverVersion",
        "nvmlDeviceGetCount_v2",
        "nvmlDeviceGetHandleByIndex_v2",
        "nvmlDeviceGetName",
        "nvmlDeviceGetVbiosVersion",
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetSerial",
        "nvmlDeviceGetMemoryInfo",
    ],
)
def test_every_call_is_checked(tmp_path: Path, function: str) -> None:
    driver = FakeDriver(tmp_path, [gpu()])
    driver.fail(function, 15)
    with nvml.opened(driver.shared_object) as opened, pytest.raises(HardwareRefused) as caught:
        _ = opened.driver, opened.gpus()
    assert caught.value.code == "nvml.gpu_lost"


def test_the_mode_and_the_certificates_are_checked(tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path, [gpu()])
    driver.fail("nvmlSystemGetConfComputeSettings", 999)
    driver.fail("nvmlDeviceGetConfComputeGpuCertificate", 15)
    with nvml.opened(driver.shared_object) as opened:
        with pytest.raises(HardwareRefused) as caught:
            _ = opened.mode
        assert caught.value.code == "nvml.failed"
        with pytest.raises(HardwareRefused, match="certificates"):
            opened.attest(0, NONCE)


def test_a_driver_that_is_not_loaded(tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path, [])
    driver.fail("nvmlInit_v2", 9)
    with pytest.raises(NotReady, match="load the NVIDIA driver"), nvml.opened(driver.shared_object):
        pass
    assert driver.opened == 0


def test_it_is_let_go_after_a_failure(tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path, [gpu(report=None)])
    with pytest.raises(NotReady, match="evidence"), nvml.opened(driver.shared_object) as opened:
        opened.attest(0, NONCE)
    assert driver.opened == 0


def test_no_library() -> None:
    with pytest.raises(NotReady) as caught, nvml.opened("/nonexistent/libnvidia-ml.so.1"):
        pass
    assert caught.value.code == "nvml.absent"
    assert "NVIDIA_DRIVER_CAPABILITIES" in caught.value.message


def test_a_library_without_the_function(tmp_path: Path) -> None:
    with nvml.opened(FakeDriver(tmp_path, [gpu()]).shared_object) as opened:
        assert opened._call("nvmlNoSuchFunction") == nvml.FUNCTION_NOT_FOUND


@pytest.mark.parametrize("size", [0, 0x2001, 0xFFFFFFFF])
def test_a_size_that_cannot_be(tmp_path: Path, size: int) -> None:
    made = nvml.ConfComputeGpuAttestationReport()
    with pytest.raises(HardwareRefused) as caught:
        nvml._taken(made.attestation_report, size, "GPU 0")
    assert caught.value.code == "nvml.size"
    driver = FakeDriver(tmp_path, [gpu(report=lambda nonce: bytes(min(size, 0x3000)))])
    with nvml.opened(driver.shared_object) as opened, pytest.raises(HardwareRefused, match="GPU 0"):
        opened.attest(0, NONCE)


def test_more_gpus_than_a_node_has(tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path, [])
    (tmp_path / "count").write_text("33")
    with nvml.opened(driver.shared_object) as opened, pytest.raises(HardwareRefused) as caught:
        opened.gpus()
    assert caught.value.code == "nvml.count"


def test_numbers_of_a_gpu(tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path, [FakeGpu(ecc=(1, 0), errors=5, links=(1, 0)), FakeGpu()])
    with nvml.opened(driver.shared_object) as opened:
        assert opened.numbers("nvmlDeviceGetEccMode", 0, results=2) == (1, 0)
        assert opened.numbers("nvmlDeviceGetNvLinkState", 0, 0) == (1,)
        assert opened.numbers("nvmlDeviceGetNvLinkState", 0, 1) == (0,)
        assert opened.numbers("nvmlDeviceGetNvLinkState", 0, 18) is None  # no such link
        assert opened.counter("nvmlDeviceGetTotalEccErrors", 0, 1, 0) == 5
        assert opened.numbers("nvmlDeviceGetEccMode", 1, results=2) is None  # the device has none
        assert opened.numbers("nvmlDeviceGetNothing", 0) is None  # the driver is too old
        driver.fail("nvmlDeviceGetEccMode", 15)
        with pytest.raises(HardwareRefused) as caught:
            opened.numbers("nvmlDeviceGetEccMode", 0, results=2)
        assert caught.value.code == "nvml.gpu_lost"
