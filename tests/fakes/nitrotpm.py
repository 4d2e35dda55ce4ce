"""A working NitroTPM: a real swtpm with AWS's vendor command in front, which signs with the fake AWS's module.

    with NitroTpmProxy(software_tpm, module) as nitro:
        NitroTpm(nitro.tcti)

swtpm has no NV index as large as the command needs. Those of 8,192 bytes are therefore kept here, with their authorisation checked; every
other command goes through to swtpm untouched.
"""

from __future__ import annotations

import socket
import struct
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fakes import aws
from fakes.nsm import respond
from rlu_server.swtpm import SoftwareTpm

NV_UNDEFINE_SPACE, NV_DEFINE_SPACE, NV_WRITE, NV_READ, NSM_REQUEST = 0x122, 0x12A, 0x137, 0x14E, 0x20000001
AUTH_FAIL, HANDLE = 0x98E, 0x18B
SIZE = 8192


class _Refused(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


@dataclass
class _Index:
    auth: bytes
    data: bytes


class _Body:
    """Handles, authorisation and parameters of a command with one password session."""

    def __init__(self, command: bytes, handles: int) -> None:
        self.handles = struct.unpack_from(f">{handles}I", command, 10)
        self._data, self._at = command, 10 + 4 * handles
        end = self.number(4) + self._at
        assert self.number(4) == 0x40000009, "a password session"
        self.sized()
        self.number(1)
        self.auth = self.sized()
        assert self._at == end

    def number(self, size: int) -> int:
        self._at += size
        return int.from_bytes(self._data[self._at - size : self._at], "big")

    def sized(self) -> bytes:
        size = self.number(2)
        self._at += size
        return self._data[self._at - size : self._at]


def _answer(parameters: bytes = b"") -> bytes:
    body = struct.pack(">I", len(parameters)) + parameters + bytes(5)
    return struct.pack(">HII", 0x8002, 10 + len(body), 0) + body


class NitroTpmProxy:
    """The instance's TPM; `knows_command` False is a TPM of another cloud."""

    def __init__(self, tpm: SoftwareTpm, module: aws.Module, *, knows_command: bool = True) -> None:
        self._tpm, self._module, self._knows_command = tpm, module, knows_command
        self._directory = tempfile.TemporaryDirectory(prefix="rlu-nitrotpm-")
        self._path = Path(self._directory.name) / "tpm.sock"
        self._closing = False
        self.indices: dict[int, _Index] = {}
        self.defined: list[int] = []

    @property
    def tcti(self) -> str:
        return f"swtpm:path={self._path}"

    def __enter__(self) -> NitroTpmProxy:
        real = Path(self._tpm.tcti.partition("path=")[2])
        self._real = real
        Path(f"{self._path}.ctrl").symlink_to(f"{real}.ctrl")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with suppress(OSError), socket.socket(socket.AF_UNIX) as wake:
            wake.connect(str(self._path))
        self._thread.join(10)
        self._listener.close()
        self._directory.cleanup()

    def _serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with client:
                if self._closing:
                    return
                with socket.socket(socket.AF_UNIX) as real:
                    real.connect(str(self._real))
                    with suppress(EOFError, ConnectionError):
                        while True:
                            command = _message(client)
                            client.sendall(self._handle(command) or _forward(real, command))

    def _handle(self, command: bytes) -> bytes | None:
        code = int.from_bytes(command[6:10], "big")
        try:
            if code == NV_DEFINE_SPACE:
                return self._define(command)
            if (
                code in (NV_UNDEFINE_SPACE, NV_WRITE, NV_READ)
                and _Body(command, 2).handles[1] in self.indices
            ):
                return self._use(code, _Body(command, 2))
            if code == NSM_REQUEST and self._knows_command:
                return self._request(_Body(command, 2))
        except _Refused as refusal:
            return struct.pack(">HII", 0x8001, 10, refusal.code)
        return None

    def _define(self, command: bytes) -> bytes | None:
        body = _Body(command, 1)
        auth, public = body.sized(), body.sized()
        index, size = int.from_bytes(public[:4], "big"), int.from_bytes(public[-2:], "big")
        if size != SIZE:
            return None
        self.indices[index] = _Index(auth, b"\xff" * SIZE)
        self.defined.append(index)
        return _answer()

    def _use(self, code: int, body: _Body) -> bytes:
        index = self.indices[body.handles[1]]
        if code == NV_UNDEFINE_SPACE:
            del self.indices[body.handles[1]]
            return _answer()
        if body.auth != index.auth:
            raise _Refused(AUTH_FAIL)
        if code == NV_READ:
            size, offset = body.number(2), body.number(2)
            return _answer(struct.pack(">H", size) + index.data[offset : offset + size])
        written, offset = body.sized(), body.number(2)
        index.data = index.data[:offset] + written + index.data[offset + len(written) :]
        return _answer()

    def _request(self, body: _Body) -> bytes:
        if body.handles[0] != body.handles[1] or body.handles[1] not in self.indices:
            raise _Refused(HANDLE)
        index = self.indices[body.handles[1]]
        if body.auth != index.auth:
            raise _Refused(AUTH_FAIL)
        index.data = respond(self._module, index.data.rstrip(b"\xff")).ljust(SIZE, b"\xff")
        return _answer()


def _message(peer: socket.socket) -> bytes:
    head = _exactly(peer, 10)
    return head + _exactly(peer, int.from_bytes(head[2:6], "big") - 10)


def _exactly(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = peer.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _forward(real: socket.socket, command: bytes) -> bytes:
    real.sendall(command)
    return _message(real)
