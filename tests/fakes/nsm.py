"""A working Nitro Secure Module, `/dev/nsm`, on a mount of its own: a real ioctl(2) that reaches the fake AWS's module.

    with NsmDevice(module) as device:
        Nsm(device.path)

The kernel hands the structure over; request and response are read and written in the caller's memory, as a driver does. `failures` are
errors that the driver gives, each once; `answer` replaces what the module would say.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbor2

from fakes import aws
from fakes.fuse import Mount, Node

NSM_IOCTL_RAW = 0xC0200A00
REQUEST_MAX, RESPONSE_MAX = 0x1000, 0x3000


def respond(module: aws.Module, request: bytes) -> bytes:
    """The module's answer to a CBOR request, as AWS's API describes it."""
    try:
        decoded: Any = cbor2.loads(request)
    except cbor2.CBORDecodeError:
        return cbor2.dumps({"Error": "InvalidArgument"})
    match decoded:
        case {"Attestation": {"user_data": user_data, "nonce": nonce, "public_key": public_key}}:
            for value, limit in ((user_data, 512), (nonce, 512), (public_key, 1024)):
                if value is not None and (not isinstance(value, bytes) or len(value) > limit):
                    return cbor2.dumps({"Error": "InputTooLarge"})
            fields = module.fields(user_data) | {"nonce": nonce, "public_key": public_key}
            return cbor2.dumps({"Attestation": {"document": module.document(fields)}})
    return cbor2.dumps({"Error": "InvalidOperation"})


@dataclass(eq=False)
class NsmDevice:
    """The device; a context manager that mounts it."""

    module: aws.Module
    failures: list[int] = field(default_factory=list)
    answer: Callable[[bytes], bytes] | None = None
    mode: int = 0o666
    requests: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._mount = Mount(_Root(self))

    @property
    def path(self) -> Path:
        return self._mount.path / "nsm"

    def __enter__(self) -> NsmDevice:
        self._mount.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._mount.__exit__()

    def read(self) -> bytes:
        raise OSError(errno.EINVAL, "nsm")

    def write(self, data: bytes) -> None:
        raise OSError(errno.EINVAL, "nsm")

    def flush(self) -> None:
        pass

    def ioctl(self, command: int, argument: bytes, caller: int) -> bytes:
        if self.failures and (number := self.failures.pop(0)):
            raise OSError(number, "nsm")
        if command != NSM_IOCTL_RAW:
            raise OSError(errno.EINVAL, "nsm")
        request_at, request_size, response_at, response_size = struct.unpack("<QQQQ", argument)
        if request_size > REQUEST_MAX:
            raise OSError(errno.EMSGSIZE, "nsm")
        with Path(f"/proc/{caller}/mem").open("r+b", buffering=0) as memory:
            memory.seek(request_at)
            request = memory.read(request_size)
            self.requests.append(request)
            answer = respond(self.module, request) if self.answer is None else self.answer(request)
            fitting = answer[: min(response_size, RESPONSE_MAX)]
            memory.seek(response_at)
            memory.write(fitting)
        return struct.pack("<QQQQ", request_at, request_size, response_at, len(fitting))


@dataclass(eq=False)
class _Root:
    device: NsmDevice

    def entries(self) -> dict[str, Node]:
        return {"nsm": self.device}

    def mkdir(self, name: str) -> None:
        raise OSError(errno.EPERM, name)

    rmdir = mkdir
