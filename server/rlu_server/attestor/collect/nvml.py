"""NVIDIA's management library, `libnvidia-ml.so.1`: what the driver says of the GPUs, and their reports (nvml.h of driver 550 and later).

Structures and constants bear the header's names in lower case. The library is initialised for a block and let go afterwards, so that a
driver can be reloaded beneath a running attestor. Switches have a library of their own (`nscq.py`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rlu_server.attestor.errors import AttestorError, HardwareRefused, HardwareUnavailable, NotReady

LIBRARY = "libnvidia-ml.so.1"
NONCE_SIZE = 0x20
CERT_CHAIN_SIZE, ATTESTATION_CERT_CHAIN_SIZE = 0x1000, 0x1400
ATTESTATION_REPORT_SIZE, CEC_ATTESTATION_REPORT_SIZE = 0x2000, 0x1000
TEXT_SIZE = 96
MAX_GPUS = 32

SUCCESS, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, INSUFFICIENT_SIZE = 0, 2, 3, 4, 7
DRIVER_NOT_LOADED, TIMEOUT, FUNCTION_NOT_FOUND, GPU_IS_LOST, RESET_REQUIRED = 9, 10, 13, 15, 16
LIB_RM_VERSION_MISMATCH, IN_USE, MEMORY, INSUFFICIENT_RESOURCES = 18, 19, 20, 23
ARGUMENT_VERSION_MISMATCH, NOT_READY, GPU_NOT_FOUND = 25, 27, 28
MULTIGPU_PROTECTED_PCIE = 1

REFUSALS: dict[int, tuple[type[AttestorError], str, str]] = {
    NOT_SUPPORTED: (
        NotReady,
        "nvml.not_confidential",
        'the GPU makes no reports: switch its confidential-computing mode on, or set [attestation.gpu] evidence = "none"',
    ),
    NO_PERMISSION: (
        NotReady,
        "nvml.denied",
        "give the attestor's user access to /dev/nvidiactl and /dev/nvidia*",
    ),
    DRIVER_NOT_LOADED: (NotReady, "nvml.driver", "load the NVIDIA driver"),
    LIB_RM_VERSION_MISMATCH: (
        NotReady,
        "nvml.driver",
        "library and kernel driver are of different versions: reload the driver or reboot",
    ),
    FUNCTION_NOT_FOUND: (
        NotReady,
        "nvml.driver",
        "the driver is too old for confidential computing: install 550 or later",
    ),
    TIMEOUT: (HardwareUnavailable, "nvml.busy", "the GPU did not answer in time"),
    IN_USE: (HardwareUnavailable, "nvml.busy", "the GPU is in use by an operation that excludes others"),
    MEMORY: (HardwareUnavailable, "nvml.busy", "the driver is out of memory"),
    INSUFFICIENT_RESOURCES: (HardwareUnavailable, "nvml.busy", "the driver is out of resources"),
    NOT_READY: (HardwareUnavailable, "nvml.busy", "the GPU is not ready yet"),
    GPU_IS_LOST: (HardwareRefused, "nvml.gpu_lost", "the GPU fell off the bus: reset it or reboot"),
    RESET_REQUIRED: (HardwareRefused, "nvml.gpu_lost", "the GPU needs a reset"),
    GPU_NOT_FOUND: (HardwareRefused, "nvml.gpu_lost", "the GPU is gone: reset it or reboot"),
    INSUFFICIENT_SIZE: (
        HardwareRefused,
        "nvml.size",
        "the driver's answer is longer than this version of RLU knows",
    ),
}


class Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class ConfComputeSystemState(ctypes.Structure):
    """nvmlConfComputeSystemState_t."""

    _fields_ = (
        ("environment", ctypes.c_uint),
        ("cc_feature", ctypes.c_uint),
        ("dev_tools_mode", ctypes.c_uint),
    )


class SystemConfComputeSettings(ctypes.Structure):
    """nvmlSystemConfComputeSettings_v1_t."""

    _fields_ = (
        ("version", ctypes.c_uint),
        ("environment", ctypes.c_uint),
        ("cc_feature", ctypes.c_uint),
        ("dev_tools_mode", ctypes.c_uint),
        ("multi_gpu_mode", ctypes.c_uint),
    )


SETTINGS_V1 = ctypes.sizeof(SystemConfComputeSettings) | 1 << 24
"""NVML_STRUCT_VERSION(SystemConfComputeSettings, 1)."""


class ConfComputeGpuCertificate(ctypes.Structure):
    """nvmlConfComputeGpuCertificate_t."""

    _fields_ = (
        ("cert_chain_size", ctypes.c_uint),
        ("attestation_cert_chain_size", ctypes.c_uint),
        ("cert_chain", ctypes.c_uint8 * CERT_CHAIN_SIZE),
        ("attestation_cert_chain", ctypes.c_uint8 * ATTESTATION_CERT_CHAIN_SIZE),
    )


class ConfComputeGpuAttestationReport(ctypes.Structure):
    """nvmlConfComputeGpuAttestationReport_t."""

    _fields_ = (
        ("is_cec_attestation_report_present", ctypes.c_uint),
        ("attestation_report_size", ctypes.c_uint),
        ("cec_attestation_report_size", ctypes.c_uint),
        ("nonce", ctypes.c_uint8 * NONCE_SIZE),
        ("attestation_report", ctypes.c_uint8 * ATTESTATION_REPORT_SIZE),
        ("cec_attestation_report", ctypes.c_uint8 * CEC_ATTESTATION_REPORT_SIZE),
    )


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver describes it; `serial` None where the board has none."""

    index: int
    name: str
    memory_mib: int
    vbios: str
    uuid: str
    serial: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A device's report, and the certificates that the driver keeps for it (PEM, leaf first)."""

    report: bytes
    certificates: bytes


