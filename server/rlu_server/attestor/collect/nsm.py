"""The Nitro Secure Module of an AWS Nitro Enclave: `/dev/nsm` (Linux 6.8, include/uapi/linux/nsm.h; AWS's own driver before).

One ioctl, NSM_IOCTL_RAW, takes a CBOR request and gives a CBOR answer. The structure holds address and length of both; the driver writes
the answer's length into it, and cuts an answer that does not fit without saying so, which is why the room for it is the largest there is.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from rlu_server.attestor.collect.collector import blame
from rlu_server.attestor.errors import HardwareRefused

DEVICE = Path("/dev/nsm")
MAX_REQUEST, MAX_RESPONSE = 0x1000, 0x3000
INTERRUPTIONS = 8
REMEDIES = {
    "absent": "an enclave has this device; on the parent instance, or elsewhere, set [attestation] key to the kind of the machine",
    "denied": "give the attestor's user access to it",
}


class _IoVec(ctypes.Structure):
    _fields_ = (("addr", ctypes.c_uint64), ("len", ctypes.c_uint64))


class _Raw(ctypes.Structure):
    """struct nsm_raw."""

    _fields_ = (("request", _IoVec), ("response", _IoVec))


IOCTL_RAW = 3 << 30 | ctypes.sizeof(_Raw) << 16 | 0x0A << 8
"""_IOWR(0x0A, 0x0, struct nsm_raw)."""


class Nsm:
    """The device, opened for each request."""

    def __init__(self, device: Path = DEVICE) -> None:
        self._device = device

    def request(self, message: bytes) -> bytes:
        """Send a request and return the answer.

        Raises:
            NotReady: no such device, or no access (`nsm.absent`, `nsm.denied`).
            HardwareUnavailable: busy, or no answer within the driver's time (`nsm.busy`).
            HardwareRefused: the device failed (`nsm.failed`).
        """
        if not 1 <= len(message) <= MAX_REQUEST:
            raise ValueError(f"a request has 1 to {MAX_REQUEST} bytes, not {len(message)}")
        request = ctypes.create_string_buffer(message, len(message))
        response = ctypes.create_string_buffer(MAX_RESPONSE)
        raw = _Raw(
            _IoVec(ctypes.addressof(request), len(message)), _IoVec(ctypes.addressof(response), MAX_RESPONSE)
        )
        try:
            self._ioctl(raw)
        except OSError as error:
            if error.errno == errno.ENOTTY:
                raise HardwareRefused("nsm.failed", f"{self._device} is no Nitro Secure Module") from error
            raise blame(error, str(self._device), "nsm", REMEDIES) from error
        if not 1 <= raw.response.len <= MAX_RESPONSE:
            raise HardwareRefused("nsm.failed", f"{self._device} answered {raw.response.len} bytes")
        return response.raw[: raw.response.len]

    def _ioctl(self, raw: _Raw) -> None:
        descriptor = os.open(self._device, os.O_RDWR | os.O_CLOEXEC)
        try:
            for _ in range(INTERRUPTIONS):
                with suppress(InterruptedError):
                    fcntl.ioctl(descriptor, IOCTL_RAW, raw)
                    return
            raise OSError(errno.EINTR, "interrupted again and again")
        finally:
            os.close(descriptor)
