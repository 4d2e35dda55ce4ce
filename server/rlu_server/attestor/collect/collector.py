"""What every collector of evidence offers, and how it says that it cannot.

A collector asks one device for evidence that binds a 32-byte root, and makes items of it: one for each statement that shares the root
(FORMATS section 3). It blocks, and is called from the attestor's hardware thread only.

    NotReady              the operator has to provide something: the device, access to it, certificates (exit code 2)
    HardwareUnavailable   the device was busy or gone; a later call may work (3)
    HardwareRefused       the device answered no, or something that cannot be evidence (10)
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from rlu_server.attestor.errors import AttestorError, HardwareRefused, HardwareUnavailable, NotReady
from rlu_server.attestor.platform import Evidence

ROOT_SIZE = 32

ABSENT = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR})
DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
PASSING = frozenset({errno.EBUSY, errno.EINTR, errno.EAGAIN, errno.ETIMEDOUT})
"""Errors after which the same call may work."""


class Collector(Protocol):
    """Maker of one kind of evidence item."""

    @property
    def kind(self) -> str:
        """`kind` of its items."""

    def collect(self, root: bytes) -> Evidence:
        """Evidence that binds `root`; called with a statement's proof, it gives that statement's item.

        Raises:
            AttestorError: by blame, as above.
        """


def check_root(root: bytes) -> None:
    """Refuse what is no binding root; misuse of the interface."""
    if len(root) != ROOT_SIZE:
        raise ValueError(f"a binding root has {ROOT_SIZE} bytes, not {len(root)}")


def blame(error: OSError, device: str, step: str, remedies: Mapping[str, str]) -> AttestorError:
    """A system call on a device failed: whose fault it is, and what to do.

    Args:
        device: what the message names.
        step: prefix of the code, such as `nsm`.
        remedies: what to do when the device is `absent`, and when access to it is `denied`.
    """
    what = f"{device}: {error.strerror or error}"
    if error.errno in ABSENT:
        return NotReady(f"{step}.absent", f"{what}; {remedies['absent']}")
    if error.errno in DENIED:
        return NotReady(f"{step}.denied", f"{what}; {remedies['denied']}")
    if error.errno in PASSING:
        return HardwareUnavailable(f"{step}.busy", f"{what}; it is asked again with the next statement")
    return HardwareRefused(f"{step}.failed", f"{what}; the kernel's log may say why")


def read_bounded(path: Path, limit: int) -> bytes:
    """All of a file of at most `limit` bytes.

    Raises:
        OSError: it cannot be read, or is longer (EFBIG).
    """
    # os.read: a file object's would take EAGAIN for the end.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while piece := os.read(descriptor, limit + 1 - len(data)):
            data += piece
            if len(data) > limit:
                raise OSError(errno.EFBIG, f"longer than {limit} bytes")
        return data
    finally:
        os.close(descriptor)
