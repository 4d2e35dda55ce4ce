"""NVIDIA's library for NVSwitches, `libnvidia-nscq.so.2` (NSCQ): which switches there are, and their reports.

Of the library's interface NVIDIA publishes what attestation takes, as headers of its own tools (github.com/NVIDIA/nvtrust,
`nscq_attestation.h` and `nscq_attestation_path.h`, version 2.0.0); structures and constants bear those names in lower case. What is asked
for is a path, and the library calls back for every device that it matches, with a code and the value. Like NVML, it is opened for a block
and let go afterwards.

A session is for one thread. Nothing here has been on a machine with switches.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rlu_server.attestor.collect.nvml import Answer
from rlu_server.attestor.errors import AttestorError, HardwareRefused, HardwareUnavailable, NotReady

LIBRARY = "libnvidia-nscq.so.2"
UUID_SIZE, LABEL_SIZE = 16, 64
NONCE_SIZE = 0x20
ATTESTATION_REPORT_SIZE, CERT_CHAIN_MAX_SIZE = 0x2000, 0x1400
SESSION_CREATE_MOUNT_DEVICES = 1
MAX_SWITCHES = 32

UUIDS = "/drv/nvswitch/{device}/uuid"
CERTIFICATE, ATTESTATION_REPORT = "config/certificate", "config/attestation_report"

SUCCESS = 0
"""Codes above are warnings beside a value, codes below are errors."""
NOT_IMPLEMENTED, INVALID_UUID, RESOURCE_NOT_MOUNTABLE, OVERFLOW = -1, -2, -3, -4
UNEXPECTED_VALUE, UNSUPPORTED_DRV, DRV, TIMEOUT, EXT, UNSPECIFIED = -5, -6, -7, -8, -127, -128

REFUSALS: dict[int, tuple[type[AttestorError], str, str]] = {
    NOT_IMPLEMENTED: (
        NotReady,
        "nscq.driver",
        "the library is too old for attestation: install libnvidia-nscq of the driver's version, 570 or later",
    ),
    UNSUPPORTED_DRV: (
        NotReady,
        "nscq.driver",
        "library and kernel driver are of different versions: install libnvidia-nscq of the driver's version",
    ),
    RESOURCE_NOT_MOUNTABLE: (
        NotReady,
        "nscq.denied",
        "give the attestor's user access to /dev/nvidia-nvswitchctl and /dev/nvidia-nvswitch*",
    ),
    INVALID_UUID: (HardwareRefused, "nscq.lost", "the switch is gone: see the kernel's log and reboot"),
    OVERFLOW: (
        HardwareRefused,
        "nscq.size",
        "the library's answer is longer than this version of RLU knows",
    ),
    TIMEOUT: (HardwareUnavailable, "nscq.busy", "the switch did not answer in time"),
}


class Uuid(ctypes.Structure):
    """nscq_uuid_t."""

    _fields_ = (("bytes", ctypes.c_uint8 * UUID_SIZE),)


class Label(ctypes.Structure):
    """nscq_label_t: a UUID as text."""

    _fields_ = (("data", ctypes.c_char * LABEL_SIZE),)


class AttestationReport(ctypes.Structure):
    """nscq_attestation_report_t."""

    _fields_ = (
        ("report_size", ctypes.c_uint32),
        ("report", ctypes.c_uint8 * ATTESTATION_REPORT_SIZE),
    )


class AttestationCertificate(ctypes.Structure):
    """nscq_attestation_certificate_t."""

    _fields_ = (
        ("cert_chain", ctypes.c_uint8 * CERT_CHAIN_MAX_SIZE),
        ("cert_chain_size", ctypes.c_uint32),
    )


class SessionResult(ctypes.Structure):
    """nscq_session_result_t."""

    _fields_ = (("rc", ctypes.c_int8), ("session", ctypes.c_void_p))


class Nscq:
    """An open session, in which every switch that this process may see is mounted."""

    def __init__(self, library: ctypes.CDLL, session: int | None) -> None:
        self._library = library
        self._session = ctypes.c_void_p(session)

    def switches(self) -> tuple[str, ...]:
        """Their labels, which are their UUIDs as text.

        Raises:
            AttestorError: by blame, `nscq.…`.
        """
        found = self._observe(
            UUIDS,
            ctypes.POINTER(Uuid),
            lambda uuid: bytes(uuid.contents.bytes) if uuid else b"",
            "the system",
        )
        if len(found) > MAX_SWITCHES:
            raise HardwareRefused(
                "nscq.count", f"the library lists {len(found)} NVSwitches; at most {MAX_SWITCHES} are handled"
            )
        return tuple(self._label(uuid) for uuid in found)

    def attest(self, switch: str, nonce: bytes) -> Answer:
        """A switch's report over a nonce of 32 bytes, and its certificates.

        Args:
            switch: its label.

        Raises:
            AttestorError: by blame, `nscq.…`.
        """
        name = f"NVSwitch {switch}"
        given = (ctypes.c_uint8 * NONCE_SIZE)(*nonce)
        code = _call(
            self._library,
            "nscq_session_set_input",
            self._session,
            ctypes.c_uint32(0),
            ctypes.byref(given),
            ctypes.c_uint32(NONCE_SIZE),
        )
        _check(code, name, "a nonce")
        report = self._one(
            switch,
            ATTESTATION_REPORT,
            AttestationReport,
            lambda found: (bytes(found.report), found.report_size),
        )
        chain = self._one(
            switch,
            CERTIFICATE,
            AttestationCertificate,
            lambda found: (bytes(found.cert_chain), found.cert_chain_size),
        )
        return Answer(_taken(*report, name), _taken(*chain, name))

    def _one(
        self, switch: str, path: str, kind: Any, copy: Callable[[Any], tuple[bytes, int]]
    ) -> tuple[bytes, int]:
        """What one switch says at a path: a buffer, and how much of it counts."""
        found: list[tuple[bytes, int]] = self._observe(f"/{switch}/{path}", kind, copy, f"NVSwitch {switch}")
        if len(found) != 1:
            raise HardwareRefused(
                "nscq.lost", f"NSCQ, NVSwitch {switch}: {len(found)} answers at {path}; see the kernel's log"
            )
        return found[0]

    def _observe(self, path: str, kind: Any, copy: Callable[[Any], Any], device: str) -> list[Any]:
        """The values that the library calls back with. `copy` takes what lives during the call only."""
        found: list[tuple[int, Any]] = []

        def called(_device: object, code: int, value: Any, _data: object) -> None:
            found.append((code, copy(value) if code >= SUCCESS else None))

        callback = ctypes.CFUNCTYPE(None, ctypes.POINTER(Uuid), ctypes.c_int8, kind, ctypes.c_void_p)(called)
        code = _call(
            self._library,
            "nscq_session_path_observe",
            self._session,
            path.encode(),
            callback,
            None,
            ctypes.c_uint32(0),
        )
        _check(code, device, path)
        for code, _ in found:
            _check(code, device, path)
        return [value for _, value in found]

    def _label(self, uuid: bytes) -> str:
        given, label = Uuid(), Label()
        ctypes.memmove(ctypes.byref(given), uuid, len(uuid))
        code = _call(
            self._library,
            "nscq_uuid_to_label",
            ctypes.byref(given),
            ctypes.byref(label),
            ctypes.c_uint32(0),
        )
        _check(code, "the system", "the label of an NVSwitch")
        return str(label.data.decode("ascii", "replace"))


@contextmanager
def opened(library: str = LIBRARY) -> Iterator[Nscq]:
    """The library, with a session while the block runs.

    Raises:
        AttestorError: by blame, `nscq.…`.
    """
    try:
        loaded = ctypes.CDLL(library)
    except OSError as error:
        raise NotReady(
            "nscq.absent",
            f"{library} cannot be loaded ({error}); install libnvidia-nscq of the driver's version, and in a container add `utility` "
            "to NVIDIA_DRIVER_CAPABILITIES and set NVIDIA_NVSWITCH=enabled",
        ) from error
    made = _call(
        loaded, "nscq_session_create", ctypes.c_uint32(SESSION_CREATE_MOUNT_DEVICES), gives=SessionResult
    )
    _check(made.rc, "the system", "a session")
    try:
        yield Nscq(loaded, made.session)
    finally:
        _call(loaded, "nscq_session_destroy", ctypes.c_void_p(made.session), gives=None)


def _call(library: ctypes.CDLL, function: str, *arguments: Any, gives: Any = ctypes.c_int8) -> Any:
    try:
        found = library[function]
    except AttributeError as error:
        raise NotReady(
            "nscq.driver", f"NSCQ: the library has no {function}; {REFUSALS[NOT_IMPLEMENTED][2]}"
        ) from error
    found.restype = gives
    return found(*arguments)


def _check(code: int, device: str, wanted: str) -> None:
    if code >= SUCCESS:
        return
    kind, name, remedy = REFUSALS.get(
        code, (HardwareRefused, "nscq.failed", "see nscq_rc_t in nscq_attestation.h, and the kernel's log")
    )
    raise kind(name, f"NSCQ, {device}: asked for {wanted}, return code {code}; {remedy}")


def _taken(buffer: bytes, size: int, device: str) -> bytes:
    if not 0 < size <= len(buffer):
        raise HardwareRefused(
            "nscq.size", f"NSCQ, {device}: an answer of {size} bytes where 1 to {len(buffer)} fit"
        )
    return buffer[:size]