class Nvml:
    """The initialised library."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    @property
    def driver(self) -> str:
        """Version of the kernel driver."""
        return self._text("nvmlSystemGetDriverVersion")

    @property
    def mode(self) -> str:
        """Confidential-computing mode of the machine: `off`, `on`, `devtools`, `ppcie`."""
        settings = SystemConfComputeSettings(version=SETTINGS_V1)
        code = self._call("nvmlSystemGetConfComputeSettings", ctypes.byref(settings))
        if code in (FUNCTION_NOT_FOUND, ARGUMENT_VERSION_MISMATCH, NOT_SUPPORTED):
            state = ConfComputeSystemState()
            code = self._call("nvmlSystemGetConfComputeState", ctypes.byref(state))
            settings.cc_feature, settings.dev_tools_mode = state.cc_feature, state.dev_tools_mode
        if code in (FUNCTION_NOT_FOUND, NOT_SUPPORTED):
            return "off"
        _check(code, "the system", "its confidential-computing mode")
        if settings.multi_gpu_mode == MULTIGPU_PROTECTED_PCIE:
            return "ppcie"
        if not settings.cc_feature:
            return "off"
        return "devtools" if settings.dev_tools_mode else "on"

    def gpus(self) -> tuple[Gpu, ...]:
        """All GPUs that this process may see.

        Raises:
            AttestorError: by blame, `nvml.…`.
        """
        count = ctypes.c_uint()
        _check(self._call("nvmlDeviceGetCount_v2", ctypes.byref(count)), "the system", "the number of GPUs")
        if count.value > MAX_GPUS:
            raise HardwareRefused(
                "nvml.count", f"the driver lists {count.value} GPUs; at most {MAX_GPUS} are handled"
            )
        return tuple(self._gpu(index) for index in range(count.value))

    def attest(self, index: int, nonce: bytes) -> Answer:
        """A GPU's report over a nonce of 32 bytes.

        Raises:
            AttestorError: by blame, `nvml.…`.
        """
        device, name = self._handle(index), f"GPU {index}"
        report = ConfComputeGpuAttestationReport(nonce=(ctypes.c_uint8 * NONCE_SIZE)(*nonce))
        code = self._call("nvmlDeviceGetConfComputeGpuAttestationReport", device, ctypes.byref(report))
        _check(code, name, "its attestation report")
        certificate = ConfComputeGpuCertificate()
        code = self._call("nvmlDeviceGetConfComputeGpuCertificate", device, ctypes.byref(certificate))
        _check(code, name, "its certificates")
        return Answer(
            _taken(report.attestation_report, report.attestation_report_size, name),
            _taken(certificate.attestation_cert_chain, certificate.attestation_cert_chain_size, name),
        )

    def numbers(self, function: str, index: int, *leading: int, results: int = 1) -> tuple[int, ...] | None:
        """What a function that fills unsigned integers says of one GPU; None where device or driver has no such thing.

        Args:
            leading: unsigned arguments between the device and the results.

        Raises:
            AttestorError: by blame, `nvml.…`.
        """
        return self._filled(function, index, leading, [ctypes.c_uint() for _ in range(results)])

    def counter(self, function: str, index: int, *leading: int) -> int | None:
        """As `numbers`, for one unsigned integer of 64 bits."""
        found = self._filled(function, index, leading, [ctypes.c_ulonglong()])
        return None if found is None else found[0]

    def _filled(
        self, function: str, index: int, leading: tuple[int, ...], into: list[Any]
    ) -> tuple[int, ...] | None:
        given = [ctypes.c_uint(value) for value in leading]
        code = self._call(function, self._handle(index), *given, *map(ctypes.byref, into))
        if code in (NOT_SUPPORTED, FUNCTION_NOT_FOUND, INVALID_ARGUMENT):
            return None
        _check(code, f"GPU {index}", f"an answer to {function}")
        return tuple(int(value.value) for value in into)

    def _gpu(self, index: int) -> Gpu:
        device, memory = self._handle(index), Memory()
        _check(
            self._call("nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory)), f"GPU {index}", "its memory"
        )
        return Gpu(
            index,
            self._text("nvmlDeviceGetName", device),
            memory.total >> 20,
            self._text("nvmlDeviceGetVbiosVersion", device),
            self._text("nvmlDeviceGetUUID", device),
            self._text("nvmlDeviceGetSerial", device, optional=True) or None,
        )

    def _handle(self, index: int) -> ctypes.c_void_p:
        device = ctypes.c_void_p()
        code = self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device))
        _check(code, f"GPU {index}", "a handle")
        return device

    def _text(self, function: str, *device: ctypes.c_void_p, optional: bool = False) -> str:
        text = ctypes.create_string_buffer(TEXT_SIZE)
        code = self._call(function, *device, text, ctypes.c_uint(TEXT_SIZE))
        if optional and code == NOT_SUPPORTED:
            return ""
        _check(code, "the driver", f"an answer to {function}")
        return text.value.decode("utf-8", "replace")

    def _call(self, function: str, *arguments: Any) -> int:
        try:
            found = self._library[function]
        except AttributeError:
            return FUNCTION_NOT_FOUND
        found.restype = ctypes.c_int
        return int(found(*arguments))


@contextmanager
def opened(library: str = LIBRARY) -> Iterator[Nvml]:
    """The library, initialised while the block runs.

    Raises:
        AttestorError: by blame, `nvml.…`.
    """
    try:
        loaded = ctypes.CDLL(library)
    except OSError as error:
        raise NotReady(
            "nvml.absent",
            f"{library} cannot be loaded ({error}); install the NVIDIA driver, and in a container add `utility` "
            "to NVIDIA_DRIVER_CAPABILITIES",
        ) from error
    nvml = Nvml(loaded)
    _check(nvml._call("nvmlInit_v2"), "the driver", "to be initialised")
    try:
        yield nvml
    finally:
        nvml._call("nvmlShutdown")


def _check(code: int, device: str, wanted: str) -> None:
    if code == SUCCESS:
        return
    kind, name, remedy = REFUSALS.get(
        code, (HardwareRefused, "nvml.failed", "see nvmlReturn_t in nvml.h, and the kernel's log")
    )
    raise kind(name, f"NVML, {device}: asked for {wanted}, return code {code}; {remedy}")


def _taken(buffer: ctypes.Array[ctypes.c_uint8], size: int, device: str) -> bytes:
    if not 0 < size <= len(buffer):
        raise HardwareRefused(
            "nvml.size", f"NVML, {device}: an answer of {size} bytes where 1 to {len(buffer)} fit"
        )
    return bytes(buffer[:size])
